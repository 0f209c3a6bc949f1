"""Each invariant of the sidecar has a test that fails when it is broken."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sidecar_rig import HANG_S, PAGE_BYTES, Rig, features
from test_groups import test_one_rank_gone_is_the_group_broken_and_the_next_begins_another_life as broken_group
from test_profile import NO_FORMAT_OF_OURS
from test_profile import test_keys_and_fingerprints_have_the_profile_in_them as keys_have_the_profile
from test_strangers import MEDIA, SUBJECT, Raw, unsealed

from attaching import picture
from mmplane import Inbox, Lost, NotAttached, Unprofiled
from mmplane.arena.errors import StaleSlot
from mmplane.embed.inbox import Inbox as InboxClass
from mmplane.embed.media import sealed
from mmplane.features.choice import Processors
from mmplane.items.recipes import Recipes
from mmplane.sidecar import claims, keeper
from mmplane.sidecar.claims import Claims
from mmplane.sidecar.door import Door
from mmplane.sidecar.groups import Groups
from mmplane.sidecar.keeper import Keeper
from mmplane.sidecar.making import Making
from mmplane.sidecar.records import VERSION, Await, Bye, Bytes, Failed, Hello, Holding, NeedBytes, Obtain, Refused
from mmplane.sidecar.sealed import mapped
from mmplane.wire.link import PeerGone
from mutation import Mutant, check_it_is_killed

RigOf = Callable[..., Rig]
A = picture("a")


def holding(rig: Rig) -> Raw:
    """A producer with a hold on `MEDIA`."""
    raw = Raw(rig).hello()
    raw.say(Obtain(1, SUBJECT))
    raw.hear(NeedBytes)
    memory = sealed(MEDIA)
    raw.say(Bytes(1), [memory])
    os.close(memory)
    raw.hear(Holding)
    return raw


def goodbye_ends_claims(rig_of: RigOf) -> None:
    rig = rig_of()
    holding(rig).say(Bye())
    rig.until(lambda now: not now["sessions"])
    assert rig.statistics()["arena"]["leases"] == 0


def a_closed_socket_is_quarantine(rig_of: RigOf) -> None:
    rig = rig_of()
    holding(rig).close()
    rig.until(lambda now: now["parted"] or not now["sessions"])
    assert rig.statistics()["holds"] == 1


def memory_that_could_change_is_refused(rig_of: RigOf) -> None:
    raw = Raw(rig_of()).hello()
    raw.say(Obtain(1, SUBJECT))
    raw.hear(NeedBytes)
    memory = unsealed()
    raw.say(Bytes(1), [memory])
    os.close(memory)
    with pytest.raises(PeerGone):
        raw.link.receive(limit_s=HANG_S)


def bytes_that_rode_along_are_let_go_of(rig_of: RigOf) -> None:
    rig = rig_of()
    holding(rig)
    raw, memory = Raw(rig).hello(), sealed(MEDIA)
    raw.say(Obtain(1, SUBJECT), [memory])
    os.close(memory)
    raw.hear(Holding)
    rig.until(lambda now: not now["requests"])
    assert "memfd:mmplane-media" not in Path("/proc/self/maps").read_text()


def the_digest_is_checked(rig_of: RigOf) -> None:
    raw = Raw(rig_of()).hello()
    raw.say(Obtain(1, SUBJECT))
    raw.hear(NeedBytes)
    memory = sealed(bytes(len(MEDIA)))
    raw.say(Bytes(1), [memory])
    os.close(memory)
    assert raw.hear(Failed).failure.message.startswith("the bytes are not those")


def a_lease_waits_for_ranks_that_map(rig_of: RigOf) -> None:
    rig = rig_of()
    raw = Raw(rig).hello("rank")
    with rig.client() as client, client.materialise(A) as hold, pytest.raises(Lost):
        hold.lease(0)
    raw.close()


def a_later_life_reads_no_old_record(rig_of: RigOf) -> None:
    rig = rig_of()
    client, first = rig.client(), Inbox(rig.socket)
    client.wait_ranks(0)
    stale = client.materialise(A).lease(0)
    first.close()
    second = Inbox(rig.socket)
    client.wait_ranks(0)
    with pytest.raises(StaleSlot):
        second.open(stale)
    second.close()
    client.close()


def a_place_is_one_ranks(rig_of: RigOf) -> None:
    rig = rig_of()
    first = Inbox(rig.socket)
    with pytest.raises(NotAttached):
        Inbox(rig.socket)
    first.close()


def what_was_put_is_not_media(rig_of: RigOf) -> None:
    rig = rig_of()
    with rig.client(arena_bytes=PAGE_BYTES) as client:
        client.put(client.layout(A).key, {"f": np.zeros(1024, np.uint8)}).release()
        with client.materialise(A) as hold:
            assert np.array_equal(hold.arrays(np)["f"], features(A))


def requests_are_bounded(rig_of: RigOf) -> None:
    raw = Raw(rig_of()).hello()
    for request in range(1, keeper.REQUESTS_MAX + 2):
        raw.say(Await(request, 9))
    raw.say(Await(1, 9))
    raw.hear(Failed)


def another_user_is_refused(rig_of: RigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = rig_of()
    with monkeypatch.context() as patch:
        patch.setattr("mmplane.sidecar.door.os.geteuid", lambda: 12345)
        patch.setattr("mmplane.sidecar.door.ROOT", 54321)
        raw = Raw(rig)
        raw.say(Hello(VERSION, "producer"))
        raw.hear(Refused)


def what_a_profile_leaves_out_is_counted(rig_of: RigOf) -> None:
    rig = rig_of(profile="vllm")
    with rig.client() as client, pytest.raises(Unprofiled):
        client.materialise(NO_FORMAT_OF_OURS)
    assert rig.statistics()["unprofiled"]["format"] == 1


MUTANTS = [
    Mutant(
        "claims outlive their process",
        Keeper._bury,
        "self._claims.reaped(session.process)",
        "pass",
        goodbye_ends_claims,
    ),
    Mutant(
        "an end of file ends claims",
        Keeper._part,
        "session.parted = True",
        "return self._bury(session)",
        a_closed_socket_is_quarantine,
    ),
    Mutant(
        *("bytes that rode along stay", Keeper._done, "session.bytes_given.pop(request, None)", "pass"),
        bytes_that_rode_along_are_let_go_of,
    ),
    Mutant("media may change", mapped, "seals & SEALS != SEALS or", "", memory_that_could_change_is_refused),
    Mutant(
        "a client's digest is believed",
        Making._content,
        "await digest_of(content) != media.digest",
        "False",
        the_digest_is_checked,
    ),
    Mutant(
        "leased before it is mapped",
        Claims._lease,
        "self._groups.of(group, (item.slot.region,))",
        "self._groups.of(group)",
        a_lease_waits_for_ranks_that_map,
    ),
    Mutant(
        "a later life reads old records",
        InboxClass.open,
        "leased.life not in (0, life)",
        "False",
        a_later_life_reads_no_old_record,
    ),
    Mutant("two ranks in one place", Groups.join, "if rank in life.members", "if False", a_place_is_one_ranks),
    Mutant("a broken group goes on", Groups.left, "life.broken = True", "pass", broken_group),
    Mutant(
        "what was put stands for media",
        claims._put_key,
        'return digest_parts([b"mmplane-put-1", key])',
        "return key",
        what_was_put_is_not_media,
    ),
    Mutant(
        "media that goes the engine's way is not counted",
        Keeper._work,
        "self._unprofiled[error.param] += 1",
        "pass",
        what_a_profile_leaves_out_is_counted,
    ),
    Mutant(
        "a header is read without the profile",
        Recipes.of,
        "image.probe(view_of(media), profile=self._profile)",
        "image.probe(view_of(media))",
        what_a_profile_leaves_out_is_counted,
    ),
    Mutant(
        "the profile is no part of the key",
        Processors.fingerprint_of,
        "self.decode_profile.encode()",
        'b""',
        keys_have_the_profile,
    ),
    Mutant("requests without bound", Keeper._take, "len(session.tasks) >= REQUESTS_MAX", "False", requests_are_bounded),
    Mutant(
        "any user may attach", Door._checked, "peer.uid not in (ROOT, os.geteuid())", "False", another_user_is_refused
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry = partial(monkeypatch.setattr, "test_strangers.HANG_S", 5.0)
    check_it_is_killed(mutant, request, once_it_passed=hurry)
