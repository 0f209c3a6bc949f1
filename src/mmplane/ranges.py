"""Numbers that an operator gives, and the range that each must lie in, as the fields of a record declare it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True)
class Range:
    """Numbers of one kind from `least` to `most`, both included. As an argparse type it parses and checks a flag."""

    kind: type[int] | type[float]
    least: float
    most: float

    def __str__(self) -> str:
        return f"a {'whole ' if self.kind is int else ''}number from {self.least:.16g} to {self.most:.16g}"

    def __call__(self, text: str) -> int | float:
        """The number that `text` says. Raises argparse.ArgumentTypeError."""
        try:
            return self.checked(self.kind(text))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r:.60} is not {self}") from None

    def checked(self, value: Any) -> int | float:
        """`value`, if it is such a number. Raises ValueError, with the range and the beginning of what it was."""
        fits = isinstance(value, int | self.kind) and not isinstance(value, bool)
        if not fits or not self.least <= value <= self.most:  # NaN compares false
            raise ValueError(f"{value!r:.60} is not {self}")
        return self.kind(value)


def ranges_of(record: type[msgspec.Struct]) -> dict[str, Range]:
    """The range of each field that is a number, by name. Every such field has to declare both bounds."""
    found = {}
    for field in msgspec.inspect.type_info(record).fields:  # type: ignore[attr-defined]
        declared = field.type
        if isinstance(declared, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            assert declared.ge is not None, field.name
            assert declared.le is not None, field.name
            kind = int if isinstance(declared, msgspec.inspect.IntType) else float
            found[field.name] = Range(kind, declared.ge, declared.le)
    return found
