"""What is read of a machine: sockets that listen everywhere, Ray's processes, and never the token."""

from __future__ import annotations

import os
import socket

import msgspec
import pytest

from mmplane.ray import facts
from mmplane.ray.facts import Facts, chosen, is_rays, listening, read

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0
   1: 0100007F:2349 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0
   2: 00000000:18EB 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0
"""


def test_sockets_that_listen_on_all_interfaces() -> None:
    assert list(listening(TABLE)) == [("111", 6379)]


def test_the_token_is_not_read() -> None:
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret", "RAY_AUTH_TOKEN_PATH": "/x", "HOME": "/"}
    assert chosen(environment) == {"RAY_AUTH_MODE": "token"}
    assert not any("TOKEN" in name for name in facts.SETTINGS)


@pytest.mark.parametrize(
    ("words", "rays"),
    [
        (["/x/site-packages/ray/core/src/ray/raylet/raylet", "--a"], True),
        (["ray::Host"], True),
        (["/usr/bin/python3", "-u", "/x/site-packages/ray/dashboard/agent.py"], True),
        (["/usr/bin/python3", "-m", "mmplane", "--model", "/models/ray/x"], False),
    ],
)
def test_rays_processes_by_their_command_lines(words: list[str], rays: bool) -> None:
    assert is_rays(words) is rays


def test_this_machine_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(facts, "is_rays", lambda words: "pytest" in " ".join(words))
    with socket.create_server(("0.0.0.0", 0)) as everywhere, socket.create_server(("127.0.0.1", 0)) as inside:
        monkeypatch.setattr(facts, "_running", lambda: iter([(os.getpid(), ["pytest"])]))
        found = msgspec.msgpack.decode(read(), type=Facts)
        assert everywhere.getsockname()[1] in found.open_ports
        assert inside.getsockname()[1] not in found.open_ports
    assert found.settings["RAY_AUTH_MODE"] == "token"
    assert (found.gcs, found.redis, found.client) == (None, False, False)
