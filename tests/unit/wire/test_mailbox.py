"""A link on an event loop: records keep their order, nobody waits, and a lost peer is told once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from frontend_rig import Peer

from frontend_loop import in_loop, settle
from mmplane.core.control import Beat, FromChild, RanksGone, ToFrontend, Unloadable, WorkerUp
from mmplane.wire.link import Link, pair
from mmplane.wire.mailbox import OUTBOX_MAX, Mailbox

LONG = 10_000


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Kept:
    """What a mailbox told its owner."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.descriptors: list[int] = []
        self.lost = 0

    def receive(self, record: Any, descriptors: list[int]) -> None:
        self.records.append(record)
        self.descriptors += descriptors

    def lose(self) -> None:
        self.lost += 1


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Mailbox, Kept, Peer]]:
    ours, theirs = pair()
    kept, peer = Kept(), Peer(theirs, FromChild)
    mailbox = Mailbox(Link(ours, ToFrontend), receive=kept.receive, lost=kept.lose)
    yield mailbox, kept, peer
    mailbox.close()
    peer.close()


@in_loop
async def test_records_come_in_as_calls() -> None:
    async with connected() as (_, kept, peer):
        peer.say(*(RanksGone(number) for number in range(100)))
        await settle()
        assert kept.records == [RanksGone(number) for number in range(100)]


@in_loop
async def test_descriptors_come_with_their_record() -> None:
    async with connected() as (_, kept, peer):
        read, write = os.pipe()
        peer._link.send_nowait(WorkerUp(1, 2), [write])
        await settle()
        assert kept.records == [WorkerUp(1, 2)]
        os.write(kept.descriptors[0], b"x")
        assert os.read(read, 1) == b"x"
        for descriptor in (read, write, *kept.descriptors):
            os.close(descriptor)


@in_loop
async def test_records_go_out_at_once() -> None:
    async with connected() as (mailbox, _, peer):
        assert mailbox.post(Beat())
        assert await peer.hear_all() == [Beat()]


@in_loop
async def test_a_peer_that_does_not_read_holds_nobody_up_and_gets_all_in_order() -> None:
    async with connected() as (mailbox, kept, peer):
        sent = [Unloadable(f"{number:04}" + "x" * LONG) for number in range(200)]
        assert all(mailbox.post(record) for record in sent), "more than a socket holds"
        await settle()
        heard = []
        while len(heard) < len(sent):
            heard.append(await peer.hear())
        assert heard == sent
        assert mailbox.post(Beat())
        assert await peer.hear_all() == [Beat()]
        assert kept.lost == 0


@in_loop
async def test_what_waits_is_bounded() -> None:
    async with connected() as (mailbox, _, peer):
        record = Unloadable("x" * LONG)
        sent = 0
        while mailbox.post(record):
            sent += 1
            assert sent < 10 * OUTBOX_MAX
        assert sent >= OUTBOX_MAX
        heard = 0
        while heard < sent:
            heard += await peer.hear() == record
        await settle()
        assert mailbox.post(Beat()), "and there is room again"
        assert await peer.hear_all() == [Beat()]


@in_loop
async def test_a_peer_that_goes_is_told_once_after_what_it_said() -> None:
    async with connected() as (mailbox, kept, peer):
        peer.say(RanksGone(1))
        peer.close()
        await settle()
        assert (kept.records, kept.lost) == ([RanksGone(1)], 1)
        assert not mailbox.post(Beat())
        mailbox.close()
        assert kept.lost == 1


@in_loop
async def test_a_peer_that_goes_while_much_waits_for_it() -> None:
    async with connected() as (mailbox, kept, peer):
        for _ in range(200):
            mailbox.post(Unloadable("x" * LONG))
        peer.close()
        await settle()
        assert kept.lost == 1
        assert not mailbox.post(Beat())


@pytest.mark.parametrize("junk", [b"junk", b"\x92\xaaranks_gone\xff", b"\x92\xaaunloadable\xa1\xff", b"x" * 100_000])
@in_loop
async def test_a_peer_that_sends_junk_is_lost(junk: bytes) -> None:
    async with connected() as (_, kept, peer):
        peer.say(RanksGone(1))
        peer._link._socket.send(junk)
        await settle()
        assert (kept.records, kept.lost) == ([RanksGone(1)], 1)
        assert await peer.is_left()


@in_loop
async def test_closed_is_closed() -> None:
    before = open_files()
    async with connected() as (mailbox, kept, peer):
        peer.say(RanksGone(1))
        mailbox.close()
        await settle()
        assert (kept.records, kept.lost) == ([], 0), "its owner wants nothing more"
        assert not mailbox.post(Beat())
        assert await peer.is_left()
    assert open_files() == before


@in_loop
async def test_an_owner_may_close_it_from_inside_the_call() -> None:
    ours, theirs = pair()
    peer = Peer(theirs, FromChild)
    heard: list[Any] = []

    def receive(record: Any, _: list[int]) -> None:
        heard.append(record)
        mailbox.close()

    mailbox = Mailbox(Link(ours, ToFrontend), receive=receive)
    peer.say(RanksGone(1), RanksGone(2))
    await settle()
    assert heard == [RanksGone(1)]
    peer.close()
