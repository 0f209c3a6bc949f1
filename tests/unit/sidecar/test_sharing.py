"""What attached processes share: one materialisation, the same bytes, and claims that end with who made them."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from blake3 import blake3
from sidecar_rig import HANG_S, PAGE_BYTES, Rig, features

from attaching import Attached, attached, picture
from mmplane import (
    BadMedia,
    BadOption,
    Client,
    Embeddings,
    Full,
    Inbox,
    Janitor,
    Leased,
    Lost,
    NotAttached,
    TooLarge,
)
from mmplane.arena.errors import ForeignRegion, StaleSlot
from mmplane.core.records import Record
from mmplane.embed.awaited import awaited
from mmplane.embed.hold import SidecarHold
from mmplane.embed.wanted import Asked, Wanted
from mmplane.sidecar.records import Mapped, Release
from mmplane.wire.link import Link, encode

A, B = picture("a"), picture("b")


def digest(media: bytes) -> str:
    return blake3(features(media).tobytes()).hexdigest()


def opened(rank: Attached | Inbox, leased: Leased) -> str:
    if isinstance(rank, Attached):
        return rank.open(leased)
    return blake3(rank.open(leased).arrays(np)["f"].tobytes()).hexdigest()


def test_the_layout_is_known_from_the_header_and_nothing_is_made(rig: Rig, client: Client) -> None:
    layout = client.layout(A)
    assert (layout.modality, layout.tokens, layout.shapes, layout.dtypes) == (
        "image",
        4,
        {"f": (1024,)},
        {"f": "uint8"},
    )
    assert layout.key == client.materialise(A).key
    assert rig.statistics()["materialisations"] == 1


def test_options_and_tenants_have_keys_of_their_own(client: Client) -> None:
    asked: list[Asked] = [{}, {"tenant": "t"}, {"options": {"side_max": 16}}, {"options": {"max_pixels": 100}}]
    holds = [client.materialise(A, **each) for each in asked]
    assert len({hold.key for hold in holds}) == len(asked)
    assert not any(hold.hit for hold in holds)
    assert [hold.arrays(np)["f"].shape for hold in holds] == [(1024,), (1024,), (256,), (100,)]
    assert client.layout(A, options={"max_pixels": 100}).shapes == {"f": (100,)}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_pixel": 3}, "unknown field `max_pixel`"),
        ({"min_pixels": 3}, "no such argument: min_pixels"),
        ({"max_pixels": "3"}, "got `str` - at `..max_pixels`"),
        ({"max_pixels": object()}, "object"),
        ({"side_max": -1}, "`int` >= 0 - at `..side_max`"),
        ({"side_max": "3"}, "got `str` - at `..side_max`"),
        ({"note": "n" * 3000}, "at most 2048"),
    ],
)
def test_options_that_there_are_not_are_refused(rig: Rig, client: Client, options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadOption, match=why):
        client.materialise(A, options=options)
    assert issubclass(BadOption, ValueError)
    assert rig.statistics()["materialisations"] == 0


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_embeddings_reach_every_rank_as_they_are(rig: Rig, client: Client, dtype: Any) -> None:
    rows, grid = np.arange(48).reshape(6, 8).astype(dtype), np.array([[1, 4, 6]])
    ranks = [Inbox(rig.socket, rank, ranks=2) for rank in range(2)]
    client.wait_ranks(0)
    sent = Embeddings(image_embeds=rows, image_grid_thw=grid)
    assert client.layout(sent).tokens == 6
    hold = client.materialise(sent)
    leased = hold.lease(0)
    for rank in ranks:
        seen = rank.open(leased).arrays(np)
        assert (seen["image_embeds"].dtype, seen["image_embeds"].tolist()) == (rows.dtype, rows.tolist())
        assert seen["image_grid_thw"].tolist() == grid.tolist()
        del seen
    assert client.materialise(Embeddings(image_embeds=rows.copy(), image_grid_thw=grid)).hit
    for rank in ranks:
        rank.close()


@pytest.mark.parametrize(
    ("rows", "grid", "why"),
    [
        (np.zeros((6, 7), np.float32), [[1, 4, 6]], "tokens x 8"),
        (np.zeros((6, 8), np.float32), [[1, 4, 4]], "image_grid_thw must be"),
        (np.zeros((6, 8), np.float64), [[1, 4, 6]], "image_embeds must be float32, float16, bfloat16"),
        (np.zeros((6, 8), np.int64), [[1, 4, 6]], "must be F32"),
    ],
)
def test_embeddings_that_the_model_does_not_take_are_refused(
    rig: Rig, client: Client, rows: Any, grid: Any, why: str
) -> None:
    with pytest.raises(BadMedia, match=why):
        client.materialise(Embeddings(image_embeds=rows, image_grid_thw=np.array(grid)))
    assert rig.statistics()["materialisations"] == 0


def test_embeddings_take_no_options(client: Client) -> None:
    with pytest.raises(BadOption, match="no options"):
        client.materialise(Embeddings(image_embeds=np.zeros((6, 8), np.float32)), options={"side_max": 3})


def test_four_producers_and_eight_ranks_share_one_materialisation(rig: Rig) -> None:
    roles = [("producer",)] * 4 + [("rank", group, rank, 4) for group in range(2) for rank in range(4)]
    with attached(rig.socket, *roles) as processes:
        producers, ranks = processes[:4], processes[4:]
        rig.gate.close()
        for producer in producers:
            producer.begin("make", A)
        rig.until(lambda now: now["requests"] == 4)
        rig.gate.open()
        answers = [producer.end() for producer in producers]
        assert [seen for seen, _ in answers] == [digest(A)] * 4
        assert sorted(hit for _, hit in answers) == [False, True, True, True]
        for producer in producers:
            assert producer.tell("make", A) == [digest(A), True]
            for group in range(2):
                record = producer.tell("lease", str(group))
                assert {rank.tell("open", record) for rank in ranks[4 * group : 4 * group + 4]} == {digest(A)}
        assert rig.statistics()["materialisations"] == 1
        assert rig.statistics()["leases"] == 8
        for process in processes:
            process.tell("drop")
        now = rig.until(lambda now: not now["holds"] and not now["leases"])
        assert now["strays"] == 0
    rig.check_at_rest()


def test_a_picture_takes_eight_messages_and_a_repeat_six(
    rig: Rig, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes together, from asking to the end of its lease: each message may have to wake a core."""
    inbox, sent = Inbox(rig.socket), Counter[str]()
    client.wait_ranks(0)

    def counted(record: Record) -> bytes:
        sent[type(record).__name__] += 1
        return encode(record)

    for module in ("link", "mailbox"):
        monkeypatch.setattr(f"mmplane.wire.{module}.encode", counted)
    for hit in (False, True):
        sent.clear()
        with client.materialise(A) as hold:
            assert opened(inbox, hold.lease(0)) == digest(A)
        assert hold.hit is hit
        del hold
        gc.collect()
        rig.until(lambda now: not now["holds"] and not now["leases"])
        always = ["Obtain", "Holding", "Lease", "Leasing", "Ended", "Release"]
        once = [] if hit else ["Materialise", "Materialised"]
        assert sent == Counter([*always, *once])
    inbox.close()


def test_a_dead_producer_and_a_dead_rank_hold_nothing_and_the_others_go_on(rig: Rig, client: Client) -> None:
    with attached(rig.socket, ("producer",), ("rank", 0, 0, 2), ("rank", 0, 1, 2)) as (producer, dying, living):
        producer.tell("make", A)
        record = producer.tell("lease", "0")
        assert dying.tell("open", record) == living.tell("open", record) == digest(A)
        producer.kill()
        dying.kill()
        now = rig.until(lambda now: now["sessions"].get("producer") == 1 and now["sessions"]["rank"] == 1)
        assert (now["holds"], now["leases"]) == (0, 1), "the other rank still reads"
        hold = client.materialise(A)
        with pytest.raises(Lost, match="group 0"):
            hold.lease(0)
        assert living.tell("see") == digest(A)
        living.tell("drop")
        assert rig.until(lambda now: not now["leases"])["strays"] == 0
        assert hold.hit


def test_a_producer_that_dies_before_its_item_is_made_takes_nobodys_item_with_it(rig: Rig, client: Client) -> None:
    with attached(rig.socket, ("producer",)) as (producer,):
        rig.gate.close()
        producer.begin("make", A)
        assert rig.gate.begun.acquire(timeout=60)
        mine = client._begin(Wanted(A))
        rig.until(lambda now: now["requests"] == 2)
        producer.kill()
        rig.until(lambda now: now["sessions"]["producer"] == 1)
        rig.gate.open()
        assert np.array_equal(mine.result(60).arrays(np)["f"], features(A))
        assert rig.statistics()["materialisations"] == 1


def test_a_forked_rank_ends_nothing(rig: Rig, client: Client) -> None:
    with attached(rig.socket, ("rank", 0, 0, 1)) as (rank,):
        client.wait_ranks(0)
        leased = client.materialise(A).lease(0)
        assert rank.open(leased) == digest(A)
        assert rank.tell("fork") == 0
        assert rig.statistics()["leases"] == 1
        assert rank.tell("see") == digest(A)


def test_an_exit_ends_claims_whoever_keeps_a_copy_of_the_socket(rig: Rig, client: Client) -> None:
    with attached(rig.socket, ("rank", 0, 0, 1)) as (rank,):
        client.wait_ranks(0)
        rank.open(client.materialise(A).lease(0))
        child = rank.tell("stay")
        try:
            rank.kill()
            now = rig.until(lambda now: "rank" not in now["sessions"])
            assert (now["leases"], now["parted"]) == (0, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def test_processes_in_namespaces_of_their_own_share_by_the_socket_alone(rig: Rig) -> None:
    with ExitStack() as stack:
        producer, rank = (
            Attached(rig.socket, *role, apart=True)
            for role in (("producer",), ("rank", 0, 0, 1))  # type: ignore[arg-type]
        )
        for process in (producer, rank):
            stack.callback(process.kill)
            assert process.end() == "attached"
            assert process.tell("pid") == 1, "its number means nothing to others"
        producer.tell("ranks", "0")
        assert producer.tell("make", A) == [digest(A), False]
        assert rank.tell("open", producer.tell("lease", "0")) == digest(A)
        for process, role in ((producer, "producer"), (rank, "rank")):
            process.kill()
            rig.until(lambda now, role=role: role not in now["sessions"])  # type: ignore[misc]
        assert rig.statistics()["leases"] == rig.statistics()["holds"] == 0


def test_a_closed_socket_alone_is_quarantine_until_the_exit_is_seen(rig: Rig, client: Client) -> None:
    with attached(rig.socket, ("rank", 0, 0, 1)) as (rank,):
        client.wait_ranks(0)
        leased = client.materialise(A).lease(0)
        rank.open(leased)
        rank.tell("cut")
        now = rig.until(lambda now: now["parted"] == 1)
        assert now["leases"] == 1, "it still has the arrays"
        assert rank.tell("see") == digest(A)
        rank.kill()
        now = rig.until(lambda now: not now["parted"])
        assert now["leases"] == 0


def test_a_client_that_was_closed_leaves_when_its_last_array_is_gone(rig: Rig) -> None:
    client = rig.client()
    array = client.materialise(A).arrays(np)["f"]
    client.close()
    assert rig.statistics()["holds"] == 1
    assert np.array_equal(array, features(A))
    del array
    gc.collect()
    rig.until(lambda now: not now["sessions"])


def test_goodbye_with_nothing_in_hand_ends_everything_at_once(rig: Rig) -> None:
    client = rig.client()
    client.materialise(A).release()
    client.close()
    assert rig.until(lambda now: not now["sessions"])["parted"] == 0


def test_a_lost_rank_begins_a_new_life_that_reads_no_record_of_the_old(rig: Rig, client: Client) -> None:
    with attached(rig.socket, ("rank", 0, 0, 1)) as (rank,):
        client.wait_ranks(0)
        stale = client.materialise(A).lease(0)
        assert rank.open(stale) == digest(A)
    rig.until(lambda now: "rank" not in now["sessions"])
    successor = Inbox(rig.socket, 0, group=0, ranks=1)
    client.wait_ranks(0)
    with pytest.raises(StaleSlot, match="another life"):
        successor.open(stale)
    assert opened(successor, client.materialise(A).lease(0)) == digest(A)
    successor.close()


def test_a_place_is_one_ranks(rig: Rig) -> None:
    first = Inbox(rig.socket, 0, group=3, ranks=2)
    for rank, ranks, why in ((0, 2, "attached already"), (0, 3, "has 2 ranks"), (2, 2, "count from 0")):
        with pytest.raises(NotAttached, match=why):
            Inbox(rig.socket, rank, group=3, ranks=ranks)
    Inbox(rig.socket, 1, group=3, ranks=2).close()
    first.close()


def test_nothing_is_leased_before_every_rank_is_attached(rig: Rig, client: Client) -> None:
    hold = client.materialise(A)
    first = Inbox(rig.socket, 0, ranks=2)
    with pytest.raises(Lost, match="not every rank"):
        hold.lease(0)
    second = Inbox(rig.socket, 1, ranks=2)
    client.wait_ranks(0)
    leased = hold.lease(0)
    assert opened(first, leased) == opened(second, leased) == digest(A)
    first.close()
    second.close()


def test_a_message_may_go_to_any_of_several_groups_and_the_first_end_says_which(rig: Rig) -> None:
    first = Inbox(rig.socket, group=0)
    with rig.client(groups=2) as client:
        client.wait_ranks(0)
        hold = client.materialise(A)
        with pytest.raises(Lost, match="group 1"):
            hold.lease()
        others = [Inbox(rig.socket, rank, group=1, ranks=2) for rank in (0, 1)]
        client.wait_ranks(1)
        leased = [hold.lease() for _ in range(3)]
        hold.release()
        assert opened(others[0], leased[0]) == digest(A)
        assert rig.until(lambda now: now["arena"]["leases"] == 3)["leases"] == 3, (
            "the group's other rank may still read"
        )
        assert opened(others[1], leased[0]) == digest(A)
        assert opened(first, leased[1]) == digest(A)
        client.revoke(leased[2])
        assert rig.until(lambda now: not now["leases"])["strays"] == 0
    for inbox in (first, *others):
        inbox.close()


@pytest.mark.parametrize("role", ["producer", "janitor"])
def test_a_message_that_never_arrived_is_revoked(rig: Rig, client: Client, role: str) -> None:
    inbox = Inbox(rig.socket)
    client.wait_ranks(0)
    leased = client.materialise(A).lease(0)
    other = client if role == "producer" else Janitor(rig.socket)
    other.revoke(leased)
    assert rig.until(lambda now: not now["leases"])["strays"] == 0
    if isinstance(other, Janitor):
        other.close()
    inbox.close()


def test_more_leases_are_revoked_than_one_record_takes(
    rig: Rig, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmplane.embed.janitor.CLAIMS_MAX", 4)
    inbox = Inbox(rig.socket)
    client.wait_ranks(0)
    with client.materialise(A) as hold:
        client.revoke(*(hold.lease(0) for _ in range(10)))
    assert rig.until(lambda now: not now["leases"])["strays"] == 0
    inbox.close()


def test_a_rank_may_map_for_reading_alone_or_writable_for_a_device(rig: Rig, client: Client) -> None:
    for access in ("shared", "writable"):
        inbox = Inbox(rig.socket, access=access)
        client.wait_ranks(0)
        assert opened(inbox, client.materialise(A).lease(0)) == digest(A)
        inbox.close()
        rig.until(lambda now: "rank" not in now["sessions"])


def test_what_a_rank_writes_in_place_is_its_own(rig: Rig, client: Client) -> None:
    inbox = Inbox(rig.socket)
    client.wait_ranks(0)
    hold = client.materialise(A)
    inbox.open(hold.lease(0)).arrays(np)["f"][:] = 0
    assert np.array_equal(hold.arrays(np)["f"], features(A))
    assert opened(inbox, hold.lease(0)) == digest(A)
    inbox.close()


def test_arrays_keep_a_hold_that_was_released(rig: Rig, client: Client) -> None:
    with client.materialise(A) as hold:
        array = hold.arrays(np)["f"]
    assert rig.statistics()["holds"] == 1
    del array
    gc.collect()
    assert rig.until(lambda now: not now["holds"])["holds"] == 0


def test_what_is_held_is_never_overwritten_and_full_is_an_error(
    rig_of: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmplane.waiting.lines.STALLED_SECONDS", 0.05)
    rig = rig_of(workers=1, worker_bytes=2 * PAGE_BYTES)
    with rig.client() as client:
        holds = [client.materialise(picture(name)) for name in "ab"]
        with pytest.raises(Full):
            client.materialise(picture("c"))
        for name, hold in zip("ab", holds, strict=True):
            assert np.array_equal(hold.arrays(np)["f"], features(picture(name)))
        holds.pop(0).release()
        assert np.array_equal(client.materialise(picture("c")).arrays(np)["f"], features(picture("c")))
        with pytest.raises(TooLarge):
            client.materialise(picture("d", 100))


def test_bad_media_is_an_error_of_its_own_and_harms_nobody(rig: Rig, client: Client) -> None:
    for media in (b"junk", b"", picture("it cannot be decoded"), "/no/such/file", b"RIFF....WAVE"):
        with pytest.raises(BadMedia):
            client.materialise(media)
    assert np.array_equal(client.materialise(A).arrays(np)["f"], features(A))


def test_map_keeps_order_and_makes_no_more_ahead_than_there_is_room_for(
    rig_of: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmplane.waiting.lines.STALLED_SECONDS", 0.05)
    rig = rig_of(workers=1, worker_bytes=3 * PAGE_BYTES)
    names = [str(number) for number in range(12)]
    medias = [picture(name) for name in names]
    medias[5] = b"junk"
    with rig.client() as client:
        seen: list[object] = []
        for hold in client.map(medias, failures=True, ahead=8):
            if isinstance(hold, BadMedia):
                seen.append("bad")
                continue
            assert not isinstance(hold, Exception), hold
            with hold:
                seen.append(hold.arrays(np)["f"].tobytes())
            del hold
    assert seen == ["bad" if media == b"junk" else features(media).tobytes() for media in medias]


def test_asyncio_waits_beside_other_tasks_and_a_cancelled_call_is_called_off(rig: Rig, client: Client) -> None:
    async def go() -> None:
        rig.gate.close()
        cancelled = asyncio.create_task(client.amaterialise(A))
        kept = asyncio.create_task(client.amaterialise(B))
        await asyncio.to_thread(rig.until, lambda now: now["requests"] == 2)
        cancelled.cancel()
        await asyncio.to_thread(rig.until, lambda now: now["requests"] == 1)
        rig.gate.open()
        hold = await kept
        assert np.array_equal(hold.arrays(np)["f"], features(B))
        assert (await client.alayout(B)).key == hold.key

    asyncio.run(go())


def test_holds_that_end_in_one_turn_of_a_loop_are_reported_by_one_message(
    rig: Rig, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Record] = []
    tell = client._attachment.tell

    def noted(plane: Any, record: Record) -> None:
        told.append(record)
        tell(plane, record)

    monkeypatch.setattr(client._attachment, "tell", noted)

    async def go() -> None:
        for hold in await asyncio.gather(*map(client.amaterialise, (A, B))):
            hold.release()
        assert told == [], "the turn is not over"
        await asyncio.sleep(0)
        assert told == [Release((1, 2))]

    asyncio.run(go())
    rig.until(lambda now: now["holds"] == 0)


def test_what_has_ended_is_reported_before_the_next_request(rig: Rig, client: Client) -> None:
    async def go() -> None:
        (await client.amaterialise(A)).release()
        assert client.statistics()["holds"] == 0, "the loop has had no turn since"

    asyncio.run(go())


def test_an_answer_after_the_end_of_its_loop_is_for_nobody(
    rig: Rig, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    rig.gate.close()
    loop = asyncio.new_event_loop()
    call = client._obtain(Wanted(A).read())
    waiting = loop.create_task(awaited(call))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    rig.gate.open()
    call.result(HANG_S).release()
    assert not waiting.done()
    assert caplog.records == []
    with suppress(RuntimeError):  # nobody can wake it
        waiting.get_coro().close()


def test_an_item_is_found_again_by_its_own_key(client: Client) -> None:
    hold = client.materialise(A)
    found = client.get(hold.key)
    assert found is not None
    assert found.item == hold.item


def test_features_that_exist_are_put_once_for_all_producers(rig: Rig, client: Client) -> None:
    inbox = Inbox(rig.socket)  # it is there before the producer's region is
    with rig.client(arena_bytes=4 * PAGE_BYTES) as producer:
        values = np.arange(100, dtype=np.float32).astype(ml_dtypes.bfloat16)
        hold = producer.put(b"mine", {"f": values})
        assert producer.put(b"mine", {"f": values}).item == hold.item
        client.wait_ranks(0)
        found = client.get(b"mine")
        assert found is not None
        for arrays in (found.arrays(np), inbox.open(hold.lease(0)).arrays(np)):
            assert arrays["f"].dtype == ml_dtypes.bfloat16
            assert np.array_equal(arrays["f"], values)
        assert client.get(hold.key) is not None
        assert client.get(b"other") is None
        with pytest.raises(ValueError, match="arena_bytes"):
            client.put(b"x", {"f": values})
        with pytest.raises(TooLarge):
            producer.draft([("f", "uint8", (5 * PAGE_BYTES,))])
        draft = producer.draft([("f", "uint8", (100,))])
        assert rig.statistics()["arena"]["total"]["writing_bytes"] == PAGE_BYTES
        del draft, arrays
        gc.collect()
        assert rig.until(lambda now: not now["arena"]["total"]["writing_bytes"])["strays"] == 0
        del hold, found
    inbox.close()


def test_an_item_that_fits_no_workers_region_never_fits_whatever_producers_have(rig: Rig, client: Client) -> None:
    with rig.client(arena_bytes=32 * PAGE_BYTES), pytest.raises(TooLarge):
        client.materialise(picture("large", 300))


def test_a_key_that_was_put_never_stands_for_media(rig: Rig, client: Client) -> None:
    with rig.client(arena_bytes=PAGE_BYTES) as producer:
        key = producer.layout(A).key
        producer.put(key, {"f": np.zeros(1024, np.uint8)})
        assert np.array_equal(client.materialise(A).arrays(np)["f"], features(A))


def test_a_producers_region_goes_to_the_next_one_and_what_it_published_stays(rig: Rig, client: Client) -> None:
    with rig.client(arena_bytes=2 * PAGE_BYTES) as first:
        first.put(b"1", {"f": np.full(10, 1)}).release()
    rig.until(lambda now: now["sessions"]["producer"] == 1)
    with rig.client(arena_bytes=2 * PAGE_BYTES) as second:
        second.put(b"2", {"f": np.full(10, 2)})
        assert len(rig.statistics()["arena"]["regions"]) == 4
        found = client.get(b"1")
        assert found is not None
        assert found.arrays(np)["f"].tolist() == [1] * 10


def test_a_rank_knows_a_plane_before_it_says_that_it_has_mapped_it(
    rig_of: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on records come, and no rank may fail to open one that the others can."""
    inboxes: list[Inbox] = []
    known: list[bytes] = []

    def send(link: Link[Any], record: Record, *rest: Any, **how: Any) -> None:
        if isinstance(record, Mapped) and inboxes:
            known.append(inboxes[0]._attachment.plane.windows.plane)  # type: ignore[union-attr]
        original(link, record, *rest, **how)

    original = Link.send
    monkeypatch.setattr(Link, "send", send)
    first = rig_of()
    client = first.client()
    inboxes.append(Inbox(first.socket))
    client.wait_ranks(0)
    first.close()
    second = rig_of(first.socket)
    client.wait()
    client.wait_ranks(0)
    with client.materialise(A) as hold:
        assert known == [hold.lease(0).plane]
    inboxes[0].close()
    client.close()
    second.check_at_rest()


def test_when_the_sidecar_ends_calls_fail_and_all_attach_to_its_successor(rig_of: Callable[..., Rig]) -> None:
    first = rig_of()
    client, inbox = first.client(), Inbox(first.socket)
    client.wait_ranks(0)
    held = client.materialise(A)
    before = held.lease(0)
    unread = client.materialise(B).lease(0)
    first.gate.close()
    coming = client._begin(Wanted(picture("c")))
    assert first.gate.begun.acquire(timeout=60)
    first.gate.begun.acquire(timeout=60)
    first.close()
    with pytest.raises(Lost):
        coming.result(60)
    with pytest.raises(Lost):
        client.materialise(picture("d"))
    second = rig_of(first.socket)
    client.wait()
    client.wait_ranks(0)
    assert np.array_equal(held.arrays(np)["f"], features(A)), "what was held can be read on"
    with pytest.raises(Lost, match="has ended"):
        held.lease(0)
    assert opened(inbox, before) == digest(A), "messages under way can be read on"
    again = client.materialise(A)
    assert not again.hit
    assert opened(inbox, again.lease(0)) == digest(A)
    with pytest.raises(ForeignRegion):
        inbox.open(unread)
    again.release()
    second.check_at_rest()
    client.close()
    inbox.close()


@pytest.mark.parametrize("fail", [lambda client: client.get(b"nothing"), lambda client: client.materialise(b"junk")])
def test_a_call_that_fails_keeps_nothing_of_its_caller(client: Client, fail: Callable[[Client], object]) -> None:
    """A hold that a caller has beside it ends with the caller, and not with the next garbage collection."""

    def call() -> weakref.ref[SidecarHold]:
        hold = client.materialise(A)
        with suppress(BadMedia):
            fail(client)
        return weakref.ref(hold)

    gc.collect()
    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()


def test_a_client_that_is_closed_and_dropped_keeps_no_descriptor(rig: Rig) -> None:
    rig.client().close()  # what the sidecar itself opens for its first client stays open
    rig.until(lambda now: not now["sessions"])
    gc.collect()
    before = len([*Path("/proc/self/fd").iterdir()])
    client = rig.client()
    client.materialise(A).release()
    client.close()
    del client
    gc.collect()
    rig.until(lambda now: not now["sessions"])
    assert len([*Path("/proc/self/fd").iterdir()]) == before
