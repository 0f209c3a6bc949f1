"""What a scout and its parent, a supervisor or a router, say to each other. All of it is bounded, and none of it names
memory or a process.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mmplane.core.records import Record

Label = Annotated[str, Meta(max_length=256)]
Port = Annotated[int, Meta(ge=1, le=65535)]
REPLICAS_MAX = 128
"""More than a router takes."""


class MachineUp(Record, frozen=True, tag="machine_up"):
    """Scout -> supervisor: this machine is in the cluster, or came back."""

    address: Label
    name: Label


class MachineGone(Record, frozen=True, tag="machine_gone"):
    """Scout -> supervisor: it is not there any more."""

    address: Label
    name: Label


class MachinesWanted(Record, frozen=True, tag="machines_wanted"):
    """What the machines should run, as `mmplane.ray.wanted.encoded`.

    Scout -> supervisor when it changes. Supervisor -> the next scout: it is for a cluster that has forgotten it.
    """

    wanted: Annotated[bytes, Meta(max_length=32 * 1024)]


class ReplicasAt(Record, frozen=True, tag="replicas_at"):
    """Scout -> parent when it changes: address and port of each server that Ray runs, whether it is ready or not."""

    replicas: Annotated[tuple[tuple[Label, Port], ...], Meta(max_length=REPLICAS_MAX)]


FromScout = MachineUp | MachineGone | MachinesWanted | ReplicasAt
