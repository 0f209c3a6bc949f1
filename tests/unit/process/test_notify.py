"""sd_notify, with a socket in systemd's place."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmplane.process.notify import READY, STOPPING, VARIABLE, notify

ABSTRACT = "@mmplane-test-notify"


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"{ABSTRACT}-{tmp_path.name}"
    monkeypatch.setenv(VARIABLE, name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(name.replace("@", "\0"))
        bound.setblocking(False)
        yield bound


def test_the_manager_hears_each_state_as_a_message_of_its_own(manager: socket.socket) -> None:
    notify(READY)
    notify(STOPPING)
    assert [manager.recv(64), manager.recv(64)] == [b"READY=1", b"STOPPING=1"]


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    for _ in range(10_000):
        notify(READY)
    assert manager.recv(64) == b"READY=1"


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    notify(READY)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    notify(READY)
