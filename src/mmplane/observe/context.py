"""The trace of the current request, for requests to other servers on its behalf."""

from __future__ import annotations

from contextvars import ContextVar

OUTGOING: ContextVar[str] = ContextVar("traceparent", default="")
"""The W3C `traceparent` to send along; empty if traces are off."""
