"""The numbers that an operator can set, and the range of each, as the fields of a record declare it."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import Any

import msgspec

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B", re.IGNORECASE)
"""`1GB`, `512MiB`, `1.5 GiB`. Without the i it is a power of 1000, as for disks."""


@dataclass(frozen=True)
class Range:
    """The numbers of one kind from `least` to `most`, inclusive. As an argparse type it parses and checks a flag."""

    kind: type[int] | type[float]
    least: float
    most: float
    bytes: bool = False
    """Whether it is a size, which may have a unit: `512MiB`."""

    def __str__(self) -> str:
        if self.bytes:
            return f"a size from {size(self.least)} to {size(self.most)}, in bytes or as in 512MiB or 1GB"
        return f"a {'whole ' if self.kind is int else ''}number from {self.least:.16g} to {self.most:.16g}"

    def __call__(self, text: str) -> int | float:
        """Parse a number. Raises argparse.ArgumentTypeError."""
        try:
            return self.checked(parsed_size(text) if self.bytes else self.kind(text))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r:.60} is not {self}") from None

    def checked(self, value: Any) -> int | float:
        """Return `value` if it is in the range. Raises ValueError, with the range and the beginning of the value."""
        if self.bytes and isinstance(value, str):
            value = parsed_size(value)
        fits = isinstance(value, int | self.kind) and not isinstance(value, bool)
        if not fits or not self.least <= value <= self.most:  # NaN compares false
            raise ValueError(f"{value!r:.60} is not {self}")
        return self.kind(value)


def parsed_size(text: str) -> int:
    """Parse a number of bytes: a whole number, or one with a unit. Raises ValueError."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        return int(text)
    base = 1024 if match[3] else 1000
    exact = float(match[1]) * base ** " KMGT".index(match[2].upper() or " ")
    if not exact.is_integer():
        raise ValueError(f"{text!r:.60} is not a whole number of bytes")
    return int(exact)


def size(length_bytes: float) -> str:
    """Format a number of bytes for people, in a form that `parsed_size` reads."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if length_bytes and length_bytes % 2**power == 0:
            return f"{length_bytes / 2**power:.16g}{unit}"
    return f"{length_bytes:.16g}"


def ranges_of(record: type[msgspec.Struct]) -> dict[str, Range]:
    """The range of each field that is a number, by name. Every such field must declare both bounds."""
    found = {}
    for field in msgspec.inspect.type_info(record).fields:  # type: ignore[attr-defined]
        declared = field.type
        if isinstance(declared, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            assert declared.ge is not None, field.name
            assert declared.le is not None, field.name
            kind = int if isinstance(declared, msgspec.inspect.IntType) else float
            found[field.name] = Range(kind, declared.ge, declared.le, bytes="bytes" in field.name.split("_"))
    return found
