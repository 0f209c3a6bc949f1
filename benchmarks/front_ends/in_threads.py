"""(b) transformers' processor in threads of one process: `in_threads.py MODEL BACKEND THREADS`."""

from __future__ import annotations

import asyncio
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from transformers import AutoImageProcessor
from window import serve


def decoded(media: bytes) -> Image.Image:
    return Image.open(io.BytesIO(media)).convert("RGB")


async def main(model: str, backend: str, threads: int) -> None:
    processor: Any = AutoImageProcessor.from_pretrained(model, backend=backend)
    kind = "pt" if backend == "torchvision" else "np"
    pool, loop = ThreadPoolExecutor(threads), asyncio.get_running_loop()

    def whole(pictures: list[bytes]) -> None:
        processor([decoded(media) for media in pictures], return_tensors=kind)

    async def request(pictures: list[bytes]) -> None:
        await loop.run_in_executor(pool, whole, pictures)

    await serve(request)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
