"""The log: one line of limited length for each event on standard error, as text or as a JSON object.

    {"at": "2026-11-21T10:00:00.123Z", "level": "error", "process": "frontend", "pid": 12, "request_id": "3f0b...",
     "message": "...", "error": "Traceback ...", "stacks": "..."}

It uses the standard library's logging with a formatter: torch, transformers, asyncio and uvicorn log through it anyway,
and structlog would have to be connected to it. What one request can write to the log is limited in two ways: each line
is cut, and after `LINES_MAX` lines nothing more is logged (hazard R13). Unprintable characters are escaped, so that a
client's text can neither end a line, nor forge one, move a terminal's cursor or reorder the text.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TextIO

import msgspec

from mmplane.process.output import Output

MESSAGE_CHARACTERS_MAX = 1000
DETAIL_CHARACTERS_MAX = 8000
"""The limit on a traceback or stacks. The end is kept, because it shows what happened."""
LINES_MAX = 20
DETAILS = ("error", "stacks")
NOISY = ("uvicorn", "httpx", "httpcore", "numba")
_CLIENTS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Asked:
    """The request for which something is logged."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    lines: int = 0

    @classmethod
    def as_named(cls, name: str) -> Asked:
        """Use the name that a client gave, if it is a plain one."""
        return cls(name) if _CLIENTS_ID.fullmatch(name) else cls()


_asked: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextmanager
def on_behalf(asked: Asked) -> Iterator[None]:
    """Attribute everything logged inside the block, in this task and those that it starts, to this request."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def begin(form: str, level: str, process: str) -> None:
    """Start logging as `text` or `json`. `process` is the name in each line. A second call replaces the first."""
    handler = _Lines(sys.stderr)
    handler.setFormatter(_Json(process) if form == "json" else _Text())
    handler.addFilter(_within_bounds)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for library in NOISY:
        logging.getLogger(library).setLevel(logging.WARNING)


def go_on(stream: TextIO) -> None:
    """Continue logging to this stream, with the same format and level."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Lines):
            handler.direct(stream)


class _Lines(logging.StreamHandler[TextIO]):
    """Never waits for the reader of the log. Lines that do not fit are dropped, and the next one states how many."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.direct(stream)

    def direct(self, stream: TextIO) -> None:
        """Write to this stream from now on."""
        self.setStream(stream)
        self._output: Output | None = None
        with suppress(OSError):  # a test's stream has no descriptor
            self._output = Output(stream.fileno())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line with its details."""
        if self._output is None:
            super().emit(record)
            return
        try:
            text = self.format(record)
        except (TypeError, ValueError):  # the arguments do not fit the format
            self.handleError(record)
        else:
            if self._output.dropped:
                lost = f"{self._output.dropped} log lines were lost, because nobody reads the log fast enough"
                text = self.format(logging.LogRecord("mmplane", logging.WARNING, "", 0, lost, (), None)) + "\n" + text
            before = self._output.dropped
            self._output.write(text + "\n")
            if self._output.dropped == before:
                self._output.dropped = 0


def _within_bounds(record: logging.LogRecord) -> bool:
    """Note which request it belongs to, and whether that request may still log."""
    asked = _asked.get()
    if asked is not None:
        record.request_id = asked.id
        asked.lines += 1
        if asked.lines == LINES_MAX:
            record.msg, record.args = f"{record.getMessage()} (the last line that this request may log)", ()
        return asked.lines <= LINES_MAX
    return True


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """`TIME mmplane LEVEL message [request]`, followed by details."""
        request_id = getattr(record, "request_id", None)
        at = self.formatTime(record)
        line = f"{at} mmplane {record.levelname} {_message(record)}" + (f" [{request_id}]" if request_id else "")
        return "\n".join((line, *_details(self, record).values()))


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "at": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": _message(record),
        }
        if request_id := getattr(record, "request_id", None):
            line["request_id"] = request_id
        return msgspec.json.encode(line | _details(self, record)).decode()


def _message(record: logging.LogRecord) -> str:
    """The message as one line, whatever it contains."""
    message = record.getMessage()
    text = _printable(message[:MESSAGE_CHARACTERS_MAX])
    cut = len(message) > MESSAGE_CHARACTERS_MAX or len(text) > MESSAGE_CHARACTERS_MAX
    return text[:MESSAGE_CHARACTERS_MAX] + "..." * cut


def _details(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    error = formatter.formatException(record.exc_info) if record.exc_info else ""
    found = {"error": error, "stacks": getattr(record, "stacks", "")}
    return {name: _lines(found[name][-DETAIL_CHARACTERS_MAX:]) for name in DETAILS if found[name]}


def _lines(text: str) -> str:
    """Several lines. None of them begins with a digit, as a log line does."""
    printable = "\n".join(map(_printable, text.split("\n")))
    return re.sub(r"^(?=\d)", "  ", printable[-DETAIL_CHARACTERS_MAX:], flags=re.MULTILINE)


def _printable(text: str) -> str:
    """Escape control characters, line separators, bidirectional marks, lone surrogates and all else invisible."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
