"""Two hundred requests whose bytes are the same everywhere: what vLLM renders of them is recorded, and compared.

Needs nothing but the standard library, because the recorder runs in vLLM's environment.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Iterator
from random import Random
from typing import Any

COUNT = 200
MODEL_ID = "tiny-of-vllm"
"""What vLLM's `--model` is: a part of its hashes."""
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type of a PNG: grey, RGB, palette, grey with alpha, RGB with alpha."""


def png(width: int, height: int, colour: int, seed: int) -> bytes:
    """Noise, stored without compression: zlib's versions compress differently."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row_bytes = width * CHANNELS[colour]
    noise = hashlib.shake_128(b"%d" % seed).digest(row_bytes * height)
    rows = b"".join(b"\0" + noise[at : at + row_bytes] for at in range(0, len(noise), row_bytes))
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    data = zlib.compress(rows, level=0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def requests() -> Iterator[dict[str, Any]]:
    """One after the other, each drawn by its number: one to three pictures between texts, some with a uuid."""
    for number in range(COUNT):
        random = Random(number)
        content: list[dict[str, Any]] = []
        for picture in range(random.choice((0, 1, 1, 1, 2, 3))):
            size = random.choice(((28, 28), (random.randint(28, 300), random.randint(28, 300))))
            media = png(*size, random.choice((0, 2, 2, 2, 3, 4, 6)), seed=1000 * number + picture)
            url = "data:image/png;base64," + base64.b64encode(media).decode()
            part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
            if random.random() < 0.2:
                part["uuid"] = f"picture {number} {picture}"
            content += [{"type": "text", "text": f"Picture {picture}, naïve: ☃ "}, part]
        content.append({"type": "text", "text": " ".join(str(random.random()) for _ in range(random.randint(1, 9)))})
        messages = [{"role": "user", "content": content}]
        if random.random() < 0.5:
            messages.insert(0, {"role": "system", "content": "Be brief."})
        yield {"model": MODEL_ID, "messages": messages, "max_tokens": 8}
