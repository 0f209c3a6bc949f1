"""A size in a configuration: two sides, limits of edges, or limits of the area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_FORMS = (
    {"height", "width"},
    {"shortest_edge"},
    {"shortest_edge", "longest_edge"},
    {"longest_edge"},
    {"max_height", "max_width"},
    {"min_pixels", "max_pixels"},
)


@dataclass(frozen=True)
class Size:
    """In pixels; None if the configuration does not set it."""

    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None
    longest_edge: int | None = None
    max_height: int | None = None
    max_width: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None

    @classmethod
    def of(cls, given: Any, *, square: bool = True) -> Size:
        """Parse by the rules of `get_size_dict`; `square` is the meaning of one number. Raises ValueError."""
        if isinstance(given, int):
            given = {"height": given, "width": given} if square else {"shortest_edge": given}
        elif isinstance(given, list | tuple) and len(given) == 2:
            given = {"height": given[0], "width": given[1]}
        if not isinstance(given, dict) or set(given) not in _FORMS:
            raise ValueError("a size of this checkpoint has a form that is not built")
        return cls(**given)
