"""What does it cost to draw a token from the logits of a large vocabulary?

    python benchmarks/sampling.py [--vocabulary 151936] [--rows 32]

One thread; the best of several runs, for logits of several shapes. Wanted: at most 0.5 ms a token with `top_p` 1, and
at most 2 ms with less. The logits of a real model are closest to "peaked"; "flat" (all equal) is the worst case and has
no limit.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import torch

from mmplane.ranks.model.sampling import draw
from mmplane.ranks.model.wanted import Wanted

CASES: dict[str, tuple[dict[str, Any], float]] = {
    "greedy": ({"temperature": 0.0}, 0.5),
    "temperature 1": ({}, 0.5),
    "top_p 0.95": ({"top_p": 0.95}, 2.0),
    "top_p 0.5": ({"top_p": 0.5}, 2.0),
    "top_k 50": ({"top_k": 50}, 2.0),
    "min_p 0.05, top_p 0.9": ({"min_p": 0.05, "top_p": 0.9}, 2.0),
}
RUNS = 7


def shapes(rows: int, vocabulary: int) -> dict[str, torch.Tensor]:
    """Logits [rows, vocabulary] by the shape of their distribution."""
    noise = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0))
    return {
        "peaked": noise * 4,
        "normal": noise,
        "coarse (as bfloat16)": (noise * 3).bfloat16().float(),
        "flat": torch.zeros(rows, vocabulary),
    }


def best_ms(logits: torch.Tensor, options: dict[str, Any]) -> float:
    """Milliseconds for one token."""
    how = Wanted(**({"temperature": 1.0, "top_p": 1.0, "seed": 5, "position": 3} | options))
    took = []
    for _ in range(RUNS):
        began_s = time.perf_counter()
        draw(logits, [how] * len(logits))
        took.append((time.perf_counter() - began_s) / len(logits) * 1000)
    return min(took)


def main() -> None:
    """Measure all cases; fail where one takes longer than wanted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--rows", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    late = []
    for shape, logits in shapes(arguments.rows, arguments.vocabulary).items():
        for case, (options, limit_ms) in CASES.items():
            took_ms = best_ms(logits, options)
            print(f"{shape:22} {case:24} {took_ms:7.3f} ms a token", flush=True)
            if took_ms > limit_ms and shape != "flat":
                late.append(f"{shape}, {case}")
    if late:
        sys.exit("slower than wanted: " + "; ".join(late))


if __name__ == "__main__":
    main()
