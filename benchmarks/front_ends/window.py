"""What all contestants have in common: requests at saturation for some seconds, counted from within.

A contestant is a process that reads one order a line and answers with one report a line (JSON). It keeps `outstanding`
requests under way, each of `count` pictures that it has never seen: their bytes differ in a note inside the file.
Counting begins when the first request of each line is done. Nothing of ours is imported: peers have environments of
their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import struct
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

Request = Callable[[list[bytes]], Awaitable[Any]]
Figures = Callable[[], dict[str, Any]]
_numbers = itertools.count()


def stamped(media: bytes, note: bytes) -> bytes:
    """The same JPEG or PNG with a note in it."""
    view = memoryview(media)  # one copy: it is the client's CPU
    if media.startswith(b"\xff\xd8"):
        return b"".join((view[:2], b"\xff\xfe", struct.pack(">H", len(note) + 2), note, view[2:]))
    chunk = b"tEXt" + b"Comment\0" + note
    length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return b"".join((view[:33], length, chunk, check, view[33:]))


def cpu_s(root: int, *, children: bool = True) -> float:
    """CPU seconds of a process's threads, and of all that descend from it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    wanted, found = [root], 0.0
    while wanted:
        pid = wanted.pop()
        if children:
            wanted += [child for child, parent in parents.items() if parent == pid]
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                found += int(task.read_text().split()[0]) / 1e9
    return found


class Window:
    """Requests of one kind of work, some at a time, until it is closed."""

    def __init__(self, request: Request, pictures: list[bytes], count: int) -> None:
        self._request = request
        self._pictures = itertools.cycle(pictures)
        self._count = count
        self._done = 0
        self._open = True

    async def measured(self, outstanding: int, seconds: float, more: Figures) -> dict[str, Any]:
        """Warm, then count for so long; what is under way then is ended outside of the window."""
        lines = [asyncio.create_task(self._line()) for _ in range(outstanding)]
        while self._done < outstanding * self._count:
            await asyncio.sleep(0.01)
            for line in lines:
                if line.done():
                    line.result()
        before, began_s = self._now(), time.perf_counter()
        await asyncio.sleep(0)  # looking at all processes held the loop
        more()
        await asyncio.sleep(seconds)
        figures = more()
        after, wall_s = self._now(), time.perf_counter() - began_s
        self._open = False
        await asyncio.gather(*lines)
        pictures, tree_s, own_s = (late - early for early, late in zip(before, after, strict=True))
        return {"pictures": pictures, "wall_s": wall_s, "cpu_s": tree_s, "own_cpu_s": own_s, **figures}

    async def _line(self) -> None:
        """Request after request. Making pictures holds the loop, in a turn of its own: it is not the contestant's."""
        while self._open:
            note = b"%d of %d" % (next(_numbers), os.getpid())
            pictures = [stamped(next(self._pictures), b"%b %d" % (note, at)) for at in range(self._count)]
            await asyncio.sleep(0)
            await self._request(pictures)
            self._done += self._count
            await asyncio.sleep(0)

    def _now(self) -> tuple[float, float, float]:
        return self._done, cpu_s(os.getpid()), cpu_s(os.getpid(), children=False)


def orders() -> Iterator[dict[str, Any]]:
    """What standard input asks for, one after the other."""
    for line in sys.stdin:
        yield json.loads(line)


def read(paths: list[str]) -> list[bytes]:
    """The pictures."""
    return [Path(path).read_bytes() for path in paths]


async def serve(request: Request, more: Figures = dict) -> None:
    """Say that it is ready, then measure what is ordered; `more` gives further figures since it was last called."""
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no report
    report({"ready": True})
    for order in orders():
        window = Window(request, read(order["pictures"]), order["count"])
        report(await window.measured(order["outstanding"], order["seconds"], more))


def report(content: dict[str, Any]) -> None:
    """One line."""
    print(json.dumps(content), flush=True)
