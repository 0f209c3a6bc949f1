"""What `deploy/` starts exists: its flags are the server's, its folders and times fit together."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

from mmplane.commands import serve

DEPLOY = Path(__file__).parents[3] / "deploy"
STOP_SECONDS = 6.0
"""What a server takes beyond `--drain-seconds`, at most: refusing what is left, and ending."""


def flags(words: list[str]) -> argparse.Namespace:
    """What the command line makes of them; it exits at a flag that it does not know."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    serve.add_flags(parser)
    return parser.parse_args(words)


def unit() -> dict[str, list[str]]:
    """The unit's settings by name; a name may come several times."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "mmplane.service").read_text().splitlines():
        if found_line := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(found_line[1], []).append(found_line[2])
    return found


def test_the_unit_starts_what_there_is_and_waits_for_its_draining() -> None:
    (command,) = unit()["ExecStart"]
    words = shlex.split(command)
    assert words[0].endswith("/bin/mmplane")
    assert words[1] == "serve"
    options = flags(words[2:])
    assert options.api_key_file == "%d/api-keys"
    assert unit()["LoadCredential"][0].startswith("api-keys:")
    assert float(unit()["TimeoutStopSec"][0]) > options.drain_seconds + STOP_SECONDS
    assert unit()["Type"] == ["notify"]
    assert unit()["OOMPolicy"] == ["continue"], "a worker that the kernel killed is replaced"
    assert unit()["KillMode"] == ["mixed"], "SIGTERM is for the supervisor alone"


def test_the_unit_allows_what_the_server_needs() -> None:
    settings = unit()
    assert set(settings["RestrictNamespaces"][0].split()) == {"user", "net"}, "a worker's sandbox"
    assert "AF_UNIX" in settings["RestrictAddressFamilies"][0]
    assert "MemoryDenyWriteExecute" not in settings, "numba compiles"
    assert "ProcSubset" not in settings, "/proc/meminfo is read"
    for name in ("NoNewPrivileges", "DynamicUser", "PrivateTmp", "ProtectHome"):
        assert settings[name] == ["yes"]


def test_the_image_starts_what_there_is() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    lists = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE))
    entry = json.loads(lists["ENTRYPOINT"])
    assert entry[1:] == ["serve"]
    options = flags(json.loads(lists["CMD"]))
    assert options.api_key_file, "it listens on all addresses"
    assert f"EXPOSE {options.port}" in text
    assert f":{options.port}/health" in text
    assert re.search(r"^USER [1-9]\d*$", text, re.MULTILINE)
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (DEPLOY.parent / name).exists(), name


def test_the_image_has_what_every_start_would_make() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for module in re.findall(r"(?:-m|import) (mmplane[\w.]+)", text):
        assert find_spec(module) is not None, module
    (extras,) = re.findall(r"/source\[([\w,]+)\]", text)
    assert set(extras.split(",")) == {"serve", "trace", "route"}


def test_a_build_sends_what_it_copies_and_nothing_else() -> None:
    kept = {line[1:] for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in ("Dockerfile", "sidecar.Dockerfile"):
        sources = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / name).read_text(), re.MULTILINE)
        assert {word for words in sources for word in words.split()} == kept


def test_versions_of_torch_agree() -> None:
    pinned = re.search(r"^TORCH := (\S+)$", (DEPLOY.parent / "Makefile").read_text(), re.MULTILINE)
    assert pinned is not None
    assert set(re.findall(r"torch==\S+", (DEPLOY / "Dockerfile").read_text())) == {pinned[1]}
