"""What the machines of a Ray cluster should run, and what has to start or to end for it. Pure.

`mmplane ray up` writes it down in the cluster, where the scouts of servers find it. `mmplane ray down` writes that
nothing is wanted. A cluster in which nothing is written is a new one: it is told what was wanted last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2s
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from mmplane.core.records import Count, Record

WORDS_MAX = 256
MACHINES_MAX = 1024
Word = Annotated[str, Meta(max_length=4096)]
_SEP = "-"


class Wanted(Record, frozen=True):
    """One command line of mmplane, for each of up to `machines_max` machines but the one at `without`."""

    kind: Literal["media", "replica"]
    words: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=WORDS_MAX)]
    machines_max: Annotated[int, Meta(ge=1, le=MACHINES_MAX)] = MACHINES_MAX
    without: Word = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Where each replica listens, on its machine's address."""


All = Annotated[tuple[Wanted, ...], Meta(max_length=2)]
"""Everything that is wanted, at most one of each kind."""


class Standing(Record, frozen=True):
    """How the command of a machine does. Times in seconds, of that machine's own clock."""

    pid: Count
    """0: it does not run now."""
    up_s: float
    starts: Count
    last_code: int | None
    """How it ended the last time: its exit code, or minus a signal's number."""


class Node(NamedTuple):
    """A machine as Ray knows it. A machine that comes back has another `id`."""

    id: str
    address: str
    name: str


class Due(NamedTuple):
    """What differs from what is wanted: hosts to start, by name, and names of those to end."""

    start: dict[str, tuple[Node, Wanted]]
    end: list[str]


def encoded(wanted: tuple[Wanted, ...]) -> bytes:
    """As it lies in the cluster, and in a supervisor."""
    return msgspec.msgpack.encode(wanted)


def decoded(content: bytes) -> tuple[Wanted, ...]:
    """Raises ValueError for what no version of ours wrote."""
    try:
        return _decoder.decode(content)
    except msgspec.MsgspecError as error:
        raise ValueError(f"what is wanted of this Ray cluster cannot be read ({error}): mmplane ray up again") from None


def replaced(wanted: tuple[Wanted, ...], new: Wanted) -> tuple[Wanted, ...]:
    """The same with `new` in the place of what was of its kind."""
    return (*(each for each in wanted if each.kind != new.kind), new)


def host_name(wanted: Wanted, node: Node) -> str:
    """The name of the actor that runs it there. Another command line is another actor."""
    digest = blake2s("\0".join(wanted.words).encode(), digest_size=8).hexdigest()
    return _SEP.join((wanted.kind, node.id, digest))


def node_of(host: str) -> str:
    """The id of the machine on which this actor is."""
    return host.split(_SEP)[1]


def due(wanted: Sequence[Wanted], nodes: Sequence[Node], hosts: Collection[str]) -> Due:
    """What has to start and to end, given the machines that are there and the actors that are. A machine that has its
    actor keeps it.
    """
    should: dict[str, tuple[Node, Wanted]] = {}
    for each in wanted:
        able = {host_name(each, node): (node, each) for node in nodes if node.address != each.without}
        chosen = sorted(able, key=lambda name: (name not in hosts, name))[: each.machines_max]
        should |= {name: able[name] for name in chosen}
    start = {name: where for name, where in should.items() if name not in hosts}
    return Due(start, sorted(set(hosts) - set(should)))


def replicas(wanted: Sequence[Wanted], nodes: Sequence[Node], hosts: Collection[str]) -> list[tuple[str, int]]:
    """Address and port of each server that has its actor."""
    servers = [each for each in wanted if each.kind == "replica" and each.port]
    return sorted((node.address, each.port) for each in servers for node in nodes if host_name(each, node) in hosts)


_decoder: msgspec.msgpack.Decoder[tuple[Wanted, ...]] = msgspec.msgpack.Decoder(All)
