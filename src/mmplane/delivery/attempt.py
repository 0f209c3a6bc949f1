"""Runs one order's work, so that whatever it raises becomes that order's failure and no one else's (invariant 4)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from mmplane.core.errors import Failure, RequestError, internal
from mmplane.delivery.delivery import Delivered

log = logging.getLogger("mmplane")
T = TypeVar("T")


def attempt(work: Callable[[], T]) -> T | Failure:
    """The result of `work`, or why it failed."""
    try:
        return work()
    except RequestError as error:
        return error.failure()
    except Exception as error:  # a decoder or a model may raise anything
        log.exception("an item could not be delivered")
        return internal(f"an item of this request could not be delivered ({type(error).__name__})").failure()


def delivered(work: Callable[[], Delivered]) -> Delivered:
    """The result of `work`, with an exception turned into a failure."""
    result = attempt(work)
    return Delivered((), result) if isinstance(result, Failure) else result
