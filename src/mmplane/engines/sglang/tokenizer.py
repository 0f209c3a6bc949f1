"""Hooks in a tokenizer process. `carrier` does the work, in threads, while a request is tokenised.

A request is tokenised once and may be sent several times (n > 1), so it carries a lease for each message. Sending
takes one of them and waits for nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Any

import fastapi
from sglang.srt.environ import envs

from mmplane.embed.records import Leased
from mmplane.engines.kit.sidecar import Place
from mmplane.engines.sglang import identity, pointer
from mmplane.engines.sglang.building import route
from mmplane.engines.sglang.building.choice import goes_by_arena
from mmplane.engines.sglang.carrier import Carrier, Refused
from mmplane.engines.sglang.launcher import PLACE_VARIABLE
from mmplane.engines.sglang.metrics import Metrics

log = logging.getLogger("mmplane")

CARRIER = "mmplane_carrier"
"""The attribute of a TokenizerManager that holds its carrier, because one process may have several."""

_identifies = False
"""Whether this process tokenises with the plugin on. On ranks, items must get the names that all ranks compute."""


def start(original: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
    """Wraps `TokenizerManager.__init__`: this is a tokenizer process. It starts even if something here fails."""
    global _identifies
    original(self, *args, **kwargs)
    route.attach(workers=self.server_args.tokenizer_worker_num)
    try:
        place = Place.inherited(PLACE_VARIABLE)
        if place is None:
            return
        setattr(self, CARRIER, Carrier(place, Metrics()))
        _identifies = True
    except Exception:
        log.exception("mmplane: off in this tokenizer process")


async def tokenize(original: Callable[..., Awaitable[Any]], self: Any, obj: Any) -> Any:
    """Wraps `TokenizerManager._tokenize_one_request`."""
    tokenized = await original(self, obj)
    carrier: Carrier | None = getattr(self, CARRIER, None)
    if tokenized.mm_inputs is not None and await goes_by_arena(tokenized.mm_inputs) and carrier is not None:
        samples = getattr(getattr(tokenized, "sampling_params", None), "n", 1)
        try:
            await carrier.carry(
                tokenized.mm_inputs.mm_items,
                messages=1 if samples == 1 else samples + 1,  # one fills the cache for the others
                trusted=not any(getattr(obj, given, None) for given in ("mm_hashes", "mm_content_hashes")),
            )
        except Refused as refused:
            raise fastapi.HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, f"{refused}: try again later") from refused
    return tokenized


def dispatch(original: Callable[..., None], self: Any, obj: Any) -> None:
    """Wraps `TokenizerManager._dispatch_to_scheduler`: the message takes a lease, which ends if it is not sent."""
    carrier: Carrier | None = getattr(self, CARRIER, None)
    if carrier is None:
        return original(self, obj)
    lent: list[Leased] = []

    def lend(value: Any, _place: str) -> Any:
        if not pointer.is_ours(value):
            return value
        lent.append(value.mmplane_leases.take())
        return pointer.lent(value, lent[-1])

    try:
        for request in _requests(obj):
            for item in request.mm_inputs.mm_items:
                pointer.replace(item, lend)
        return original(self, obj)
    except BaseException:
        carrier.revoke(*lent)
        raise


def set_pad_value(original: Callable[..., None], self: Any) -> None:
    """Wraps `MultimodalDataItem.set_pad_value`. An item that already has a name keeps it."""
    skip = envs.SGLANG_MM_SKIP_COMPUTE_HASH.get()
    if not _identifies or skip or self.pad_value is not None or self.hash is not None or not identity.is_local(self):
        return original(self)
    try:
        identity.name(self)
    except TypeError:
        return original(self)
    return None


def _requests(message: Any) -> Iterator[Any]:
    for request in getattr(message, "batch", None) or (message,):
        if getattr(request, "mm_inputs", None) is not None:
            yield request
