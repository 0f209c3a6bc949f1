"""The library from both ends: what ranks see is what was put, leases end by themselves, no bytes are used too early."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import ml_dtypes
import msgspec
import numpy as np
import pytest
import torch

from embed_rig import MIB, Rig, floats, key, remotes
from mmplane import Address, Inbox, Leased, Plane
from mmplane.arena.errors import ArenaFull, ForeignRegion, Owned, StaleSlot
from mmplane.embed.address import discard
from mmplane.embed.plane import NotJoined, TooManyLeases
from mmplane.embed.releases import tell_nowait


def test_every_rank_sees_what_was_put(rig: Rig) -> None:
    features = {"f": floats(1).reshape(100, -1), "grid": np.array([[1, 2, 3]]), "none": np.empty((0, 7), np.float16)}
    record = rig.plane.put(key(1), features).lease().encode()
    for inbox in rig.inboxes:
        seen = inbox.open(Leased.decode(record)).arrays(np)
        assert seen.keys() == features.keys()
        for name, array in features.items():
            assert (seen[name].dtype, seen[name].shape) == (array.dtype, array.shape)
            assert seen[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.uint8, torch.bool])
def test_torch_tensors_come_as_they_went(rig: Rig, dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(floats(2)).mul(9).to(dtype).reshape(10, -1).T  # not contiguous
    leased = rig.plane.put(key(2), {"f": tensor}).lease()
    seen = rig.inboxes[0].open(leased).arrays(torch)["f"]
    assert seen.dtype is dtype
    assert torch.equal(seen, tensor)


def test_one_key_is_written_once(rig: Rig) -> None:
    first = rig.plane.put(key(1), {"f": floats(1)})
    second = rig.plane.put(key(1), {"f": floats(1)})
    assert first.item == second.item
    statistics = rig.plane.statistics()
    assert statistics["written_bytes"] == first.item.slot.length_bytes
    assert (statistics["arena"].hits, statistics["arena"].misses) == (1, 1)


def test_threads_with_one_key_end_with_one_item(rig: Rig) -> None:
    holds = []
    features = floats(1, 500_000)
    threads = [Thread(target=lambda: holds.append(rig.plane.put(key(1), {"f": features}))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holds[0].item == holds[1].item
    assert rig.plane.statistics()["arena"].slots == 1


def test_a_draft_is_written_in_place(rig: Rig) -> None:
    draft = rig.plane.draft([("f", "float32", (1000,))])
    draft.arrays(np)["f"][:] = 7
    leased = draft.publish(key(3)).lease()
    assert rig.inboxes[0].open(leased).arrays(np)["f"].sum() == 7000


def test_a_draft_that_is_dropped_frees_its_bytes(rig: Rig) -> None:
    draft = rig.plane.draft([("f", "float32", (1000,))])
    assert rig.plane.statistics()["arena"].total.writing_bytes == 4096
    del draft
    assert rig.plane.statistics()["arena"].total.used_bytes == 0


def test_a_lease_ends_with_the_last_array_on_the_last_rank(rig: Rig) -> None:
    leased = rig.plane.put(key(1), {"f": floats(1)}).lease()
    views = [inbox.open(leased) for inbox in rig.inboxes]
    part = views[0].arrays(torch)["f"].reshape(100, -1)[3]
    del views
    gc.collect()
    assert rig.plane.statistics()["leases"] == 1
    assert rig.leased_bytes() > 0
    del part
    assert rig.plane.statistics()["leases"] == 0
    assert rig.leased_bytes() == 0


def test_numpy_views_keep_it_too(rig: Rig) -> None:
    leased = rig.plane.put(key(1), {"f": floats(1)}).lease()
    part = rig.inboxes[0].open(leased).arrays(np)["f"].reshape(100, -1)[3, ::2]
    rig.inboxes[1].open(leased)
    gc.collect()
    assert rig.plane.statistics()["leases"] == 1
    del part
    assert rig.plane.statistics()["leases"] == 0


def test_a_leased_slot_is_never_used_again(rig_of: Callable[..., Rig]) -> None:
    rig = rig_of(arena_bytes=MIB)
    leased = rig.plane.put(key(1), {"f": floats(1)}).lease()
    for other in range(2, 8):
        rig.plane.put(key(other), {"f": floats(other)})
    for inbox in rig.inboxes:
        assert np.array_equal(inbox.open(leased).arrays(np)["f"], floats(1))
    assert rig.plane.statistics()["arena"].evictions >= 4


def test_full_is_an_error_and_ends_with_the_leases(rig_of: Callable[..., Rig]) -> None:
    rig = rig_of(arena_bytes=MIB)
    leased = rig.plane.put(key(1), {"f": floats(1, 200_000)}).lease()
    with pytest.raises(ArenaFull) as full:
        rig.plane.put(key(2), {"f": floats(2, 200_000)})
    assert not full.value.ever
    for inbox in rig.inboxes:
        inbox.open(leased)
    rig.plane.put(key(2), {"f": floats(2, 200_000)})
    with pytest.raises(ArenaFull) as full:
        rig.plane.put(key(3), {"f": floats(3, 300_000)})
    assert full.value.ever


def test_a_record_may_be_opened_many_times_and_ends_once(rig: Rig) -> None:
    record = rig.plane.put(key(1), {"f": floats(1)}).lease().encode()
    views = [inbox.open(Leased.decode(record)) for inbox in rig.inboxes for _ in range(5)]
    assert all(np.array_equal(view.arrays(np)["f"], floats(1)) for view in views)
    del views
    assert rig.plane.statistics()["leases"] == 0
    assert rig.plane.statistics()["strays"] == 0
    with pytest.raises(StaleSlot):
        rig.inboxes[0].open(Leased.decode(record))


def test_a_record_that_was_not_sent_is_taken_back(rig: Rig) -> None:
    rig.plane.revoke(rig.plane.put(key(1), {"f": floats(1)}).lease())
    assert rig.plane.statistics()["leases"] == 0
    assert rig.leased_bytes() == 0


def test_of_several_groups_the_first_that_answers_had_the_message(rig_of: Callable[..., Rig]) -> None:
    rig = rig_of(groups=(2, 2))
    leased = rig.plane.put(key(1), {"f": floats(1)}).lease()
    rig.inboxes[3].open(leased)
    assert rig.plane.statistics()["leases"] == 1
    rig.inboxes[2].open(leased)
    assert rig.plane.statistics()["leases"] == 0


def test_a_stranger_in_the_pipe_is_counted_and_changes_nothing(rig: Rig) -> None:
    leased = rig.plane.put(key(1), {"f": floats(1)}).lease()
    tell_fd = rig.address.open(rig.address.tell_fd, os.O_WRONLY)
    for lease, rank in ((99, 0), (leased.lease, 7), (0, 1)):
        tell_nowait(tell_fd, lease, rank)
    os.close(tell_fd)
    assert rig.plane.statistics()["strays"] == 3
    assert rig.plane.statistics()["leases"] == 1


def test_nothing_is_leased_before_every_rank_has_joined() -> None:
    address = Address.create(MIB, (2,))
    plane, first = Plane(address), Inbox(address, 0)
    hold = plane.put(key(1), {"f": floats(1)})
    assert not plane.is_ready()
    with pytest.raises(NotJoined):
        hold.lease()
    second = Inbox(address, 1)
    assert plane.is_ready()
    assert [inbox.statistics()["views"] for inbox in (first, second)] == [0, 0]
    assert hold.lease().item == hold.item


def test_there_are_never_more_leases_than_their_ends_have_room(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = rig.plane.put(key(1), {"f": floats(1)})
    monkeypatch.setattr(rig.plane, "_leases_max", 3)
    kept = [hold.lease() for _ in range(3)]
    with pytest.raises(TooManyLeases):
        hold.lease()
    for inbox in rig.inboxes:
        inbox.open(kept[0])
    hold.lease()


def test_the_pipe_has_room_for_every_lease_to_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmplane.embed.address.PIPE_BYTES", 4096)
    rig = Rig()
    hold = rig.plane.put(key(1), {"f": floats(1)})
    leases = [hold.lease() for _ in range(127)]
    with pytest.raises(TooManyLeases):
        hold.lease()
    rejoin = [Inbox(rig.address, rank) for rank in range(2)]  # as many messages again as ranks sent at the start
    for leased in leases:
        for inbox in rig.inboxes:
            inbox.open(leased)  # ends at once, unheard by the plane; a full pipe would be an error here
    assert rig.plane.statistics()["leases"] == 0
    assert rig.plane.statistics()["strays"] == len(rejoin)


def test_what_a_rank_writes_in_place_stays_its_own_and_ends_with_the_use_of_those_bytes() -> None:
    address = Address.create(MIB, (2,))
    plane = Plane(address)
    with remotes(address) as (first, second):
        leased = plane.put(key(1), {"f": floats(1)}).lease()
        expected = first.tell("open", leased)
        assert first.tell("write") == -floats(1).size
        assert second.tell("open", leased) == expected
        for rank in (first, second):
            rank.tell("drop")
        again = plane.put(key(1), {"f": floats(1)}).lease()
        assert first.tell("open", again) == expected, "the next request with the same item sees the item"
        first.tell("write")
        first.tell("drop")
        second.tell("open", again)
        second.tell("drop")
        other = plane.put(key(2), {"f": floats(2, 230_000)})  # only fits where the first item lay
        reused = other.lease()
        assert reused.item.slot.offset_bytes == leased.item.slot.offset_bytes
        assert first.tell("open", reused) == second.tell("open", reused) == float(floats(2, 230_000).sum())


def test_restoring_one_item_leaves_what_was_written_into_its_neighbour(rig: Rig) -> None:
    first, second = (rig.plane.put(key(at), {"f": floats(at, 10)}).lease() for at in (1, 2))
    inbox = rig.inboxes[0]
    inbox.open(first).arrays(np)["f"][:] = 7  # ends at once
    view = inbox.open(second).arrays(np)["f"]
    view[:] = 8
    again = rig.plane.put(key(1), {"f": floats(1, 10)}).lease()
    assert np.array_equal(inbox.open(again).arrays(np)["f"], floats(1, 10))
    assert (view == 8).all()


def test_a_dead_rank_holds_nothing() -> None:
    address = Address.create(MIB, (2,))
    plane = Plane(address)
    with remotes(address) as (first, second):
        leased = plane.put(key(1), {"f": floats(1)}).lease()
        first.tell("open", leased)
        second.tell("open", leased)
        second.kill()
        assert plane.statistics()["leases"] == 1, "the other still reads"
        first.tell("drop")
        statistics = plane.statistics()
        assert (statistics["leases"], statistics["arena"].total.leased_bytes, statistics["dead"]) == (0, 0, 1)
        assert not plane.is_ready()


def test_a_foreign_record_is_refused(rig: Rig) -> None:
    leased = rig.plane.put(key(1), {"f": floats(1)}).lease()
    with pytest.raises(ValueError):
        Leased.decode(b"\x93junk")
    outside = leased.item.slot.__class__(0, rig.address.length_bytes, 1, 99)
    item = leased.item.__class__(key(1), "image", outside, leased.item.tensors)
    with pytest.raises(ValueError):
        rig.inboxes[0].open(Leased(99, item, rig.address.plane))


def test_a_record_of_another_plane_is_refused(rig_of: Callable[..., Rig]) -> None:
    """Two engines in one process: the one's offsets mean nothing in the other's region."""
    one, other = rig_of(), rig_of()
    leased = one.plane.put(key(1), {"f": floats(1)}).lease()
    other.plane.put(key(2), {"f": floats(2)}).lease()
    with pytest.raises(ForeignRegion):
        other.inboxes[0].open(leased)
    assert np.array_equal(one.inboxes[0].open(leased).arrays(np)["f"], floats(1))


def test_an_address_that_leads_to_another_region_by_now_is_refused(rig_of: Callable[..., Rig]) -> None:
    one, other = rig_of(), rig_of()
    stale = msgspec.structs.replace(one.address, region_fd=other.address.region_fd)
    for attach in (Plane, lambda address: Inbox(address, 0)):
        with pytest.raises(ForeignRegion):
            attach(stale)


def test_an_address_has_one_producer_for_its_life(rig: Rig) -> None:
    leased = rig.plane.put(key(1), {"f": floats(1)}).lease()
    with pytest.raises(Owned):
        Plane(rig.address)
    assert np.array_equal(rig.inboxes[0].open(leased).arrays(np)["f"], floats(1))


def test_a_forked_rank_ends_nothing(rig: Rig) -> None:
    leased = rig.plane.put(key(1), {"f": floats(1)}).lease()
    views = [inbox.open(leased) for inbox in rig.inboxes]
    pid = os.fork()
    if not pid:
        views.clear()
        gc.collect()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert rig.plane.statistics()["leases"] == 1
    assert np.array_equal(views[0].arrays(np)["f"], floats(1))


def test_arrays_keep_a_hold_that_was_released(rig: Rig) -> None:
    with rig.plane.put(key(1), {"f": floats(1)}) as hold:
        array = hold.arrays(np)["f"]
    assert rig.leased_bytes() > 0
    with pytest.raises(ValueError, match="released"):
        hold.lease()
    del array
    assert rig.leased_bytes() == 0


def test_numpy_sees_bfloat16_as_ml_dtypes(rig: Rig) -> None:
    tensor = torch.arange(8, dtype=torch.bfloat16)
    hold = rig.plane.put(key(1), {"f": tensor})
    assert hold.arrays(np)["f"].dtype == ml_dtypes.bfloat16
    assert hold.arrays(np)["f"].astype(np.float32).tolist() == tensor.tolist()


def test_a_descriptor_that_is_lacking_for_a_moment_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane(Address.create(MIB))
    inbox = Inbox(plane.address, 0)

    def lacking(pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as moment:
        moment.setattr(os, "pidfd_open", lacking)
        assert [plane.is_ready() for _ in range(2)] == [False, False]
    assert plane.is_ready()
    assert plane.statistics()["dead"] == 0
    leased = plane.put(key(1), {"f": floats(1)}).lease()
    assert np.array_equal(inbox.open(leased).arrays(np)["f"], floats(1))


def test_a_plane_and_ranks_that_are_dropped_keep_no_descriptor() -> None:
    gc.collect()
    before = len([*Path("/proc/self/fd").iterdir()])
    rig = Rig()
    seen = [inbox.open(rig.plane.put(key(1), {"f": floats(1)}).lease()).arrays(np) for inbox in rig.inboxes]
    discard(rig.address)
    del rig, seen
    gc.collect()
    assert len([*Path("/proc/self/fd").iterdir()]) == before
