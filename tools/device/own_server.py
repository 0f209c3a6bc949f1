"""The built-in model on a GPU: the same answers as in float32 on the CPU? And how long until the first token?

    python own_server.py [--device cuda] [--numbers 200] [--pictures 20] [--json FILE] [--log FILE]

The exit status is 1 where one answer differs. It needs `mmplane[serve]`.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import PICTURE, Variant, ask, percentile, picture, serving

from mmplane.demo import LOOKS, QUESTION, draw

TOKENS_MAX = 12
AT_ONCE = 8
SERVE = 'exec "$0" -m mmplane serve --model tiny --tp 1 --port "$PORT" $OPTIONS'


def numbers(count: int) -> list[str]:
    """Data URIs of so many pictures of numbers, each with a look of its own."""
    drawn = random.Random(1)
    shown = [draw(str(drawn.randrange(1000, 10000)), *LOOKS[at % len(LOOKS)]) for at in range(count)]
    return ["data:image/png;base64," + base64.b64encode(one).decode() for one in shown]


def read(url: str, images: list[str]) -> list[str]:
    """What the server reads, in order."""
    with ThreadPoolExecutor(AT_ONCE) as clients:
        return [said for said, _ in clients.map(lambda image: ask(url, image, TOKENS_MAX, QUESTION), images)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--numbers", type=int, default=200, help="pictures that are read by both (default %(default)s)")
    parser.add_argument("--pictures", type=int, default=20, help="large pictures that are timed (default %(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--log", type=Path, default=Path("server.log"), help="what the servers say")
    options = parser.parse_args()
    command, images = ["bash", "-c", SERVE, sys.executable], numbers(options.numbers)
    with serving(Variant("the reference", options="--device cpu", ready="/ready"), command, options.log) as url:
        wanted = read(url, images)
    with serving(
        Variant(options.device, options=f"--device {options.device}", ready="/ready"), command, options.log
    ) as url:
        said = read(url, images)
        times = [ask(url, picture(at, PICTURE), 1)[1] for at in range(options.pictures)]
    found = {
        "device": options.device,
        "answers": len(wanted),
        "same_answers": sum(map(str.__eq__, said, wanted)),
        "different_answers": len(set(wanted)),
        "ttft_ms_p50": 1000 * statistics.median(times),
        "ttft_ms_p99": percentile(times, 0.99),
    }
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(json.dumps(found))
    return 0 if said == wanted and len(set(wanted)) > len(wanted) / 2 else 1


if __name__ == "__main__":
    sys.exit(main())
