"""The configuration is what `haproxy.cfg` here says, to the byte; HAProxy takes it, and errors are our objects."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from certificates import write_certificate
from mmplane.route.configuration import CERTIFICATE, Route, configuration, error_pages, quoted
from mmplane.route.program import find
from mmplane.route.replica import Replica
from mmplane.route.router import Router

GOLDEN = Path(__file__).with_name("haproxy.cfg")
KEY = 'it\'s-"a"-%key%-$HOME-\\-#1'
PROGRAM = find(os.environ.get("MMPLANE_HAPROXY", ""))
ROUTE = Route(
    (
        Replica("10.0.0.1", 8000),
        Replica("replica-2.pool", 8000),
        Replica("fd00::3", 8000),
        Replica("replica-4.pool", 8443, tls="replica-4.pool"),
    ),
    Path("/run/user/1000/mmplane-route-8080"),
    "fd@3",
    api_key="the-key-of-a-tenant",
    certificate=b"PEM",
    authorities=b"PEM",
    metrics_port=9090,
)


def test_the_text_is_the_golden_one() -> None:
    assert configuration(ROUTE) == GOLDEN.read_text()


@pytest.mark.parametrize("tls", [False, True])
def test_haproxy_takes_it_and_nobody_else_can_read_it(tmp_path: Path, tls: bool) -> None:
    folder = tmp_path / "route"
    pem = write_certificate(tmp_path / "pem").read_bytes() if tls else b""
    replicas = (Replica("127.0.0.1", 1), *([Replica("localhost", 2, tls="localhost")] if tls else []))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bind = f"fd@{listener.fileno()}"
        route = Route(replicas, folder, bind, api_key=KEY, certificate=pem, authorities=pem, drain_s=0)
        Router(PROGRAM, route, listener).write()
        checked = subprocess.run(
            [PROGRAM.path, "-c", "-f", folder / "haproxy.cfg"],
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (checked.returncode, checked.stderr) == (0, ""), "and it warns of nothing"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_private_key_of_an_earlier_start_does_not_stay(tmp_path: Path) -> None:
    pem = write_certificate(tmp_path / "pem").read_bytes()
    names = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for certificate in (pem, b""):
            route = Route((), tmp_path / "route", f"fd@{listener.fileno()}", certificate=certificate)
            Router(PROGRAM, route, listener).write()
            names.append({path.name for path in (tmp_path / "route").iterdir()})
    assert names[0] - names[1] == {CERTIFICATE}


def test_what_haproxy_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        route = Route((Replica("127.0.0.1", 1),), tmp_path / "route", "nonsense@")
        with pytest.raises(ValueError, match="refuses the configuration"):
            Router(PROGRAM, route, listener).write()


def test_a_folder_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(ValueError, match="chmod 700"):
        Router(PROGRAM, Route((), tmp_path / "open", "fd@3"), listener).write()


def test_a_word_is_quoted_whatever_is_in_it() -> None:
    assert quoted("it's") == r"'it'\''s'"
    assert quoted('"a" $HOME \\ #1') == "'\"a\" $HOME \\ #1'"


@pytest.mark.parametrize("name", sorted(error_pages()))
def test_an_error_page_is_a_whole_response(name: str) -> None:
    head, _, content = error_pages()[name].partition(b"\r\n\r\n")
    assert f"content-length: {len(content)}" in head.decode().split("\r\n")
    assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}


def test_a_lost_replica_is_a_request_to_come_back() -> None:
    for name in ("502.http", "503.http"):
        assert re.match(rb"HTTP/1.1 503 .*\r\nretry-after: 1\r\n\r\n", error_pages()[name], re.DOTALL)
