"""Slots that other machines need: each is sent once, a request waits for all of them, and ends with the group."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mmplane.arena.arena import Arena
from mmplane.arena.copies import SENT_MAX
from mmplane.arena.leases import Process
from mmplane.core.copies import Copy, Wrote
from mmplane.core.errors import RequestError
from mmplane.core.records import Item, Tensor
from mmplane.frontend.send.mirrored import Mirrored, plain
from mmplane.wire.link import Link, pair

HANG_S = 60.0
WORKER, OWNER = Process("worker", 1, 1), Process("frontend", 0, 1)


class Rig:
    """An arena, and the links of stand-ins to it."""

    def __init__(self, machines: int) -> None:
        self.arena = Arena((1 << 20, 1 << 20))
        self.mirrored = Mirrored(self.arena)
        self.stand_ins: list[Link[Copy]] = []
        self.connect(machines)

    def connect(self, machines: int) -> None:
        ends: list[socket.socket] = []
        for _ in range(machines):
            ours, theirs = pair()
            ends.append(ours)
            self.stand_ins.append(Link(theirs, Copy))
        self.mirrored.connect([end.detach() for end in ends])

    def item(self, length_bytes: int = 4096) -> Item:
        slot = self.arena.reserve(1, length_bytes, WORKER)
        self.arena.commit(slot, WORKER)
        self.arena.lease(slot, OWNER, slot.generation)
        return Item(b"", "image", slot, (Tensor("a", "uint8", (100,), 0), Tensor("b", "float32", (2,), 1024)))

    def asked(self, machine: int = 0) -> list[Copy]:
        found = []
        while (received := self.stand_ins[machine].receive_nowait()) is not None:
            found.append(received[0])
        return found

    def wrote(self, copy: Copy, machine: int = 0) -> None:
        self.stand_ins[machine].send(Wrote(copy.slot.generation), limit_s=HANG_S)


def played(play: Callable[[Rig], Coroutine[Any, Any, None]], machines: int = 2) -> None:
    async def run() -> None:
        rig = Rig(machines)
        async with asyncio.timeout(HANG_S):
            await play(rig)
        rig.arena.check_integrity()
        rig.mirrored.gone()
        for stand_in in rig.stand_ins:
            stand_in.close()

    asyncio.run(run())


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_without_other_machines_nothing_waits() -> None:
    async def play(rig: Rig) -> None:
        await rig.mirrored.everywhere([rig.item()])

    played(play, machines=0)


def test_a_request_waits_for_every_machine_and_the_next_one_does_not() -> None:
    async def play(rig: Rig) -> None:
        item = rig.item()
        waits = asyncio.create_task(rig.mirrored.everywhere([item]))
        await turn()
        (first,), (second,) = rig.asked(0), rig.asked(1)
        assert first == second == Copy(item.slot, ((0, 100), (1024, 1032))), "arrays, without padding"
        rig.wrote(first, 0)
        await turn()
        assert not waits.done()
        rig.wrote(second, 1)
        await waits
        await rig.mirrored.everywhere([item])
        assert (rig.asked(0), rig.asked(1)) == ([], [])
        assert rig.mirrored.statistics() == {"mirrors": 2, "copies_lacking": 0, "copied_bytes": 2 * 108}

    played(play)


def test_two_requests_for_one_item_wait_for_one_copy() -> None:
    async def play(rig: Rig) -> None:
        item = rig.item()
        waits = [asyncio.create_task(rig.mirrored.everywhere([item])) for _ in range(2)]
        await turn()
        (copy,) = rig.asked()
        waits[0].cancel()
        await turn()
        rig.wrote(copy)
        await waits[1]

    played(play, machines=1)


def test_more_than_may_be_sent_at_once_is_sent_in_turn() -> None:
    async def play(rig: Rig) -> None:
        items = [rig.item() for _ in range(3 * SENT_MAX)]
        waits = asyncio.create_task(rig.mirrored.everywhere(items))
        sent = 0
        while not waits.done():
            await turn()
            asked = rig.asked()
            assert len(asked) <= SENT_MAX
            sent += len(asked)
            for copy in asked:
                rig.wrote(copy)
        assert sent == len(items)
        await waits

    played(play, machines=1)


def test_when_the_group_ends_requests_that_wait_get_503_and_the_next_group_gets_everything() -> None:
    async def play(rig: Rig) -> None:
        item = rig.item()
        waits = asyncio.create_task(rig.mirrored.everywhere([item]))
        await turn()
        (copy,) = rig.asked()
        rig.mirrored.gone()
        with pytest.raises(RequestError) as refused:
            await waits
        assert refused.value.status == 503
        rig.connect(1)
        again = asyncio.create_task(rig.mirrored.everywhere([item]))
        await turn()
        assert rig.asked(1) == [copy]
        rig.wrote(copy, 1)
        await again

    played(play, machines=1)


def test_what_an_earlier_front_end_has_asked_for_is_ignored() -> None:
    async def play(rig: Rig) -> None:
        rig.stand_ins[0].send(Wrote(1 << 50), limit_s=HANG_S)
        await turn()
        assert rig.mirrored.statistics()["mirrors"] == 1

    played(play, machines=1)


def test_a_slot_that_is_being_copied_is_not_used_again() -> None:
    async def play(rig: Rig) -> None:
        item = rig.item()
        waits = asyncio.create_task(rig.mirrored.everywhere([plain(item.slot)]))
        await turn()
        (copy,) = rig.asked()
        assert copy.spans == ((0, item.slot.length_bytes),)
        rig.arena.release(item.slot, OWNER, item.slot.generation)
        free = rig.arena.statistics()
        rig.wrote(copy)
        await asyncio.gather(waits, return_exceptions=True)
        assert rig.arena.statistics() != free, "its bytes are free only now"

    played(play, machines=1)
