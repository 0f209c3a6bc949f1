"""Due times of requests in an open loop: a Poisson process from a seed. Pure."""

from __future__ import annotations

import random


def poisson_s(count: int, rate_per_s: float, seed: int) -> list[float]:
    """Return the due time of each of `count` requests in seconds: exponential gaps with mean 1 / rate."""
    if rate_per_s <= 0:
        raise ValueError("--rate must be positive")
    rng = random.Random(seed)  # noqa: S311 - load, not secrets
    at_s = 0.0
    arrivals = []
    for _ in range(count):
        at_s += rng.expovariate(rate_per_s)
        arrivals.append(at_s)
    return arrivals
