"""A burst of pictures during which a rank is killed: how many named segments SGLang leaves.

    PYTHONPATH=src .venv/bin/python tests/engines/sglang/sglang_burst.py

counts them with two ranks, without the plugin and with it.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
from PIL import Image
from sglang_live import ARENA_BYTES, SGLang, is_alive, part, serving, text

from mmplane.models.tiny import build_tiny
from polling import until

PICTURES, EACH = 200, 10
LIMIT_S = 120.0


def killed_in_a_burst(server: SGLang, victim: psutil.Process) -> int:
    """200 pictures at once, while the first rank is busy; then `victim` is killed. Segments once SGLang has ended.

    There are 20 different ones, which the tests' small arena has room for; SGLang makes a segment of each all the same.
    The first rank is stopped, so that none of the messages is read before the kill. Segments are removed at the end.
    """
    before = _sent(server)
    server.ranks()[0].suspend()
    with ThreadPoolExecutor(PICTURES // EACH) as threads:
        for at in range(PICTURES // EACH):
            threads.submit(_ask, server, at)
        until(lambda: _sent(server) == before + PICTURES, LIMIT_S, "all pictures are on their way")
        victim.kill()
        until(lambda: not any(map(is_alive, server.processes)), LIMIT_S, "every process has ended")
    left = server.segments()
    for path in left:
        path.unlink()
    return len(left)


def _sent(server: SGLang) -> int:
    """Pictures that were sent to the ranks: as segments that none has read, or through the arena."""
    return len(server.segments()) + int(server.figures().get("features_carried", 0))


def _ask(server: SGLang, at: int) -> None:
    pictures = [part(Image.new("RGB", (56, 28), (at % 2, number, 9))) for number in range(EACH)]
    try:
        server.chat([*pictures, text("What are these?")])
    except httpx.HTTPError:
        return  # the server has gone meanwhile


def main() -> None:
    """Both, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        build_tiny(Path(folder) / "tiny")
        for name, plugins in (("SGLang alone", "faults"), ("with the plugin", "mmplane")):
            how = {"tp": 2, "plugins": plugins, "arena_bytes": ARENA_BYTES, "log": Path(folder) / "log"}
            with serving(Path(folder) / "tiny", **how) as server:
                print(f"{name}: {killed_in_a_burst(server, server.ranks()[-1])} segments left of {PICTURES} pictures")


if __name__ == "__main__":
    main()
