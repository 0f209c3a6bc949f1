"""A plane over two machines, in networks of their own: equal digests, bytes that cross once, and mirrors that are lost.

The producer is this process. Mirrors and ranks are processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from blake3 import blake3
from machines import Network
from two_machines import HANG_S, Mirror, away

from embed_rig import MIB, Floats, Remote, floats, key
from mmplane import Leased
from mmplane.embed.plane import NotJoined
from polling import until

ROUNDS = int(os.environ.get("MMPLANE_MIRROR_ROUNDS", "5"))
"""`make chaos-mirrors` plays 500."""
LONG = 8_000_000
"""Numbers of an item that does not fit into the buffers of a connection."""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    network = Network(1)
    yield network
    network.close()


def digest(features: Floats) -> str:
    return blake3(features.tobytes()).hexdigest()


def digests(ranks: list[Remote], leased: Leased) -> set[str]:
    for rank in ranks:
        rank.tell("open", leased)
    found = {rank.digest() for rank in ranks}
    for rank in ranks:
        rank.tell("drop")
    return found


def test_ranks_of_two_machines_see_the_same_and_it_crosses_once(network: Network) -> None:
    with away(network, 3) as two:
        mirror = two.mirror()
        ranks = [two.rank(0), two.rank(1, mirror), two.rank(2, mirror)]
        before, total = network.received_bytes(1), 0
        for seed in range(24):  # twice as many as fit
            features = floats(seed, 1_000_000)
            total += features.nbytes
            for _ in range(2):
                assert digests(ranks, two.put(seed, features, 0)) == {digest(features)}
        crossed = network.received_bytes(1) - before
        assert total <= crossed <= 1.1 * total
        assert two.figure("copied_bytes") == total
        until(lambda: two.figure("leases") == 0, HANG_S, "every lease has ended")
        assert (two.figure("strays"), two.figure("dead")) == (0, 0)


@pytest.mark.parametrize("how", ["killed", "frozen", "cable"])
def test_half_of_an_item_is_there_when_the_machine_is_lost(how: str, network: Network) -> None:
    """Its ranks keep what they read, nothing is leased to them any more, and the next mirror has everything whole."""
    small, long = floats(1), floats(2, LONG)
    with away(network, 1, 2, 2) as two:
        first = two.mirror()
        here, lost = two.rank(0), [two.rank(1, first), two.rank(2, first)]
        leased = two.put(1, small, 1)
        for rank in lost:
            rank.tell("open", leased)
        copied, before = two.figure("copied_bytes"), network.received_bytes(1)
        first.process.send_signal(signal.SIGSTOP)
        hold = two.plane.put(key(2), {"f": long})
        until(lambda: network.received_bytes(1) - before > MIB, HANG_S, "half of it is there")
        lose(network, first, how)
        until(lambda: two.figure("mirrors") == 0, HANG_S, "the loss is noticed")
        assert two.figure("copied_bytes") == copied
        assert (two.figure("dead"), two.figure("leases")) == (2, 0)
        with pytest.raises(NotJoined):
            hold.lease(1)
        assert {rank.digest() for rank in lost} == {digest(small)}
        assert digests([here], two.put(2, long, 0)) == {digest(long)}
        if how == "cable":
            network.link(1, up=True)
        second = two.mirror()
        ranks = [two.rank(3, second), two.rank(4, second)]
        assert digests(ranks, two.put(2, long, 2)) == {digest(long)}
        assert {rank.digest() for rank in lost} == {digest(small)}
        if how != "killed":
            first.process.send_signal(signal.SIGCONT)
            assert first.rest(), "it says why it has ended"
            assert first.process.returncode == 0


def test_mirrors_that_are_killed_at_any_moment_leave_nothing_wrong(network: Network) -> None:
    random = Random(0)
    items = {seed: floats(seed, 1_000_000) for seed in range(8)}
    with away(network, *(1,) * ROUNDS) as two:
        for rank in range(ROUNDS):
            mirror = two.mirror()
            remote = two.rank(rank, mirror)
            first = random.choice(list(items))
            remote.tell("open", two.put(first, items[first], rank))
            before, some = network.received_bytes(1), random.randrange(24 * MIB)
            holds = [two.plane.put(key(seed), {"f": features}) for seed, features in items.items()]
            until(lambda before=before, some=some: network.received_bytes(1) - before > some, HANG_S, "some of it")
            mirror.process.kill()
            until(lambda: two.figure("mirrors") == 0, HANG_S, "the loss is noticed")
            assert remote.digest() == digest(items[first])
            remote.kill()
            assert (two.figure("leases"), two.figure("copies_lacking")) == (0, 0)
            del holds
            two.plane.check_integrity()


def lose(network: Network, mirror: Mirror, how: str) -> None:
    if how == "killed":
        mirror.process.kill()
    if how == "cable":
        network.link(1, up=False)
        mirror.process.send_signal(signal.SIGCONT)


def test_a_rank_that_dies_over_there_holds_nothing(network: Network) -> None:
    with away(network, 2) as two:
        mirror = two.mirror()
        first, second = two.rank(0), two.rank(1, mirror)
        leased = two.put(1, floats(1), 0)
        first.tell("open", leased)
        second.tell("open", leased)
        first.tell("drop")
        assert two.figure("leases") == 1
        second.kill()
        until(lambda: two.figure("leases") == 0, HANG_S, "its share has ended")
        assert two.figure("dead") == 1


def test_when_the_producer_ends_the_mirror_ends(network: Network) -> None:
    with away(network, 1) as two:
        mirror = two.mirror()
        rank = two.rank(0, mirror)
        rank.tell("open", two.put(1, floats(1), 0))
        two.mirrors.close()
        assert mirror.rest()
        assert mirror.process.returncode == 0
        assert rank.digest() == digest(floats(1))
        rank.tell("drop")  # nobody hears it


def test_without_the_key_nothing_crosses(network: Network) -> None:
    with away(network, 2) as two:
        stranger = Mirror(network, two.port, bytes(32))
        assert "the machine has a different cluster key" in stranger.said + stranger.rest()
        assert stranger.process.returncode == 1
        two.plane.put(key(1), {"f": np.zeros(1_000_000, np.float32)})
        assert two.figure("copies_lacking") == 0
        mirror = two.mirror()
        ranks = [two.rank(0), two.rank(1, mirror)]
        assert digests(ranks, two.put(2, floats(2), 0)) == {digest(floats(2))}
