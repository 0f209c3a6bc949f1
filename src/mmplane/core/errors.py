"""Errors with an owner: each states whose fault it is, as an HTTP status.

Messages are fixed and short. They never contain an address, a path or part of the payload, because clients see them.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec


class RequestError(Exception):
    """The failure of one request. It becomes an OpenAI error object and does not affect other requests.

    `status` is the HTTP status; `code` and `param` are OpenAI's fields; `retry_after_s` is sent as Retry-After.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def failure(self) -> Failure:
        """The same error as a value that can cross a process boundary."""
        return Failure(self.status, self.code, self.message, self.param, self.retry_after_s)


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A `RequestError` as a record, so that a failure can travel as a value (invariant 4)."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None

    def error(self) -> RequestError:
        """The exception that this record stands for."""
        return RequestError(self.status, self.code, self.message, param=self.param, retry_after_s=self.retry_after_s)


def bad_request(code: str, message: str, param: str | None = None) -> RequestError:
    """400: the client sent a request that cannot be served."""
    return RequestError(400, code, message, param=param)


def bad_media(message: str, param: str | None = None) -> RequestError:
    """400: an image, clip or sound that cannot be decoded or is not allowed."""
    return RequestError(400, "invalid_media", message, param=param)


def bad_option(message: str) -> RequestError:
    """400: an option of an item that its processor does not accept."""
    return RequestError(400, "invalid_option", message)


def too_large(message: str, param: str | None = None) -> RequestError:
    """413: larger than this server will ever admit."""
    return RequestError(413, "too_large", message, param=param)


def unsupported(message: str, param: str | None = None) -> RequestError:
    """422: the request is well formed, but this model does not support it."""
    return RequestError(422, "unsupported_by_model", message, param=param)


def overloaded(message: str, retry_after_s: int = 1) -> RequestError:
    """503: there is no room now; the same request may succeed later."""
    return RequestError(503, "overloaded", message, retry_after_s=retry_after_s)


UnprofiledReason = Literal["modality", "format", "limit", "header"]
UNPROFILED_REASONS: tuple[UnprofiledReason, ...] = get_args(UnprofiledReason)
UNPROFILED = "unprofiled"


def unprofiled(reason: UnprofiledReason, message: str) -> RequestError:
    """415: it is not known here how the consumer's own loader would decode this media (`mmplane.media.profiles`).

    `param` is the reason. Such media is counted by reason.
    """
    return RequestError(415, UNPROFILED, message, param=reason)


class ArenaHasNoRoom(RequestError):
    """An item does not fit into the arena: 503, or 413 if it never will. Another delivery may still work."""

    def __init__(self, *, ever: bool) -> None:
        if ever:
            super().__init__(413, "too_large", "an item is larger than the arena of this server can hold")
        else:
            super().__init__(503, "overloaded", "the arena is full", retry_after_s=1)


def unavailable(message: str, retry_after_s: int = 1) -> RequestError:
    """503: the part that was serving this request ended; a new one is starting."""
    return RequestError(503, "unavailable", message, retry_after_s=retry_after_s)


def internal(message: str) -> RequestError:
    """500: our fault."""
    return RequestError(500, "internal_error", message)


def not_held() -> RequestError:
    """404: the request has no bytes, and its features are not here. (409 would make OpenAI's client retry.)"""
    return RequestError(404, "media_not_held", "this server does not hold media of that uuid: send it with its bytes")


def error_object(error: RequestError) -> bytes:
    """The error as OpenAI's error object, in JSON."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
    )
