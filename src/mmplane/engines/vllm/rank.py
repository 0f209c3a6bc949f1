"""In a worker: turns records into tensors over the arena, and keeps them until the request has ended.

A worker may need the features of a request more than once: the encoder runs again after a preemption, and the second
runner receives the request again. So a view lives until the engine lists the request as finished, which it does for
every request, however it ended.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any

import torch

from mmplane.embed.inbox import Inbox, View
from mmplane.embed.records import Leased
from mmplane.engines.vllm.held import is_lent, leased_of, restored

log = logging.getLogger("vllm.mmplane")

ATTACHED_LIMIT_S = 30.0
"""Between this rank's report that it is attached and the end of its thread, nothing takes time."""


class Rank:
    """This worker's inbox, which attaches in a thread: loading a model takes longer than starting a sidecar.

    Records arrive only after all ranks of the group are attached, so waiting for the thread then takes no time.
    """

    def __init__(self, attach: Callable[[], Inbox]) -> None:
        self._inbox: Future[Inbox] = Future()
        Thread(target=self._attach, args=(attach,), name="mmplane: attach", daemon=True).start()
        self._views: defaultdict[str, dict[tuple[bytes, int], View]] = defaultdict(dict)

    def apply(self, output: Any) -> None:
        """Provide the features of new requests in a scheduler's output, and release those of finished requests."""
        for request_id in output.finished_req_ids:
            self._views.pop(request_id, None)
        for new in output.scheduled_new_reqs:
            if any(is_lent(feature) for feature in new.mm_features):
                views = self._views[new.req_id]
                new.mm_features = [self._opened(feature, views) for feature in new.mm_features]

    def _attach(self, attach: Callable[[], Inbox]) -> None:
        try:
            self._inbox.set_result(attach())
        except Exception as error:  # noqa: BLE001 - it is for whoever waits; nobody leases to this rank
            log.warning("mmplane: off: this worker cannot attach to the sidecar (%s)", error)
            self._inbox.set_exception(error)

    def _opened(self, feature: Any, views: dict[tuple[bytes, int], View]) -> Any:
        if not is_lent(feature):
            return feature
        leased = leased_of(feature)
        view = views.get((leased.plane, leased.lease)) or self._open(leased, views)
        return restored(feature, view.arrays(torch))

    def _open(self, leased: Leased, views: dict[tuple[bytes, int], View]) -> View:
        view = views[leased.plane, leased.lease] = self._inbox.result(ATTACHED_LIMIT_S).open(leased)
        return view
