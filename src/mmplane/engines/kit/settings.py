"""Settings from environment variables, because the command line belongs to the engine.

Every function takes the full name of the variable and raises ValueError with that name for an invalid value.
"""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Sequence

from mmplane.ranges import Range


def size_bytes(name: str, default: int, *, most: int = 2**63 - 1) -> int:
    """Bytes, as a number or with a unit: 512MiB."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        return int(Range(int, 0, most, bytes=True)(text))
    except ArgumentTypeError as error:
        raise ValueError(f"{name}: {error}") from None


def flag(name: str, *, default: bool = False) -> bool:
    """1 or 0."""
    return choice(name, ("0", "1"), str(int(default))) == "1"


def choice(name: str, choices: Sequence[str], default: str) -> str:
    """One of these."""
    text = os.environ.get(name, "").strip() or default
    if text not in choices:
        raise ValueError(f"{name}: {text[:40]!r} is not one of {', '.join(choices)}")
    return text


def some(name: str, choices: Sequence[str], default: Sequence[str]) -> frozenset[str]:
    """Any of these, separated by commas. If the variable is set and empty, none of them."""
    text = os.environ.get(name)
    if text is None:
        return frozenset(default)
    chosen = {word.strip() for word in text.split(",")} - {""}
    unknown = sorted(chosen - set(choices))
    if unknown:
        raise ValueError(f"{name}: {unknown[0][:40]!r} is not one of {', '.join(choices)}")
    return frozenset(chosen)
