"""Compiles loops with numba when their module is imported, or loads them from numba's cache on disk.

Each loop has explicit signatures. So nothing is compiled later, while a request waits, and a call with other types
fails instead. Arrays that are only read are declared `readable`, which accepts writable ones too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
import numpy.ma  # noqa: F401 - numba needs it at a loop's first call: each worker would import it for itself
from numba import types

log = logging.getLogger("mmplane")
Function = TypeVar("Function", bound=Callable[..., Any])


def readable(kind: Any, dimensions: int) -> Any:
    """The type of an array that is only read."""
    return types.Array(kind, dimensions, "C", readonly=True)


def writable(kind: Any, dimensions: int) -> Any:
    """The type of an array that is written to."""
    return types.Array(kind, dimensions, "C")


def compiled(signature: Any) -> Callable[[Function], Function]:
    """Compile a function for one signature, or for a list of them. It runs without the GIL."""

    def compile_now(function: Function) -> Function:
        try:
            loop: Function = numba.njit(signature, cache=True, nogil=True)(function)
            if getattr(loop, "stats").cache_misses:  # noqa: B009 - of a dispatcher, which the type hides
                _tell_that_it_compiles()
        except RuntimeError:  # no folder for a cache is writable, so each process compiles for itself
            loop = numba.njit(signature, nogil=True)(function)
        return loop

    return compile_now


def inlined(function: Function) -> Function:
    """A function that becomes part of every loop that calls it."""
    inside: Function = numba.njit(inline="always")(function)
    return inside


@cache
def _tell_that_it_compiles() -> None:
    """Log once per process why it starts slowly."""
    log.info(
        "compiling the numerical loops for this machine, which takes some seconds; later starts load them from a cache"
    )
