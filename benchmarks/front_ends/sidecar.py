"""(a) The sidecar through a client: `sidecar.py MODEL WORKERS ENCODING`. The client's process is this one.

Its heap is frozen once everything is set up, as servers do when they begin to serve: a full garbage collection would
hold the loop for as long as it takes to look at all that was imported (35 to 60 ms here).
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from asyncio import events
from typing import Any

import numpy as np
from window import serve

from mmplane import Sidecar

ARENA_BYTES = 2 * 2**30
_held_ms: list[tuple[float, float]] = []


def watch_the_loop() -> None:
    """Note how long each callback of the event loop holds it: milliseconds by the clock, and of CPU."""
    run = events.Handle._run

    def timed(handle: Any) -> None:
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        run(handle)
        _held_ms.append(((time.perf_counter() - began_s) * 1000, (time.thread_time() - cpu_s) * 1000))

    events.Handle._run = timed  # type: ignore[method-assign]


def held() -> dict[str, Any]:
    """Since it was last asked: the longest hold of the loop, and the 99th percentile."""
    seen = list(_held_ms)
    asyncio.get_running_loop().call_soon(_held_ms.clear)  # once this callback has been noted, too
    walls, cpus = zip(*seen, strict=True) if seen else ((0.0,), (0.0,))
    names = {"hold_ms": walls, "hold_cpu_ms": cpus}
    return {
        f"{name}_{at}": float(np.percentile(of, q))
        for name, of in names.items()
        for at, q in (("p99", 99), ("max", 100))
    }


async def main(model: str, workers: int, encoding: Any) -> None:
    started = Sidecar.start(model=model, workers=workers, arena_bytes=ARENA_BYTES, encoding=encoding)
    with started as sidecar, sidecar.connect() as client:

        async def request(pictures: list[bytes]) -> None:
            for hold in await asyncio.gather(*map(client.amaterialise, pictures)):
                hold.arrays(np)
                hold.release()

        gc.collect()
        gc.freeze()
        watch_the_loop()
        await serve(request, held)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
