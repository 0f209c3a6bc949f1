"""A sidecar without a model: what producers bring reaches the ranks, and nothing is made."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from attaching import picture
from mmplane import BadMedia, Inbox, Lost, Sidecar, connect
from mmplane.embed.sidecar import STOP_SECONDS

FEATURES = np.arange(2**16, dtype=np.float32).reshape(64, 1024)


def test_a_sidecar_that_cannot_make_is_replaced_by_one_that_carries(tmp_path: Path) -> None:
    with Sidecar.begin(model=tmp_path) as sidecar:  # no checkpoint is there
        sidecar.otherwise(model=None, producers_bytes=2**20)
        with connect(sidecar.socket, arena_bytes=2**20, wait_s=60) as client:
            with client.put(b"key", {"pixel_values": FEATURES}) as hold:
                assert np.array_equal(hold.arrays(np)["pixel_values"], FEATURES)
            assert "encoding" not in client.statistics()


def test_features_travel_and_nothing_is_made() -> None:
    with Sidecar.begin(model=None, producers_bytes=2**20) as sidecar:
        with connect(sidecar.socket, arena_bytes=2**20, wait_s=60) as client:
            rank = Inbox(sidecar.socket, rank=0, ranks=1)
            client.wait_ranks()
            with client.put(b"key", {"pixel_values": FEATURES}) as hold:
                view = rank.open(hold.lease(0))
            assert np.array_equal(view.arrays(np)["pixel_values"], FEATURES)
            for ask in (client.layout, client.materialise):
                with pytest.raises(BadMedia, match="only carries"):
                    ask(picture("a"))
            assert client.statistics()["materialisations"] == 0
            del view
            rank.close()
        libraries = {Path(mapped.path).name for each in family(sidecar) for mapped in each.memory_maps()}
    assert not [name for name in libraries if "numpy" in name or "numba" in name or "torch" in name]


@pytest.mark.parametrize("how", ["stop", "the launcher's death"])
def test_it_ends_where_signals_of_the_terminal_are_ignored(how: str) -> None:
    """As under a launcher that a script has started in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sidecar = Sidecar.start(model=None)
    finally:
        signal.signal(signal.SIGINT, before)
    processes = family(sidecar)
    if how == "stop":
        sidecar.stop()
    else:
        assert sidecar._process.stdin is not None
        sidecar._process.stdin.close()
        sidecar._process.wait(STOP_SECONDS)
    assert sidecar._process.returncode == 0
    assert psutil.wait_procs(processes[1:], STOP_SECONDS)[1] == []
    sidecar.stop()


def test_it_says_so_when_there_is_no_sidecar_in_time(tmp_path: Path) -> None:
    with pytest.raises(Lost, match="there is no sidecar"):
        connect(tmp_path / "socket", wait_s=0.2)


def test_nothing_but_the_base_is_imported_for_it() -> None:
    """What an engine's environment may lack: everything but blake3 and msgspec."""
    hidden = ("av", "ml_dtypes", "numba", "numpy", "PIL", "setproctitle", "tokenizers", "torch", "transformers")
    script = f"""
import sys
sys.modules.update(dict.fromkeys({hidden!r}))
import mmplane.commands.sidecar, mmplane.process.nursery
for module in mmplane.process.nursery.PRELOADED["carrying"]:
    __import__(module)
mmplane.process.title.entitle("as it is")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def family(sidecar: Sidecar) -> list[psutil.Process]:
    first = psutil.Process(sidecar._process.pid)
    return [first, *first.children(recursive=True)]
