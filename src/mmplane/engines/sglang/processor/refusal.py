"""A full sidecar means 503 and Retry-After: SGLang must not decode in its own process instead.

SGLang answers `fastapi.HTTPException` with its own status, but its streams only look for ValueError, which is 400. Its
loader converts both to other exceptions, and its answers drop the header.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException

MESSAGE = "There is no room for the pictures of this request now. Try again."
RETRY_AFTER_S = 1
CHAIN_MAX = 16
_SERVER = "sglang.srt.entrypoints.http_server"


class Overloaded(HTTPException, ValueError):  # type: ignore[misc]
    """No picture can be made now. It is a ValueError as well, because SGLang's streams look for nothing else."""

    def __init__(self) -> None:
        super().__init__(503, MESSAGE, {"Retry-After": str(RETRY_AFTER_S)})

    def __str__(self) -> str:
        return MESSAGE

    def __reduce__(self) -> tuple[type[Overloaded], tuple[()]]:
        return type(self), ()


def unwrapped(process: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap a coroutine function so that it raises Overloaded if that is the cause of its exception."""

    @wraps(process)
    async def processed(*args: Any, **kwargs: Any) -> Any:
        try:
            return await process(*args, **kwargs)
        except Exception as error:
            if _is_behind(error) and not isinstance(error, Overloaded):
                raise Overloaded from error
            raise

    return processed


def _is_behind(error: BaseException | None) -> bool:
    for _ in range(CHAIN_MAX):
        if error is None or isinstance(error, Overloaded):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, Overloaded)


def answer(original: Callable[..., Any], self: Any, message: str, *args: Any, **kwargs: Any) -> Any:
    """Wraps `OpenAIServingBase.create_error_response`: every 503 gets a Retry-After."""
    ours = {"err_type": "503", "status_code": 503} if message == MESSAGE else {}
    response = original(self, message, *args, **kwargs | ours)
    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def answer_natively() -> None:
    """The same for SGLang's own routes, in a process that has them."""
    server = sys.modules.get(_SERVER)
    original = getattr(server, "_create_error_response", None)
    if server is None or original is None or hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def answered(error: Exception, *args: Any, **kwargs: Any) -> Any:
        response = original(error, *args, **kwargs)
        if isinstance(error, Overloaded):
            response.status_code = error.status_code
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response

    server._create_error_response = answered  # type: ignore[attr-defined]
