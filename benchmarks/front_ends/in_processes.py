"""(c) transformers' processor in a pool of processes, results pickled: `in_processes.py MODEL BACKEND PROCESSES`."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from in_threads import decoded
from transformers import AutoImageProcessor
from window import serve

_processor: Any = None


def load(model: str, backend: str) -> None:
    """Once in each process of the pool. One thread each: they are as many as the cores."""
    global _processor
    _processor = AutoImageProcessor.from_pretrained(model, backend=backend)
    if backend == "torchvision":
        import torch

        torch.set_num_threads(1)


def one(media: bytes) -> dict[str, Any]:
    """A picture's features as arrays, which are pickled on the way back."""
    return dict(_processor([decoded(media)], return_tensors="np"))


async def main(model: str, backend: str, processes: int) -> None:
    loop = asyncio.get_running_loop()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, load, (model, backend)) as pool:

        async def request(pictures: list[bytes]) -> None:
            await asyncio.gather(*(loop.run_in_executor(pool, one, media) for media in pictures))

        await serve(request)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
