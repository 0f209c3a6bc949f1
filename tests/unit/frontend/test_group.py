"""The rank group: requests go in, tokens come out, and the ranks' leases end exactly when no rank can read any more."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from frontend_rig import EPOCH, FRONTEND, GREEDY, PlayedLeader, Rig, rigged

from frontend_loop import in_loop, settle
from mmplane.arena.arena import Arena
from mmplane.core.errors import RequestError, internal, unavailable
from mmplane.core.plan import Abort, Admitted, Attached, Progress, Submit, Token, Tokens
from mmplane.frontend.send.group import Generation, Group
from mmplane.items.store import Asset
from mmplane.wire import mailbox


async def asset_of(rig: Rig, name: str = "cat") -> tuple[Asset, int]:
    """An item in the arena, and the tag that holds it."""
    worker = next((peer for peer in rig.peers if peer.process.role == "worker"), None) or await rig.worker()
    task = rig.asking(name)
    await worker.serve_one()
    return await task, int(task.get_name())


async def handed_over(rig: Rig, samples: int = 1) -> tuple[Submit, Generation]:
    """A request with one item at the ranks; the front end holds it no longer."""
    asset, tag = await asset_of(rig)
    submit = rig.submit(asset, sampling=msgspec.structs.replace(GREEDY, samples=samples))
    generation = rig.group.submit(submit)
    rig.store.release(asset.item, tag)
    return submit, generation


async def all_of(generation: Generation) -> list[Token]:
    return [token async for token in generation]


def leases(rig: Rig) -> int:
    return rig.arena.statistics().leases


# Attaching.


@in_loop
async def test_no_request_before_the_leader_has_acknowledged_this_epoch() -> None:
    async with rigged() as rig:
        with pytest.raises(RequestError) as refused:
            rig.group.check_room()
        assert (refused.value.status, refused.value.code) == (503, "unavailable")
        leader = PlayedLeader(rig, 1)
        rig.peers.append(leader)
        waiting = asyncio.create_task(rig.group.wait_ready())
        leader.say(Attached(EPOCH - 1))
        await settle()
        assert not rig.group.ready
        assert not waiting.done()
        await leader.attach()
        assert rig.group.ready
        await waiting
        rig.group.check_room()


@in_loop
async def test_request_numbers_of_two_epochs_never_meet() -> None:
    arena = Arena([4096])
    groups = [Group(arena, FRONTEND, epoch, in_flight_max=1) for epoch in (1, 1, 2)]
    first, again, later = ([group.next_request_id() for _ in range(3)] for group in groups)
    assert first == again
    assert max(first) < min(later)
    assert min(later) - max(first) > 1 << 31


@in_loop
async def test_too_many_requests_are_refused_before_any_work() -> None:
    async with rigged(in_flight_max=2) as rig:
        leader = await rig.leader()
        asset, tag = await asset_of(rig)
        submits = [rig.submit(asset) for _ in range(2)]
        generations = [rig.group.submit(submit) for submit in submits]
        rig.store.release(asset.item, tag)
        with pytest.raises(RequestError) as refused:
            rig.group.check_room()
        assert (refused.value.code, refused.value.retry_after_s) == ("overloaded", 1)
        for submit in submits:
            leader.fail(submit, internal("x"))
        await settle()
        rig.group.check_room()
        assert generations[0].open


# Tokens.


@in_loop
async def test_a_request_and_its_tokens() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig)
        assert await leader.hear() == submit
        leader.admit(submit)
        leader.tell(submit, (0, 65, None))
        leader.tell(submit, (0, 66, "stop"))
        assert [(token.token, token.reason) for token in await all_of(generation)] == [(65, None), (66, "stop")]
        assert generation.digests == ((b"rank 0",), (b"rank 1",))
        rig.group.finished(generation)
        assert rig.group.statistics().in_flight == 0
        assert await leader.hear_all() == []


@in_loop
async def test_samples_end_each_by_itself() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig, samples=3)
        leader.admit(submit)
        leader.tell(submit, (0, 65, None), (1, 66, "stop"), (2, 67, None))
        leader.tell(submit, (0, 68, "length"), (1, 99, None), (2, 69, "stop"))
        tokens = await all_of(generation)
        assert [token.token for token in tokens] == [65, 66, 67, 68, 69], "nothing comes after a sample's end"
        rig.group.finished(generation)


@in_loop
async def test_tokens_of_two_requests_are_not_mixed_up() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        one, first = await handed_over(rig)
        other, second = await handed_over_again(rig)
        for submit in (one, other):
            leader.admit(submit)
        leader.say(Tokens(1, (Token(other.request_id, 0, 2, "stop"), Token(one.request_id, 0, 1, "stop"))))
        leader.say(Tokens(2, (Token(12345, 0, 3, None),)))
        assert [token.token for token in await all_of(first)] == [1]
        assert [token.token for token in await all_of(second)] == [2]
        for generation in (first, second):
            rig.group.finished(generation)


async def handed_over_again(rig: Rig) -> tuple[Submit, Generation]:
    """The same item in another request: a hit."""
    task = rig.asking("cat")
    asset = await task
    submit = rig.submit(asset)
    generation = rig.group.submit(submit)
    rig.store.release(asset.item, int(task.get_name()))
    return submit, generation


# Leases end once, and not before (invariant 6).


@in_loop
async def test_leases_end_with_admission() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig)
        assert leases(rig) == 1
        leader.admit(submit)
        await settle()
        assert leases(rig) == 0, "every rank has its own copy of what it needs"
        assert generation.admitted
        leader.tell(submit, (0, 1, "stop"))
        await all_of(generation)
        rig.group.finished(generation)


@in_loop
async def test_leases_end_with_failure() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig)
        leader.fail(submit, internal("a rank had no memory"))
        with pytest.raises(RequestError, match="a rank had no memory") as failed:
            await all_of(generation)
        assert failed.value.status == 500
        assert leases(rig) == 0
        rig.group.abort(generation)
        assert await leader.hear_all() == [submit], "an abort would reach nobody"


@in_loop
async def test_leases_end_with_the_group() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        waiting, first = await handed_over(rig)
        admitted, second = await handed_over_again(rig)
        leader.admit(admitted)
        await settle()
        assert leases(rig) == 1
        leader.die()
        assert leases(rig) == 0
        assert not rig.group.ready
        for generation in (first, second):
            with pytest.raises(RequestError) as failed:
                await all_of(generation)
            assert (failed.value.status, failed.value.retry_after_s) == (503, 1)
            rig.group.abort(generation)
        assert waiting.request_id != admitted.request_id


@in_loop
async def test_leases_do_not_end_when_the_leader_only_hangs_up() -> None:
    """Its ranks may still read: they end when the group has been reaped."""
    async with rigged() as rig:
        leader = await rig.leader()
        _, generation = await handed_over(rig)
        leader.close()
        await settle()
        assert leases(rig) == 1
        rig.group.gone(1)
        assert leases(rig) == 0
        with pytest.raises(RequestError):
            await all_of(generation)


@in_loop
async def test_one_image_twice_in_a_request_is_leased_twice_and_released_twice() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        asset, tag = await asset_of(rig)
        submit = rig.submit(asset, asset)
        generation = rig.group.submit(submit)
        rig.store.release(asset.item, tag)
        assert leases(rig) == 2
        leader.admit(submit)
        await settle()
        assert leases(rig) == 0
        leader.tell(submit, (0, 1, "stop"))
        await all_of(generation)
        rig.group.finished(generation)


@pytest.mark.parametrize("end", ["admit", "fail", "die"])
@in_loop
async def test_a_prompt_in_a_slot_is_released_too(end: str) -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        request_id = rig.group.next_request_id()
        slot = rig.shelf.store(b"long prompt", rig.group.reader(), request_id)
        generation = rig.group.submit(Submit(request_id, b"", slot, 4, (), (), GREEDY))
        submit = await leader.hear()
        assert submit.prompt_slot == slot
        if end == "admit":
            leader.admit(submit)
        elif end == "fail":
            leader.fail(submit, internal("x"))
        else:
            leader.die()
        await settle()
        assert rig.arena.statistics().slots == 0
        rig.group.abort(generation)


@in_loop
async def test_a_second_conclusion_changes_nothing() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig)
        held, tag = await asset_of_hit(rig)
        leader.admit(submit)
        leader.admit(submit)
        leader.say(Admitted(424242, ()))
        await settle()
        assert leases(rig) == 1, "the front end's own is not touched"
        rig.store.release(held.item, tag)
        rig.group.abort(generation)


async def asset_of_hit(rig: Rig) -> tuple[Asset, int]:
    task = rig.asking("cat")
    return await task, int(task.get_name())


@in_loop
async def test_a_request_that_cannot_be_handed_over_waits_for_the_reaper() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        asset, tag = await asset_of(rig)
        leader.close()
        await settle()
        with pytest.raises(RequestError) as refused:
            rig.group.submit(rig.submit(asset))
        assert refused.value.status == 503
        rig.store.release(asset.item, tag)
        rig.group.gone(1)


# Aborts (hazard R14).


@pytest.mark.parametrize("answer", ["admit", "fail", "die"])
@in_loop
async def test_an_abort_before_admission_waits_for_the_leaders_answer(answer: str) -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig)
        for _ in range(3):
            rig.group.abort(generation)
        assert await leader.hear_all() == [submit, Abort(submit.request_id)], "once"
        assert leases(rig) == 1, "the ranks may be reading"
        assert rig.group.statistics().in_flight == 1
        if answer == "admit":
            leader.admit(submit)
        elif answer == "fail":
            leader.fail(submit, unavailable("aborted"))
        else:
            leader.die()
        await settle()
        assert (leases(rig), rig.group.statistics().in_flight) == (0, 0)


@pytest.mark.parametrize("answer", ["admit", "fail", "die"])
@in_loop
async def test_what_went_inline_is_paid_for_until_the_ranks_have_answered(answer: str) -> None:
    """Its bytes lie on the ranks until then, whether or not its client still waits (invariant 8)."""
    async with rigged() as rig:
        leader = await rig.leader()
        freed: list[str] = []
        submit = rig.submit()
        generation = rig.group.submit(submit, free=lambda: freed.append("free"))
        rig.group.abort(generation)
        await settle()
        assert not freed
        if answer == "admit":
            leader.admit(submit)
        elif answer == "fail":
            leader.fail(submit, unavailable("aborted"))
        else:
            leader.die()
        await settle()
        assert freed


@in_loop
async def test_what_has_not_left_yet_is_paid_for_although_the_ranks_have_answered() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        freed: list[str] = []
        parcel = bytes(2**22)  # more than a socket takes: nobody reads at first
        submit = msgspec.structs.replace(rig.submit(), parcel_bytes=len(parcel))
        rig.group.abort(rig.group.submit(submit, [parcel], free=lambda: freed.append("free")))
        leader.fail(submit, unavailable("aborted"))
        await settle()
        assert not freed
        await asyncio.to_thread(leader.read_parcel)
        await settle()
        assert freed


@in_loop
async def test_an_abort_after_admission_forgets_at_once() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig)
        leader.admit(submit)
        await settle()
        for _ in range(3):
            rig.group.abort(generation)
        assert await leader.hear_all() == [submit, Abort(submit.request_id)]
        assert rig.group.statistics().in_flight == 0
        leader.tell(submit, (0, 65, None))  # it was on its way
        await settle()


@in_loop
async def test_an_abort_after_the_end_says_nothing() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig)
        leader.admit(submit)
        leader.tell(submit, (0, 65, "stop"))
        await all_of(generation)
        rig.group.finished(generation)
        rig.group.abort(generation)
        assert await leader.hear_all() == [submit]


@in_loop
async def test_a_stop_text_ends_one_sample() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig, samples=2)
        leader.admit(submit)
        leader.tell(submit, (0, 65, None), (1, 66, None))
        tokens = []
        async for token in generation:
            tokens.append((token.sample, token.token))
            if token == Token(submit.request_id, 0, 65, None):
                rig.group.stop(generation, 0)
                leader.tell(submit, (0, 67, None), (1, 68, "stop"))
        assert tokens == [(0, 65), (1, 66), (1, 68)]
        assert await leader.hear_all() == [submit, Abort(submit.request_id, 0)]
        rig.group.finished(generation)


@in_loop
async def test_stop_texts_of_all_samples_end_the_answer() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        submit, generation = await handed_over(rig)
        leader.admit(submit)
        leader.tell(submit, (0, 65, None))
        async for _ in generation:
            rig.group.stop(generation, 0)
        rig.group.finished(generation)
        assert rig.group.statistics().in_flight == 0


# Groups come and go.


@in_loop
async def test_the_next_group_takes_over() -> None:
    async with rigged() as rig:
        old = await rig.leader(incarnation=1)
        _, generation = await handed_over(rig)
        old.die()
        with pytest.raises(RequestError):
            await all_of(generation)
        new = await rig.leader(incarnation=2)
        rig.group.gone(1)  # twice said, once done
        assert rig.group.ready
        submit, again = await handed_over_again(rig)
        assert await new.hear() == submit
        assert rig.group.reader().incarnation == 2
        new.admit(submit)
        new.tell(submit, (0, 1, "stop"))
        assert len(await all_of(again)) == 1
        rig.group.finished(again)


@in_loop
async def test_progress_is_what_was_last_heard() -> None:
    async with rigged() as rig:
        leader = await rig.leader()
        for number in (1, 2):
            leader.say(Progress(number, 1, 2, 3, ()))
        await settle()
        assert rig.group.statistics().progress == Progress(2, 1, 2, 3, ())
        leader.die()
        assert rig.group.statistics().progress is None


@in_loop
async def test_a_leader_that_hung_up_is_no_longer_ready() -> None:
    """A leader may drop a front end that did not read for long: it must not be offered requests for ever."""
    async with rigged() as rig:
        leader = await rig.leader()
        leader.close()
        await settle()
        assert not rig.group.ready
        with pytest.raises(RequestError) as refused:
            rig.group.check_room()
        assert refused.value.code == "unavailable"


@in_loop
async def test_what_the_leader_never_hears_of_is_not_leased(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that does not read for long is not dead: nothing of it will be reaped."""
    async with rigged() as rig:
        worker, leader = await rig.worker(), await rig.leader()
        task = rig.asking("cat")
        await worker.serve_one()
        submit = rig.submit(await task)
        monkeypatch.setattr(mailbox, "OUTBOX_MAX", 0)
        with pytest.raises(RequestError) as refused:
            rig.group.submit(submit)
        assert refused.value.status == 503
        await rig.release(task)
        assert rig.arena.statistics().leases == 0
        assert rig.group.statistics().in_flight == 0
        assert await leader.hear_all() == []
