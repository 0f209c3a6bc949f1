"""The built wheel in environments that hold what one extra declares and nothing else: each does what it is for."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import installed_plugins
import pytest
import soundfile
from features.checkpoints import FAMILIES
from features.families.test_log_mel import RATE, folder_of, speech_like
from features.families.test_qwen_video import write
from hatch_build import described
from markdown_it import MarkdownIt
from PIL import Image

import client_c
import clips
import features_made
from environments import ROOT, build_wheel, closure, environment
from mmplane.commands import deploy, example
from mmplane.commands.main import COMMANDS

TRAFFIC = ["--requests-per-s", "5", "--body-bytes", "300000", "--item-bytes", "7400000"]
TRAFFIC += ["--decoded-bytes", "4000000", "--item-s", "0.02"]
HEAVY = {"torch", "transformers", "starlette", "uvicorn"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("base"), wheel, "")


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *arguments], capture_output=True, text=True, env=given, cwd=cwd)


def test_what_each_extra_brings(base: Path) -> None:
    (metadata,) = base.parents[1].glob("lib/*/site-packages/mmplane-*.dist-info")

    def brought(extra: str) -> set[str]:
        return {found.name.lower() for found in closure(Distribution.at(metadata), extra)}

    assert brought("") - {"typing_extensions"} == {"blake3", "msgspec"}  # blake3 needs it under Python 3.11
    assert not HEAVY & brought("media")
    assert brought("serve") > HEAVY
    assert brought("media") < brought("serve") < brought("bench")
    assert brought("serve") < brought("trace")


def test_a_wheel_alone_prints_examples_and_what_to_deploy(base: Path, tmp_path: Path) -> None:
    """Each is complete: the client in C compiles without the headers beside it."""

    def printed(*words: str) -> str:
        done = run(base, "-m", "mmplane", *words, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert printed("example").split() == list(example.examples())
    (tmp_path / "client.c").write_text(printed("example", "client"))
    assert run(client_c.compiled(tmp_path, source=tmp_path / "client.c"), cwd=tmp_path).stderr.startswith("client: ")
    assert "Type=notify" in printed("deploy", "systemd")


def test_a_wheel_has_all_files_that_those_print(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist() if "/_files/" in name}
    paths = [*example.examples().values(), *(path for way in deploy.WAYS for path in deploy.files(way))]
    for path in paths:
        assert shipped[f"mmplane/_files/{path.relative_to(ROOT)}"] == path.read_bytes()


def test_a_wheel_holds_no_key_of_an_operator(wheel: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    for name in ("deploy", "examples", "src/mmplane/commands"):
        shutil.copytree(ROOT / name, source / name)
    for name in (ROOT / "deploy" / "compose" / ".gitignore").read_text().split():
        (source / "deploy" / "compose" / name).write_text("a-secret")

    def files(built: Path) -> set[str]:
        with zipfile.ZipFile(built) as archive:
            return {name for name in archive.namelist() if "/_files/" in name}

    assert files(build_wheel(tmp_path, source)) == files(wheel)


@pytest.mark.parametrize("home", [None, "https://a.host/owner/mmplane"])
def test_the_readme_has_no_link_that_leads_nowhere_on_pypi(home: str | None, wheel: Path) -> None:
    """Of the wheel, and as it will be once `[project.urls]` names a home."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    readme = (ROOT / "README.md").read_text()
    text = str(metadata.get_payload()) if home is None else described(readme, home)
    assert text.startswith("# mmplane\n")
    tokens = [token for block in MarkdownIt("commonmark").enable("table").parse(text) for token in block.children or ()]
    targets = [str(token.attrs.get("href") or token.attrs.get("src")) for token in tokens if token.attrs]
    assert [target for target in targets if not target.startswith(("http://", "https://", "#"))] == []
    assert not [token for token in tokens if token.type == "html_inline"]
    of_files = [target for target in targets if home and target.startswith(home)]
    assert len(of_files) == (len(re.findall(r"\]\((?!https?:)", readme)) if home else 0)
    for target in of_files:
        kind, head, path = target.removeprefix(f"{home}/").split("/", 2)
        assert (kind in ("blob", "raw"), head) == (True, "HEAD")
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_base_has_every_help(command: str, base: Path, tmp_path: Path) -> None:
    done = run(base, "-m", "mmplane", *command.split(), "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 100


def test_the_base_has_its_version_and_plans(base: Path, tmp_path: Path) -> None:
    assert run(base, "-m", "mmplane", "--version", cwd=tmp_path).stdout.startswith("mmplane ")
    here = subprocess.run([sys.executable, "-m", "mmplane", "plan", *TRAFFIC], capture_output=True, text=True)
    done = run(base, "-m", "mmplane", "plan", *TRAFFIC, cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (here.returncode, "", here.stdout)


@pytest.mark.parametrize("command", ["serve", "sidecar", "features", "bench", "doctor", "top", "demo"])
def test_a_command_says_which_extra_it_needs(command: str, base: Path, tmp_path: Path) -> None:
    done = run(base, "-m", "mmplane", command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    extra = {"sidecar": "media", "features": "media", "bench": "bench"}.get(command, "serve")
    assert f"pip install 'mmplane[{extra}]'" in done.stderr


def test_media_makes_features(wheel: Path, tmp_path: Path) -> None:
    """Of an image, a clip and a sound: the same as here, but under keys that say that nothing was compared."""
    picture, clip, sound = (str(tmp_path / name) for name in ("picture.jpg", "clip.mp4", "sound.wav"))
    Image.linear_gradient("L").convert("RGB").resize((230, 170)).save(picture)
    Path(clip).write_bytes(clips.encode(clips.moving()))
    soundfile.write(sound, speech_like(1.0), RATE)
    qwen = write("qwen2.5, sampled", tmp_path / "qwen")
    cases = [
        (qwen, "image", picture, "pil"),
        (qwen, "video", clip, "pil"),
        (FAMILIES["gemma3"].write(tmp_path / "gemma"), "image", picture, "pil"),
        (folder_of(tmp_path / "audio"), "audio", sound, "pil"),
    ]
    python = environment(tmp_path / "media", wheel, "media")
    done = run(python, features_made.__file__, json.dumps(cases), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    apart = json.loads(done.stdout)
    assert not HEAVY & set(apart["loaded"])
    here = features_made.features_made(cases)
    assert [digest for digest, _ in apart["made"]] == [digest for digest, _ in here]
    assert not {fingerprint for _, fingerprint in apart["made"]} & {fingerprint for _, fingerprint in here}
    assert done.stderr.count("were not compared with transformers") == 2 * 2 + 1 + 1  # of qwen, images and clips
    renders = run(python, "-m", "mmplane", "sidecar", "--model", str(qwen), "--http-port", "0", cwd=tmp_path)
    assert renders.returncode == 2
    assert "`mmplane sidecar --http-port` needs" in renders.stderr
    assert "pip install 'mmplane[serve]'" in renders.stderr


def test_the_base_is_enough_for_plugins_and_for_what_carries_their_features(base: Path, tmp_path: Path) -> None:
    """Without an engine they say so, and raise nothing. A sidecar that carries needs no extra either."""
    done = run(base, installed_plugins.__file__, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["loaded"] == ["sglang.srt.plugins", "vllm.general_plugins"]
    for engine in ("SGLang", "vLLM"):
        assert done.stderr.count(f"mmplane: off: {engine} cannot be imported") == 1
    assert said["carried"] == [1, installed_plugins.LENGTH_BYTES]
    assert not (HEAVY | {"numpy"}) & set(said["modules"])


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_an_engines_doctor_runs_where_the_engine_is_missing(engine: str, base: Path, tmp_path: Path) -> None:
    done = run(base, "-m", "mmplane", "doctor", f"--{engine}", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (1, 4), done.stderr
    assert "cannot be imported" in lines[0]
    assert lines[1].endswith(" ok"), "the entry point is found"
    assert lines[2].endswith(" ok"), "memory"
