"""Metrics of a sidecar for Prometheus: `GET /metrics` on loopback, from the keeper's statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from mmplane.observe.exposition import CONTENT_TYPE, Figures, Labels, Metric, Value, exposition

HOST = "127.0.0.1"
HEAD_BYTES_MAX = 8192
SECONDS_MAX = 5.0

Now = dict[str, Any]


def _each(find: Callable[[Now], Any], figures: Figures) -> Iterable[tuple[Labels, Value]]:
    found = find(dict(figures.now))
    return [((), found)] if not isinstance(found, dict) else [((name,), value) for name, value in found.items()]


def _arena(now: Now) -> dict[str, int]:
    total = now["arena"]["total"]
    return {state: total[f"{state}_bytes"] for state in ("free", "writing", "leased", "evictable", "quarantined")}


METRICS = tuple(
    Metric(f"mmplane_sidecar_{name}", kind, text, labels, partial(_each, find))  # type: ignore[arg-type]
    for name, kind, text, labels, find in (
        ("sessions", "gauge", "Attached processes.", ("role",), lambda now: dict(now["sessions"])),
        ("parted", "gauge", "Of these, closed ones whose exit has not been seen.", (), lambda now: now["parted"]),
        ("requests", "gauge", "What they wait for.", (), lambda now: now["requests"]),
        ("holds", "gauge", "Items that producers hold.", (), lambda now: now["holds"]),
        ("leases", "gauge", "Messages whose leases are open.", (), lambda now: now["leases"]),
        ("strays_total", "counter", "Ends of leases that are not open.", (), lambda now: now["strays"]),
        (
            *("unprofiled_total", "counter", "Media refused because the decode profile does not cover it."),
            *(("reason",), lambda now: dict(now["unprofiled"])),
        ),
        ("materialisations_total", "counter", "Items made.", (), lambda now: now["materialisations"]),
        ("written_bytes_total", "counter", "Bytes of features written.", (), lambda now: now["bytes_written"]),
        ("arena_bytes", "gauge", "Shared memory by state.", ("state",), _arena),
        ("workers", "gauge", "Workers by state.", ("state",), lambda now: now["workers"]["states"]),
        ("budget_bytes", "gauge", "Reserved for media under way.", (), lambda now: now["budget"]["reserved_bytes"]),
    )
)
"""Every metric of a sidecar; docs/sidecar.md lists them."""


async def serve(port: int, statistics: Callable[[], Now]) -> asyncio.Server:
    """Answer scrapes from now on. Raises OSError if the port is not available."""
    return await asyncio.start_server(partial(_answer, statistics), HOST, port, limit=HEAD_BYTES_MAX)


async def _answer(statistics: Callable[[], Now], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(SECONDS_MAX):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_reply(head, statistics))
            await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # not a scrape, or the client is gone
    finally:
        writer.close()


def _reply(head: bytes, statistics: Callable[[], Now]) -> bytes:
    if not head.startswith(b"GET /metrics "):
        return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    body = exposition(Figures(statistics()), METRICS)
    head_lines = f"HTTP/1.1 200 OK\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close"
    return head_lines.encode() + b"\r\n\r\n" + body
