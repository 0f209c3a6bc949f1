"""Mutants: a function with one piece of its source made another, for as long as a block runs.

The function's code is exchanged in place, so that whoever has imported it runs the mutant as well, and what tests put
into its module still counts.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Mutant:
    """What it breaks, where, and the test that must notice."""

    breaks: str
    function: Any
    piece: str
    instead: str
    killer: Callable[..., Any]
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.breaks


@contextmanager
def mutated(function: Any, piece: str, instead: str) -> Iterator[None]:
    """`piece` must occur once in the function's source."""
    function = inspect.unwrap(function.fget if isinstance(function, property) else function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(piece) == 1, f"{piece!r} occurs {source.count(piece)} times in {function.__qualname__}"
    code = compile(_closed(source.replace(piece, instead), function), "<mutant>", "exec")
    namespace: dict[str, Any] = {}
    exec(code, dict(function.__globals__), namespace)
    before, function.__code__ = function.__code__, inspect.unwrap(namespace["closed"]()).__code__
    try:
        yield
    finally:
        function.__code__ = before


def _closed(source: str, function: Any) -> str:
    """A module with `closed()`, which gives the function, inside of the variables that it closes over.

    These are `__class__`, for `super()`. A global of the function's own name stays one.
    """
    if not (names := function.__code__.co_freevars):
        return f"from __future__ import annotations\n{source}\nclosed = lambda it={function.__name__}: it\n"
    body = "".join(f"{name} = None\n" for name in names) + source + f"\nreturn {function.__name__}"
    return f"from __future__ import annotations\ndef closed():\n{textwrap.indent(body, '    ')}\n"


def check_it_is_killed(
    mutant: Mutant, request: pytest.FixtureRequest, *, once_it_passed: Callable[[], None] = lambda: None
) -> None:
    """The test passes, and fails once the mutant is there."""
    names = list(inspect.signature(mutant.killer).parameters)[len(mutant.arguments) :]
    fixtures = {name: request.getfixturevalue(name) for name in names}
    mutant.killer(*mutant.arguments, **fixtures)
    once_it_passed()
    with mutated(mutant.function, mutant.piece, mutant.instead), pytest.raises((Exception, pytest.fail.Exception)):
        mutant.killer(*mutant.arguments, **fixtures)
