"""The plugin's part in this process: none, or that of an API server, an engine core or a worker.

The launcher puts the common settings into the environment. Each part starts where vLLM builds its own, and a process
that is forked later starts anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from threading import Thread

import torch

from mmplane.embed.client import Client, connect
from mmplane.embed.errors import SidecarError
from mmplane.embed.inbox import Inbox
from mmplane.engines.kit import device
from mmplane.engines.kit.sidecar import Place
from mmplane.engines.vllm.core import Waiting
from mmplane.engines.vllm.frontend import Frontend
from mmplane.engines.vllm.rank import Rank
from mmplane.engines.vllm.settings import CARRY

log = logging.getLogger("vllm.mmplane")

PLACE_VARIABLE = "MMPLANE_VLLM_PLACE"
"""The variable through which the launcher's children find the sidecar."""
DECIDED_VARIABLE = "MMPLANE_VLLM_DECIDED"
"""The modes that are on, as decided by the launcher."""
ATTACH_S = 600.0
"""How long a sidecar may take to start: it may have to compile kernels."""
ANSWER_S = 10.0
"""How long an answer may take before an item takes vLLM's own path."""


class Attaching:
    """A client that attaches in a thread, because an API server must not wait for the sidecar to start."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._client: Client | None = None
        Thread(target=self._attach, name="mmplane: attach", daemon=True).start()

    def __call__(self) -> Client | None:
        """The client; None until it is attached, or if it could not be."""
        return self._client

    def _attach(self) -> None:
        try:
            self._client = connect(
                self._place.socket, arena_bytes=self._place.region_bytes, limit_s=ANSWER_S, wait_s=ATTACH_S
            )
        except SidecarError as error:
            log.warning("mmplane: off in this API server: %s", error)


@dataclass
class Here:
    """The parts of this process."""

    pid: int = field(default_factory=os.getpid)
    client: Attaching | None = None
    frontend: Frontend | None = None
    waiting: Waiting | None = None
    rank: Rank | None = None


_here = Here()


def here() -> Here:
    """This process's parts."""
    global _here
    if _here.pid != os.getpid():
        _here = Here()
    return _here


def decide(modes: Iterable[str]) -> None:
    """In the launcher: switch these modes on, here and in the processes that it starts."""
    os.environ[DECIDED_VARIABLE] = ",".join(sorted(modes))


def does(mode: str) -> bool:
    """Whether this mode is on in this server."""
    return PLACE_VARIABLE in os.environ and mode in os.environ.get(DECIDED_VARIABLE, "").split(",")


def begin_client() -> Attaching | None:
    """Return an API server's client, started once; None if the plugin is off."""
    place, parts = Place.inherited(PLACE_VARIABLE), here()
    if parts.client is None and place is not None:
        parts.client = Attaching(place)
    return parts.client


def client() -> Client | None:
    """An API server's client; None until it is attached, and in other processes."""
    attaching = here().client
    return None if attaching is None else attaching()


def begin_frontend() -> Frontend | None:
    """An API server's part; None if features are not carried."""
    client = begin_client()
    if client is None or not does(CARRY):
        return None
    here().frontend = Frontend(client)
    return here().frontend


def begin_waiting() -> Waiting | None:
    """An engine core's part; None if features are not carried."""
    place = Place.inherited(PLACE_VARIABLE)
    here().waiting = Waiting(place.socket) if place is not None and does(CARRY) else None
    return here().waiting


def begin_rank(group: int, rank: int, ranks: int) -> None:
    """A worker's part, if features are carried."""
    place = Place.inherited(PLACE_VARIABLE)
    if place is not None and does(CARRY):
        access = device.begin(torch)
        attach = partial(Inbox, place.socket, rank, group=group, ranks=ranks, access=access, wait_s=ATTACH_S)
        here().rank = Rank(attach)
