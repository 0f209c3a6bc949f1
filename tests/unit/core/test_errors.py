"""An error is a value: what one process raises, another can raise again, word for word."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from record_strategies import records

from mmplane.core import errors
from mmplane.core.errors import Failure, RequestError


@given(failure=records(Failure))
def test_a_failure_crosses_a_boundary_and_back(failure: Failure) -> None:
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure)
    assert sent.error().failure() == failure


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after_s"),
    [
        (errors.bad_request("code", "text"), 400, "code", None),
        (errors.bad_media("text"), 400, "invalid_media", None),
        (errors.too_large("text"), 413, "too_large", None),
        (errors.unsupported("text"), 422, "unsupported_by_model", None),
        (errors.internal("text"), 500, "internal_error", None),
        (errors.overloaded("text"), 503, "overloaded", 1),
        (errors.unavailable("text", retry_after_s=5), 503, "unavailable", 5),
    ],
)
def test_each_kind_says_whose_fault_it_is(
    error: RequestError, status: int, code: str, retry_after_s: int | None
) -> None:
    assert (error.status, error.code, error.message, error.retry_after_s) == (status, code, "text", retry_after_s)
    assert str(error) == "text"


@pytest.mark.parametrize("make", [errors.bad_media, errors.too_large, errors.unsupported])
def test_the_param_is_kept(make: type[RequestError]) -> None:
    assert make("text", "image_url").failure() == Failure(make("x").status, make("x").code, "text", "image_url", None)


def test_nothing_but_the_text_travels() -> None:
    """A cause, a traceback or an argument of the exception would take paths and payload to the client."""
    try:
        try:
            raise OSError("/secret/path")
        except OSError as cause:
            raise errors.internal("the image could not be processed") from cause
    except RequestError as error:
        again = error.failure().error()
    assert (again.__cause__, again.__context__, again.__traceback__) == (None, None, None)
    assert b"secret" not in msgspec.msgpack.encode(again.failure())
