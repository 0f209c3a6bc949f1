"""Mistakes of operators are refused in one sentence, with exit code 2, before anything runs."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import write_certificate
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
    assert "is not http://" in refused(capsys, "--replica", "127.0.0.1:1")
    assert "--replica-dns: 'nothing'" in refused(capsys, "--replica-dns", "nothing")
    assert "--replica-ca" in refused(capsys, "--replica-dns", "https://localhost:1")
    assert "needs a name" in refused(capsys, "--replica", "https://127.0.0.1:1")
    assert "--replica-ca" in refused(capsys, "--replica", "https://localhost:1")
    assert "mmplane route add" in refused(capsys, "add")
    assert "--ray: 'here' is not HOST:PORT" in refused(capsys, "--ray", "here")


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


def changed(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no certificate": (lambda folder: (folder / "cert").unlink(), "cert cannot be read (No such file or directory)"),
    "no key": (lambda folder: (folder / "key").unlink(), "key cannot be read"),
    "no authorities": (lambda folder: (folder / "ca").unlink(), "--replica-ca: "),
    "a folder": (lambda folder: ((folder / "ca").unlink(), (folder / "ca").mkdir()), "ca cannot be read (Is a"),
    "open to others": (lambda folder: (folder / "key").chmod(0o644), "chmod 600"),
    "not PEM": (lambda folder: (folder / "cert").write_text(SECRET), "--tls-cert: "),
    "empty": (lambda folder: (folder / "cert").write_text(""), "not PEM with a certificate"),
    "a broken certificate": (lambda folder: changed(folder / "cert", "\nMII", "\n!!!"), "not PEM with a certificate"),
    "another key": (lambda folder: write_certificate(folder / "key"), "(key values mismatch)"),
    "a key with a password": (lambda folder: encrypt(folder / "key"), "without a password"),
    "authorities that are none": (lambda folder: (folder / "ca").write_text(SECRET), "ca is not PEM with certificates"),
    "authorities that are a key": (lambda folder: keep_key(folder / "ca"), "ca is not PEM with certificates"),
}


def keep_key(path: Path) -> None:
    """Of a certificate and its key."""
    pem = path.read_text()
    path.write_text(pem[: pem.index("-----BEGIN CERTIFICATE")])


def encrypt(path: Path) -> None:
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-out", path]
    subprocess.run(command, input=path.read_bytes(), check=True, capture_output=True)


@pytest.fixture
def pem(tmp_path: Path) -> list[str]:
    """Flags with good files: `cert`, `key` and `ca`."""
    for name in ("key", "ca"):
        write_certificate(tmp_path / name)
    (tmp_path / "cert").write_text((tmp_path / "key").read_text())
    keep_key(tmp_path / "key")
    certificate = (tmp_path / "cert").read_text()
    (tmp_path / "cert").write_text(certificate[certificate.index("-----BEGIN CERTIFICATE") :])
    flags = {"--tls-cert": "cert", "--tls-key": "key", "--replica-ca": "ca"}
    return [word for flag, name in flags.items() for word in (flag, str(tmp_path / name))]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_files_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pem: list[str], mistake: str
) -> None:
    spoil, why = MISTAKES[mistake]
    spoil(tmp_path)
    flags = ("--replica", "https://localhost:1", "--port", "0", "--folder", str(tmp_path / "files"))
    said = refused(capsys, *flags, *pem)
    assert why in said
    assert SECRET not in said


def test_a_key_alone_has_no_effect(capsys: pytest.CaptureFixture[str], pem: list[str]) -> None:
    assert "--tls-key needs --tls-cert" in refused(capsys, "--replica", "http://localhost:1", *pem[2:])


def test_a_certificate_and_its_key_may_be_one_file(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pem = write_certificate(tmp_path / "pem")
    flags = ("--replica", "http://127.0.0.1:1", "--port", "0", "--tls-cert", str(pem))
    assert route.main(["check", *flags, "--folder", str(tmp_path / "files")]) == 0
    capfd.readouterr()
    pem.chmod(0o644)
    assert "chmod 600" in refused(capfd, *flags, "--folder", str(tmp_path / "files"))


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
