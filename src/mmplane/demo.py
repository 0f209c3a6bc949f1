"""`mmplane demo`: starts a server, draws three numbers, asks which they are, and checks the answers.

It needs nothing but the package: the pictures are drawn with the font inside Pillow, and read by the built-in model.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mmplane.config import Config
from mmplane.core.stages import SUMS
from mmplane.parser import Parser
from mmplane.ranges import ranges_of

QUESTION = "Which number is this?"
LOOKS = (
    ((224, 112), "white", "black", 56),
    ((196, 98), "#1e2a6e", "#ffd94a", 48),
    ((252, 112), "#e8efe6", "#8c1d40", 64),
)
"""Size in pixels, background, ink and font size of each picture."""
BAR_CHARACTERS = 40
STOP_LIMIT_S = 30.0


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration; 0 only if every answer was right."""
    options = options_parser().parse_args(arguments)
    numbers = [f"{secrets.randbelow(9000) + 1000}" for _ in LOOKS]
    print(f"starting a server with the built-in model over {options.tp} ranks ...", flush=True)
    right = 0
    with _server(options.tp) as url:
        for number, (size, ground, ink, font_px) in zip(numbers, LOOKS, strict=True):
            answer, trace = _ask(url, draw(number, size, ground, ink, font_px))
            right += answer == number
            verdict = "right" if answer == number else "WRONG"
            print(f"\npicture {size[0]}x{size[1]} shows {number}   answer {answer}   {verdict}")
            print(_timeline(trace["stages_ms"]))
    print(f"\n{right} of {len(numbers)} right")
    return 0 if right == len(numbers) else 1


def options_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(prog="mmplane demo", description=__doc__, example="mmplane demo --tp 1")
    parser.add_argument("--tp", type=ranges_of(Config)["tp"], default=2, help="tensor-parallel ranks")
    return parser


def draw(number: str, size: tuple[int, int], ground: str, ink: str, font_px: int) -> bytes:
    """Draw a PNG with the number in the middle of a plain background."""
    image = Image.new("RGB", size, ground)
    middle = (size[0] / 2, size[1] / 2)
    ImageDraw.Draw(image).text(middle, number, ink, ImageFont.load_default(font_px), anchor="mm")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@contextmanager
def _server(tp: int) -> Iterator[str]:
    command = [sys.executable, "-m", "mmplane", "serve", "--model", "tiny", "--tp", str(tp), "--port", "0"]
    command += ["--log-level", "warning", "--arena-bytes", str(64 * 2**20)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"ready after (\S+ s) at (http://\S+),", line):
                print(f"ready after {found.group(1)}")
                yield found.group(2)
                break
        else:
            raise SystemExit("mmplane demo: the server ended before it was ready")
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)


def _ask(url: str, picture: bytes) -> tuple[str, dict[str, Any]]:
    """The answer, and the trace of the request."""
    image = {"url": "data:image/png;base64," + base64.b64encode(picture).decode()}
    content = [{"type": "image_url", "image_url": image}, {"type": "text", "text": QUESTION}]
    body = {
        "model": "tiny",
        "max_tokens": 16,
        "temperature": 0,
        "messages": [{"role": "user", "content": content}],
        "mmplane": {"trace": True},
    }
    request = urllib.request.Request(  # noqa: S310
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - the server that was started above
        answer = json.load(reply)
    return answer["choices"][0]["message"]["content"], answer["mmplane"]["trace"]


def _timeline(stages_ms: dict[str, float]) -> str:
    """One line for each stage, with a bar for its share."""
    parts = {name: ms for name, ms in stages_ms.items() if name not in SUMS}
    whole_ms = sum(parts.values())
    return "\n".join(
        f"  {name:<10} {ms:8.2f} ms  {'#' * round(ms / whole_ms * BAR_CHARACTERS)}" for name, ms in parts.items()
    )
