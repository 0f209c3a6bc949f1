"""Mistakes of operators are refused in one sentence, with exit code 2, before anything runs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mmplane.commands import route
from mmplane.route.program import find

SECRET = "the-secret-of-alice"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it refuses these."""
    assert route.main([*arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mmplane: ")
    assert said.count("\n") == 1
    return said


def test_there_must_be_a_replica(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--replica http://HOST:PORT" in refused(capsys)
    assert "--replica" in refused(capsys, "run", "http://127.0.0.1:1")
    assert "is not http://" in refused(capsys, "--replica", "https://127.0.0.1:1")
    assert "mmplane route add" in refused(capsys, "add")


def test_a_router_must_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for action in (["list"], ["add", "http://127.0.0.1:1"], ["remove", "http://127.0.0.1:1"]):
        assert "no router answers" in refused(capsys, *action, "--folder", str(tmp_path))


def test_the_port_must_be_free(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--replica", "http://127.0.0.1:1", "--port", port, "--folder", str(tmp_path))
        assert "choose another --port or --host" in refused(capsys, *flags)


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (f"{SECRET}\n", 0o644, "chmod 600"),
        ("# nothing\n\n", 0o600, "must begin with a key"),
        (f"two {SECRET}\n", 0o600, "must begin with a key"),
        ("alice:\n", 0o600, "must begin with a key"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, mode: int, why: str
) -> None:
    (tmp_path / "keys").write_text(content)
    (tmp_path / "keys").chmod(mode)
    flags = ("--replica", "http://127.0.0.1:1", "--port", "0", "--api-key-file", str(tmp_path / "keys"))
    said = refused(capsys, *flags, "--folder", str(tmp_path / "files"))
    assert why in said
    assert SECRET not in said


def test_the_first_key_of_a_servers_file_is_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys").write_text(f"# tenants\n\nalice:{SECRET}\nthe-operators-own\n")
    (tmp_path / "keys").chmod(0o640)
    flags = ("--replica", "http://127.0.0.1:1", "--port", "0", "--api-key-file", str(tmp_path / "keys"))
    assert route.main(["check", *flags, "--folder", str(tmp_path / "files")]) == 0
    text = (tmp_path / "files" / "haproxy.cfg").read_text()
    assert f"'Bearer {SECRET}'" in text
    assert "the-operators-own" not in text
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ("HAProxy version 2.4.1 +LUA +OPENSSL", "2.6 or newer"),
        ("HAProxy version 2.8.1 -LUA +OPENSSL", "Lua"),
        ("something else", "2.6 or newer"),
    ],
)
def test_another_haproxy_is_refused(tmp_path: Path, printed: str, why: str) -> None:
    program = tmp_path / "haproxy"
    program.write_text(f"#!/bin/sh\necho '{printed}'\n")
    program.chmod(0o755)
    with pytest.raises(ValueError, match=why):
        find(str(program))
    with pytest.raises(ValueError, match="does not run"):
        find(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("version", "keeps"), [("2.6.12-1", False), ("2.8.9", False), ("2.8.10", True), ("3.0.1", True)]
)
def test_an_old_haproxy_does_not_keep_clients(tmp_path: Path, version: str, keeps: bool) -> None:
    program = tmp_path / "haproxy"
    program.write_text(f"#!/bin/sh\necho 'HAProxy version {version} +LUA +OPENSSL'\n")
    program.chmod(0o755)
    assert find(str(program)).keeps_clients is keeps
