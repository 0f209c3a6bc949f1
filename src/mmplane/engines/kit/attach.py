"""Attaches to the sidecar while the server starts, in a separate thread, so that neither waits for the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from mmplane.embed.errors import Lost, NotAttached

log = logging.getLogger("mmplane")

LIMIT_S = 300.0
"""How long a sidecar may take until it accepts this process; with a model it may have to compile."""
RETRY_S = 0.2

T = TypeVar("T")


def attach(make: Callable[[], T]) -> Future[T]:
    """Return what `make` returns, a client or an inbox, once the sidecar accepts it.

    A refusal may be temporary: the sidecar may lack a descriptor, or may not have noticed yet that a predecessor has
    ended.
    """
    attached: Future[T] = Future()
    Thread(target=_run, args=(make, attached), name="mmplane: attach", daemon=True).start()
    return attached


def _run(make: Callable[[], T], attached: Future[T]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        try:
            attached.set_result(make())
        except (Lost, NotAttached, OSError) as error:
            if time.monotonic() < deadline_s:
                time.sleep(RETRY_S)
                continue
            log.warning("mmplane: off in this process: %s", error)
            attached.set_exception(error)
        except Exception as error:  # noqa: BLE001 - the engine serves without the arena
            log.warning("mmplane: off in this process: %s", error)
            attached.set_exception(error)
        return
