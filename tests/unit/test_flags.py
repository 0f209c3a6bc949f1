"""What operators type: sizes with units, names that other servers have, help, completion, files to copy."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mmplane.commands import completion, deploy, example, serve
from mmplane.commands.main import COMMANDS, main
from mmplane.commands.options import RANGES
from mmplane.commands.settings import declared, settle
from mmplane.config import GIB, MIB
from mmplane.parser import Parser
from mmplane.ranges import parsed_size, size

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "length_bytes"),
    [
        ("512MiB", 512 * MIB),
        ("1GB", 10**9),
        ("1.5 GiB", 3 * GIB // 2),
        ("2kb", 2000),
        ("7B", 7),
        ("268435456", 256 * MIB),
    ],
)
def test_sizes_have_units(text: str, length_bytes: int) -> None:
    assert parsed_size(text) == length_bytes


@pytest.mark.parametrize("text", ["", "MiB", "-1GB", "1.0001B", "1e9", "1 G", "512MB/s", "½GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match=r"is not a size from 4MiB to 8192TiB, in bytes or as in 512MiB"
    ):
        RANGES["arena_bytes"](text)


@pytest.mark.parametrize("length_bytes", [1, 1000, MIB, 3 * GIB // 2, 256 * MIB, 2**53])
def test_a_size_is_written_as_it_is_read(length_bytes: int) -> None:
    assert parsed_size(size(length_bytes)) == length_bytes


def test_sizes_hold_for_flags_variables_and_files_and_counts_have_none(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    table = declared(serve.add_flags(parser))
    (tmp_path / "mmplane.toml").write_text("arena-bytes = '2GiB'\nkv-bytes = 1048576")
    flags = vars(parser.parse_args(["--cache-bytes", "64MiB"]))
    settings = settle(table, flags, {"MMPLANE_BUDGET_BYTES": "1GB"}, str(tmp_path / "mmplane.toml"))
    values = {name: settings[name].value for name in ("arena_bytes", "kv_bytes", "cache_bytes", "budget_bytes")}
    assert values == {"arena_bytes": 2 * GIB, "kv_bytes": MIB, "cache_bytes": 64 * MIB, "budget_bytes": 10**9}
    with pytest.raises(ValueError, match="whole number"):
        settle(table, {}, {"MMPLANE_TP": "2GB"}, None)


@pytest.mark.parametrize(
    ("theirs", "ours", "value"),
    [
        ("-tp", "--tp", "4"),
        ("--tensor-parallel-size", "--tp", "4"),
        ("--max-model-len", "--context-tokens-max", "4096"),
        ("--max-num-seqs", "--running-max", "4"),
        ("--kv-cache-memory-bytes", "--kv-bytes", "1GiB"),
        ("--allowed-local-media-path", "--media-root", "/media"),
    ],
)
def test_a_name_of_vllms_means_the_same(theirs: str, ours: str, value: str) -> None:
    parser = argparse.ArgumentParser()
    serve.add_flags(parser)
    assert vars(parser.parse_args([theirs, value])) == vars(parser.parse_args([ours, value]))


@pytest.mark.parametrize("words", [["--api-key", "sk-secret"], ["--api-key=sk-secret"], ["--api-key"]])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        serve.main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "--api-key-file" in said
    assert "MMPLANE_API_KEY" in said
    assert "secret" not in said


def test_help_has_groups_defaults_and_an_example_that_parses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        serve.main(["--help"])
    said = capsys.readouterr().out
    assert len(re.findall(r"^\w[\w ]+:$", said, re.MULTILINE)) >= 6
    assert re.search(r"--arena-bytes SIZE .*\[1GiB\]$", said, re.MULTILINE)
    # Until Python 3.12 each name is followed by the value's.
    assert re.search(r"--tp(?: N)?, -tp(?: N)?, --tensor-parallel-size N\s.*\[2\]$", said, re.MULTILINE)
    (line,) = re.findall(r"^example: mmplane serve (.*)$", said, re.MULTILINE)
    parser = argparse.ArgumentParser(exit_on_error=False)
    serve.add_flags(parser)
    assert parser.parse_args(line.split()).arena_bytes == 2 * GIB


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_its_flags_do_and_has_an_example_that_parses(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    (example,) = re.findall(r"^example: (?:MMPLANE_\S+ )?mmplane (.*?)(?: > .*)?$", said, re.MULTILINE)
    words = shlex.split(example)
    assert words[0] == name
    if name != "completion":
        completion.whole().parse_args(words)
    for indent in re.findall(r"^  (-.*)\n(?!  {6})", said, re.MULTILINE):
        assert re.search(r"\S {2,}\S", indent), f"a flag without a text: {indent}"


def test_help_shows_defaults_and_wraps_only_what_is_no_command_line() -> None:
    parser = Parser(
        prog="x", description=f"{'word ' * 60}\n\n    mmplane x {'y' * 200}", example=f"mmplane {'z' * 200}"
    )
    parser.add_argument("--seconds", default=1.5, help="time")
    parser.add_argument("--count", default=2, help="number (default: by cores)")
    parser.add_argument("--flag", action="store_true", help="on")
    lines = parser.format_help().splitlines()
    assert any(line.endswith("time [1.5]") for line in lines)
    assert any(line.endswith("number (default: by cores)") for line in lines)
    assert any(line.endswith("on") for line in lines)
    assert all(len(line) < 100 for line in lines if "word" in line)
    assert f"    mmplane x {'y' * 200}" in lines
    assert f"example: mmplane {'z' * 200}" in lines


def test_completion_knows_every_command_and_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bash itself completes with the script that is printed."""
    assert completion.main(["bash"]) == 0
    script = tmp_path / "mmplane"
    script.write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        ask = (
            f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_mmplane; echo ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, timeout=100)
        return set(done.stdout.split())

    assert completed("mmplane", "") >= set(COMMANDS) - {"completion"}
    assert completed("mmplane", "serve", "--arena") == {"--arena-bytes"}
    assert completed("mmplane", "serve", "--delivery", "eager") == {"eager", "eager-compact"}
    assert completed("mmplane", "route", "re") == {"remove"}
    assert completed("mmplane", "doctor", "--sg") == {"--sglang"}
    assert completed("mmplane", "plan", "--requests") == {"--requests-per-s"}
    assert completed("mmplane", "demo", "--t") == {"--tp"}
    assert completed("mmplane", "bench", "--repe") == {"--repetitions"}
    kubernetes = {"kubernetes", "kubernetes-machines", "kubernetes-route", "kubernetes-sidecar"}
    assert completed("mmplane", "deploy", "kub") == kubernetes


def test_every_example_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert example.main([]) == 0
    names = capsys.readouterr().out.split()
    assert {"client", "two_ranks", "dataloader"} <= set(names)
    for name in names:
        assert example.main([name]) == 0
        text = capsys.readouterr().out
        assert text == example.examples()[name].read_text() or name == "client"
        assert '#include "' not in text, "one file is all that there is"


def test_what_deploy_prints_for_kubernetes_can_be_applied(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main(["kubernetes"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert {one["kind"] for one in printed} == {"Deployment", "Service", "PodMonitor", "PrometheusRule"}


def test_keys_beside_the_files_are_never_printed_or_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for name in ("keys", "operator"):
        (tmp_path / "deploy" / "compose" / name).write_text("a-secret\n")
    monkeypatch.setattr(deploy, "folder", lambda name: tmp_path / name)
    for way in deploy.WAYS:
        assert deploy.main([way]) == 0
        assert deploy.main([way, "--out", str(tmp_path / "out")]) == 0
    assert "a-secret" not in capsys.readouterr().out
    assert (tmp_path / "out" / "compose" / "compose.yaml").is_file()
    assert not {"keys", "operator"} & {path.name for path in (tmp_path / "out").rglob("*")}


def test_deploy_writes_files_whose_paths_fit_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for way in deploy.WAYS:
        assert deploy.main([way, "--out", str(tmp_path / way)]) == 0
    assert (tmp_path / "kubernetes" / "kubernetes" / "kustomization.yaml").is_file()
    for line in re.findall(r"- (\.\S*?):/", (tmp_path / "compose" / "compose" / "compose.yaml").read_text()):
        assert (tmp_path / "compose" / "compose" / line).exists(), line
    assert len(capsys.readouterr().out.split()) == sum(len(deploy.files(way)) for way in deploy.WAYS)
    assert {name for ways in deploy.WAYS.values() for name in ways} == {
        path.name for path in (ROOT / "deploy").iterdir()
    }
