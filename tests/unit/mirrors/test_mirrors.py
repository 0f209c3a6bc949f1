"""A plane with a mirror: ranks there see the same bytes, which cross once, and no byte is used again too early."""

from __future__ import annotations

import gc
import mmap
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import numpy as np
import pytest
from mirror_rig import HANG_S, KEY, Mirrored, mirrored

from certificates import write_certificate
from embed_rig import MIB, Remote, floats, key
from mmplane import Inbox, Leased, Plane
from mmplane.arena.copies import MIRRORS_MAX
from mmplane.arena.errors import ArenaFull, Owned
from mmplane.core.copies import ARRAYS_MAX
from mmplane.core.records import Record, Slot
from mmplane.embed.plane import NotJoined, NotMirrored
from mmplane.machines import copying
from mmplane.machines.dial import Server, dialled
from mmplane.machines.greeting import Refusal
from mmplane.machines.pin import pin_of_file, server_context
from mmplane.machines.records import Hello
from mmplane.mirrors import mirror as mirror_module
from mmplane.mirrors.mirror import Mirror
from mmplane.mirrors.producer import Mirrors, Visit
from mmplane.mirrors.records import Copy, Joining, Opened, Prepared, Told, ToMirror, Wrote
from mmplane.wire.framed import Framed
from mmplane.wire.link import LinkError
from mmplane.wire.private import check_private
from mutation import Mutant, check_it_is_killed
from polling import until


def until_it_ends(stream: Framed[Any]) -> Iterator[Record]:
    with suppress(LinkError):
        while True:
            yield stream.receive()


def ready(rig: Mirrored, mirror: Mirror, *, here: int = 1) -> list[Inbox]:
    """Ranks 0 to `here` of this machine, the others at the mirror; all have joined."""
    ranks = range(rig.address.ranks)
    inboxes = [Inbox(rig.address if rank < here else mirror.address, rank) for rank in ranks]
    until(rig.plane.is_ready)
    return inboxes


def put(rig: Mirrored, seed: int, count: int = 100_000) -> Leased:
    hold = rig.plane.put(key(seed), {"f": floats(seed, count)})
    assert rig.plane.wait(hold, limit_s=HANG_S)
    return hold.lease()


def seen(inbox: Inbox, leased: Leased) -> Any:
    return inbox.open(leased).arrays(np)["f"]


def test_ranks_of_both_machines_see_what_was_put(rig: Mirrored) -> None:
    inboxes = ready(rig, rig.mirror())
    features = {"f": floats(1).reshape(100, -1), "grid": np.array([[1, 2, 3]]), "none": np.empty((0, 7), np.float16)}
    hold = rig.plane.put(key(1), features)
    assert rig.plane.wait(hold, limit_s=HANG_S)
    record = hold.lease().encode()
    for inbox in inboxes:
        arrays = inbox.open(Leased.decode(record)).arrays(np)
        for name, array in features.items():
            assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
            assert arrays[name].tobytes() == array.tobytes()


def test_the_bytes_cross_once_for_all_ranks_and_messages(rig: Mirrored) -> None:
    inboxes = ready(rig, rig.mirror())
    for _ in range(3):
        leased = put(rig, 1)
        assert all(np.array_equal(seen(inbox, leased), floats(1)) for inbox in inboxes)
    assert rig.figure("copied_bytes") == floats(1).nbytes
    for _ in range(2):
        rig.mirror()
    until(lambda: rig.figure("mirrors") == 3)
    hold = rig.plane.put(key(2), {"f": floats(2)})
    until(lambda: rig.figure("copies_lacking") == 0)
    assert rig.figure("copied_bytes") == floats(1).nbytes + 3 * hold.item.slot.length_bytes


def test_a_lease_ends_when_every_rank_of_both_machines_has_ended_its_share(rig: Mirrored) -> None:
    inboxes = ready(rig, rig.mirror())
    leased = put(rig, 1)
    views = [seen(inbox, leased) for inbox in inboxes]
    for _ in range(2):
        views.pop(0)
        gc.collect()
        assert rig.figure("leases") == 1
    views.clear()
    until(lambda: rig.figure("leases") == 0)
    assert rig.leased_bytes() == 0
    assert rig.figure("strays") == 0


def test_memory_is_used_again_and_again_and_every_rank_sees_the_newest_item(rig: Mirrored) -> None:
    inboxes = ready(rig, rig.mirror())
    for seed in range(40):
        leased = put(rig, seed, 230_000)  # four of them fit
        assert all(np.array_equal(seen(inbox, leased), floats(seed, 230_000)) for inbox in inboxes)
    assert rig.figure("arena").evictions > 30


def check_nothing_is_leased_before_it_is_there() -> None:
    with mirrored(groups=(1, 1)) as rig:
        impostor = rig.impostor()
        Inbox(rig.address, 0)
        impostor.stream.send(Told(joined=(1,)))
        until(rig.plane.is_ready)
        hold = rig.plane.put(key(1), {"f": floats(1)})
        assert hold.lease(0).item == hold.item, "ranks on this machine need no mirror"
        for group in (1, None):
            assert not rig.plane.wait(hold, limit_s=0, group=group)
            with pytest.raises(NotMirrored):
                hold.lease(group)
        impostor.stream.send(Wrote(impostor.received()[0].slot.generation))
        assert rig.plane.wait(hold, limit_s=HANG_S)
        assert hold.lease(1).item == hold.lease().item == hold.item


def test_nothing_is_leased_before_it_is_there() -> None:
    check_nothing_is_leased_before_it_is_there()


def test_a_slot_that_is_being_sent_is_not_used_again() -> None:
    with mirrored(arena_bytes=MIB) as rig:
        impostor = rig.impostor()
        rig.plane.put(key(1), {"f": floats(1, 200_000)})
        copy, content = impostor.received()
        assert content == floats(1, 200_000).tobytes()
        with pytest.raises(ArenaFull) as full:
            rig.plane.put(key(2), {"f": floats(2, 200_000)})
        assert not full.value.ever
        impostor.stream.send(Wrote(copy.slot.generation))
        until(lambda: rig.leased_bytes() == 0)
        rig.plane.put(key(2), {"f": floats(2, 200_000)})


def check_padding_never_leaves() -> None:
    """A slot that was full of a secret is used again for short arrays with padding between them."""
    with mirrored(groups=(1,), arena_bytes=mmap.PAGESIZE) as rig:
        rig.plane.put(key(1), {"f": np.full(mmap.PAGESIZE, 0x5C, np.uint8)})
        impostor = rig.impostor()
        short = {name: np.full(length, 1, np.uint8) for name, length in (("a", 3), ("b", 65), ("c", 1))}
        hold = rig.plane.put(key(2), short)
        copy, content = impostor.received()
        assert copy == Copy(hold.item.slot, ((0, 3), (64, 129), (192, 193)))
        assert content == bytes([1]) * 69
        impostor.stream.send(Wrote(copy.slot.generation))
        until(lambda: rig.figure("copied_bytes") == 69)


def test_padding_never_leaves() -> None:
    check_padding_never_leaves()


def test_a_mirror_that_joins_late_gets_what_is_held_and_what_is_held_again(rig: Mirrored) -> None:
    held = rig.plane.put(key(1), {"f": floats(1)})
    rig.plane.put(key(2), {"f": floats(2)})
    inboxes = ready(rig, rig.mirror())
    assert rig.plane.wait(held, limit_s=HANG_S)
    assert np.array_equal(seen(inboxes[2], held.lease()), floats(1))
    assert rig.figure("copied_bytes") == floats(1).nbytes
    again = rig.plane.get(key(2))
    assert again is not None
    assert rig.plane.wait(again, limit_s=HANG_S)
    assert np.array_equal(seen(inboxes[2], again.lease()), floats(2))


def test_a_rank_that_dies_at_the_mirror_holds_nothing(rig: Mirrored) -> None:
    mirror = rig.mirror()
    here, there = Inbox(rig.address, 0), Inbox(mirror.address, 1)
    remote = Remote(mirror.address, 2)
    until(rig.plane.is_ready)
    leased = put(rig, 1)
    kept = remote.tell("open", leased)
    assert kept == float(floats(1).sum())
    assert all(np.array_equal(seen(inbox, leased), floats(1)) for inbox in (here, there))
    assert rig.figure("leases") == 1
    remote.kill()
    until(lambda: rig.figure("leases") == 0)
    assert rig.figure("dead") == 1
    assert not rig.plane.is_ready()


def check_a_lost_mirror_loses_its_ranks() -> None:
    with mirrored() as rig:
        mirror = rig.mirror()
        inboxes = ready(rig, mirror)
        leased = put(rig, 1)
        views = [seen(inbox, leased) for inbox in inboxes]
        waiting = rig.plane.put(key(2), {"f": floats(2)})
        mirror.end()
        until(lambda: rig.figure("mirrors") == 0)
        assert rig.figure("dead") == 2
        assert rig.figure("leases") == 1, "this machine's rank still reads"
        assert rig.plane.wait(waiting, limit_s=HANG_S), "nobody is waited for"
        with pytest.raises(NotJoined):
            waiting.lease()
        until(lambda: rig.ended)
        assert all(np.array_equal(view, floats(1)) for view in views), "what they have opened stays"
        del views
        gc.collect()
        assert rig.figure("leases") == 0


def test_a_lost_mirror_loses_its_ranks_and_they_keep_what_they_read() -> None:
    check_a_lost_mirror_loses_its_ranks()


def test_half_a_slot_then_cut_and_the_next_mirror_has_it_whole(rig: Mirrored) -> None:
    impostor = rig.impostor()
    hold = rig.plane.put(key(1), {"f": floats(1, 900_000)})
    impostor.announced()
    impostor.stream.receive_into(memoryview(bytearray(100_000)))
    impostor.stream.end()
    until(lambda: rig.figure("mirrors") == 0)
    assert rig.figure("copied_bytes") == 0
    inboxes = ready(rig, rig.mirror())
    assert rig.plane.wait(hold, limit_s=HANG_S)
    leased = hold.lease()
    assert all(np.array_equal(seen(inbox, leased), floats(1, 900_000)) for inbox in inboxes)


def test_a_mirror_that_gets_half_a_slot_acknowledges_nothing() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with mirrored() as rig, pytest.MonkeyPatch.context() as patch, listener:
        ours, theirs = socket.create_connection(listener.getsockname()), listener.accept()[0]
        patch.setattr(mirror_module, "dialled", lambda *_, **__: theirs)
        stream: Framed[Any] = Framed(ours, Prepared | Wrote | Told | mirror_module.Pulse, silence_s=HANG_S)
        stream.send(Opened(rig.address.plane, MIB, mmap.PAGESIZE, (1,)))
        mirror = Mirror(rig.server)
        why: list[str] = []
        thread = Thread(target=lambda: why.append(mirror.run()))
        thread.start()
        assert isinstance(stream.receive(), Prepared)
        stream.send(Copy(Slot(0, 4096, 1000, 7), ((0, 1000),)), [memoryview(bytes(500))])
        ours.shutdown(socket.SHUT_WR)
        assert not any(isinstance(record, Wrote) for record in until_it_ends(stream))
        stream.close()
        thread.join(HANG_S)
        assert why == ["the connection was closed"]


@pytest.mark.parametrize(
    "copy",
    [
        Copy(Slot(0, MIB, 4096, 1), ()),
        Copy(Slot(0, 0, 100, 1), ((0, 101),)),
        Copy(Slot(0, 0, 100, 1), ((50, 40),)),
    ],
    ids=["slot", "span", "backwards"],
)
def test_a_mirror_writes_nowhere_else(copy: Copy) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with pytest.MonkeyPatch.context() as patch, listener:
        ours, theirs = socket.create_connection(listener.getsockname()), listener.accept()[0]
        patch.setattr(mirror_module, "dialled", lambda *_, **__: theirs)
        stream: Framed[Any] = Framed(ours, Prepared, silence_s=HANG_S)
        stream.send(Opened(bytes(16), MIB, mmap.PAGESIZE, (1,)))
        mirror = Mirror(Server(("127.0.0.1", 1), KEY))
        stream.send(copy, [memoryview(bytes(200))])
        assert re.search("(in|out)side", mirror.run())
        stream.close()


def check_a_mirror_speaks_for_its_own_ranks() -> None:
    with mirrored(groups=(2,)) as rig:
        here = Inbox(rig.address, 0)
        impostor, other = rig.impostor(), rig.impostor()
        impostor.stream.send(Told(joined=(1,)))
        until(rig.plane.is_ready)
        hold = rig.plane.put(key(1), {"f": floats(1)})
        impostor.stream.send(Wrote(impostor.received()[0].slot.generation))
        assert rig.plane.wait(hold, limit_s=HANG_S)
        leased = hold.lease()
        strays = [(leased.lease, 0), (leased.lease, 9), (99, 1)]
        impostor.stream.send(Told(joined=(0, 1, 9), ended=tuple(strays), died=(0, 9)))
        other.stream.send(Told(joined=(1,), ended=((leased.lease, 1),), died=(1,)))
        until(lambda: rig.figure("strays") == 8)
        assert (rig.figure("leases"), rig.figure("dead"), rig.figure("joined")) == (1, 0, 2)
        seen(here, leased)
        impostor.stream.send(Told(ended=((leased.lease, 1),)))
        until(lambda: rig.figure("leases") == 0)


def test_a_mirror_speaks_for_its_own_ranks() -> None:
    check_a_mirror_speaks_for_its_own_ranks()


def test_a_mirror_that_acknowledges_what_it_was_not_sent_is_lost(rig: Mirrored) -> None:
    rig.impostor().stream.send(Wrote(77))
    until(lambda: rig.figure("mirrors") == 0)


def test_there_are_no_more_leases_than_the_smallest_pipe_has_room_for(rig: Mirrored) -> None:
    rig.impostor()  # it can report 1024 ends
    assert rig.plane._leases_max == 1024 // 3 - 1


def test_the_address_of_a_mirror_is_for_ranks_only(rig: Mirrored) -> None:
    with pytest.raises(Owned):
        Plane(rig.mirror().address)


def test_a_wrong_key_is_refused(rig: Mirrored) -> None:
    with pytest.raises((Refusal, LinkError)):
        Mirror(Server(rig.server.address, b"x" * 32))
    assert rig.figure("mirrors") == 0
    ready(rig, rig.mirror())


def test_a_media_machine_is_no_mirror(rig: Mirrored) -> None:
    end = dialled(rig.server, Hello("machine", "jobs", 2), seconds=HANG_S)
    stream: Framed[Any] = Framed(end, ToMirror, silence_s=HANG_S)
    with pytest.raises(LinkError):
        stream.receive()
    stream.close()
    assert rig.figure("mirrors") == 0


def test_one_more_than_allowed_is_told_so(rig: Mirrored) -> None:
    for _ in range(MIRRORS_MAX):
        rig.impostor()
    mirror = Mirror(rig.server)
    assert f"the {MIRRORS_MAX} mirrors" in mirror.run()


def test_another_page_size_is_refused(rig: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    before = msgspec.structs.replace
    monkeypatch.setattr(mirror_module, "expected", lambda stream, kind: before(stream.receive(), page_bytes=65536))
    with pytest.raises(Refusal, match="pages of 65536 bytes"):
        Mirror(rig.server)


def test_an_item_of_very_many_arrays_is_refused_at_once(rig: Mirrored) -> None:
    with pytest.raises(ValueError, match="at most 2048 arrays"):
        rig.plane.draft([(str(number), "uint8", (1,)) for number in range(ARRAYS_MAX + 1)])
    impostor = rig.impostor()
    arrays = [(str(number), "uint8", (1,)) for number in range(ARRAYS_MAX)]
    hold = rig.plane.draft(arrays).publish(key(1))
    assert len(impostor.received()[1]) == ARRAYS_MAX
    hold.release()


def test_over_tls_with_a_pinned_certificate(tmp_path: Path) -> None:
    pem = write_certificate(tmp_path / "a.pem").read_bytes()
    other = write_certificate(tmp_path / "b.pem").read_bytes()
    with mirrored(tls=server_context(pem), pin=pin_of_file(pem)) as rig:
        inboxes = ready(rig, rig.mirror())
        leased = put(rig, 1, 900_000)
        assert all(np.array_equal(seen(inbox, leased), floats(1, 900_000)) for inbox in inboxes)
        with pytest.raises(Refusal, match="certificate"):
            Mirror(Server(rig.server.address, KEY, pin_of_file(other)))


@pytest.mark.parametrize("host", ["10.0.0.1", "172.31.255.1", "192.168.7.1", "127.0.0.1", "::1", "fd00::1", "fe80::1"])
def test_a_private_address(host: str) -> None:
    check_private(host)


PUBLIC = ["8.8.8.8", "0.0.0.0", "::", "172.32.0.1", "169.254.169.254", "2001:db8::1", "::ffff:8.8.8.8", "localhost", ""]


@pytest.mark.parametrize("host", PUBLIC)
def test_an_address_that_is_not_private_is_refused(host: str, rig: Mirrored) -> None:
    with pytest.raises(ValueError):
        check_private(host)
    with pytest.raises(ValueError):
        Mirror(Server((host, 9), KEY))


def test_a_listener_on_every_interface_is_refused(rig: Mirrored) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener, pytest.raises(ValueError, match="private"):
        Mirrors(rig.plane, listener, KEY)


def test_records_fit_in_a_message() -> None:
    most = 2**64 - 1
    count = ARRAYS_MAX
    for record in (
        Copy(Slot(most, most, most, most), ((most, most),) * count),
        Told(ended=((most, 2**32 - 1),) * count),
        Joining("n" * 64),
    ):
        assert len(msgspec.msgpack.encode(record)) <= 64 * 1024


MUTANTS = [
    Mutant(
        "send the slot",
        copying.parts,
        "[view[begin:end] for begin, end in copy.spans]",
        "[view]",
        check_padding_never_leaves,
    ),
    Mutant(
        "announce the slot",
        Visit._send,
        "tuple(spans(item.tensors, item.slot.length_bytes))",
        "((0, item.slot.length_bytes),)",
        check_padding_never_leaves,
    ),
    Mutant(
        "lease it before it is there",
        Plane._lease,
        "not self._is_there(item.slot, group)",
        "False",
        check_nothing_is_leased_before_it_is_there,
    ),
    Mutant(
        "a mirror ends any rank's share",
        Plane._end,
        "self._mirror_of.get(rank) != mirror",
        "False",
        check_a_mirror_speaks_for_its_own_ranks,
    ),
    Mutant(
        "ranks of a lost mirror live on",
        Plane.mirror_lost,
        "if one == mirror",
        "if False",
        check_a_lost_mirror_loses_its_ranks,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def hurry() -> None:
        for module in ("test_mirrors", "mirror_rig", "polling"):
            monkeypatch.setattr(f"{module}.HANG_S", 2.0)

    check_it_is_killed(mutant, request, once_it_passed=hurry)
