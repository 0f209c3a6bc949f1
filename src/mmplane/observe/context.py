"""The trace that a request belongs to, for what is asked of others on its behalf."""

from __future__ import annotations

from contextvars import ContextVar

OUTGOING: ContextVar[str] = ContextVar("traceparent", default="")
"""The W3C `traceparent` to send along; empty when traces are off."""
