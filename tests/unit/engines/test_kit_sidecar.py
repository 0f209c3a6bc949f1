"""A sidecar of an engine: found by children, ended with its launcher."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmplane.embed.client import Client
from mmplane.engines.kit.sidecar import Place, begin, end, forget

VARIABLE = "MMPLANE_KIT_PLACE"


def test_children_find_it_until_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "another server's")
    assert Place.inherited(VARIABLE) is None
    sidecar, place = begin(VARIABLE, groups=(2, 2), region_bytes=2**20 + 1, model=None, producers_bytes=2**20 + 1)
    try:
        assert Place.inherited(VARIABLE) == place == Place(sidecar.socket, (2, 2), 2**20)
        sidecar.wait()
        with Client(place.socket, arena_bytes=place.region_bytes) as client:
            assert client.statistics()["leases"] == 0
    finally:
        end(sidecar)
    end(sidecar)
    assert not Path(place.socket).parent.exists()
    forget(VARIABLE)
    assert VARIABLE not in os.environ
    assert Place.inherited(VARIABLE) is None


LAUNCHER = """
import os, signal
from mmplane.embed.sidecar import Sidecar
sidecar = Sidecar.start(model=None)
child = os.fork()
if child == 0:
    signal.pause()
print(sidecar._process.pid, child, flush=True)
signal.pause()
"""
LIMIT_S = 60.0


def test_it_ends_with_its_launcher_whose_forked_children_live_on() -> None:
    """A forked engine has copies of all that its launcher had open."""
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    sidecar, child = map(int, launcher.stdout.readline().split())
    watched = os.pidfd_open(sidecar)
    try:
        launcher.kill()
        assert select.select([watched], [], [], LIMIT_S)[0], "the sidecar lives on"
    finally:
        os.close(watched)
        os.kill(child, signal.SIGKILL)
        launcher.wait()
        launcher.stdout.close()
