"""A server whose ranks are on several machines: a producer here, and a mirror as on another machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import numpy as np
import pytest

from mmplane.embed.errors import Full, Lost, NotAttached, TooLarge
from mmplane.embed.inbox import Inbox
from mmplane.engines.kit import board, producer
from mmplane.engines.kit.mirrored import Mirrored
from mmplane.engines.kit.producer import Late, Producer
from mmplane.machines.dial import Server
from polling import until

HANG_S = 60.0
KEY = b"k" * 32
MIB = 2**20
FEATURES = np.arange(5000, dtype=np.float32)


class Machines:
    """A producer with rank 0, and a machine for rank 1."""

    def __init__(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.server = Server(("127.0.0.1", listener.getsockname()[1]), KEY)
        self.producer = Producer(listener, KEY, groups=(2,), arena_bytes=MIB)
        self.away: list[Mirrored] = []
        self.inboxes: list[Inbox] = []

    def mirrored(self, key: bytes = KEY) -> Mirrored:
        self.away.append(Mirrored(Server(self.server.address, key)))
        return self.away[-1]

    def join(self) -> Mirrored:
        """Both ranks have joined."""
        self.producer.begin()
        away = self.mirrored()
        until(lambda: shown(away))
        self.inboxes = [Inbox(board.read(self.producer.board.path), 0), Inbox(board.read(away.board.path), 1)]
        until(lambda: self.producer.statistics()["joined"] == 2)
        return away

    def close(self) -> None:
        for away in self.away:
            away.stop()
        self.producer.stop()


def shown(away: Mirrored) -> bool:
    try:
        board.read(away.board.path)
    except Lost:
        return False
    return True


@pytest.fixture
def machines() -> Iterator[Machines]:
    made = Machines()
    yield made
    made.close()


def put(machines: Machines, number: int = 0) -> producer.Put:
    return machines.producer.put(bytes([number]) * 32, {"0": FEATURES + number})


def test_ranks_on_both_machines_read_what_crossed_once(machines: Machines) -> None:
    machines.join()
    for number, hit in ((1, False), (2, False), (1, True)):
        item = put(machines, number)
        assert item.hit == hit
        leased = item.lease()
        for inbox in machines.inboxes:
            (array,) = inbox.open(leased).arrays(np).values()
            assert np.array_equal(array, FEATURES + number)
        del array, item
    until(lambda: machines.producer.statistics()["leases"] == 0)
    figures = machines.producer.statistics()
    assert figures["copied_bytes"] == 2 * FEATURES.nbytes
    assert figures["arena"]["items"] == 2
    assert figures["arena"]["total"]["leased_bytes"] == 0


def test_a_mirror_waits_until_the_producer_accepts_it(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmplane.mirrors.mirror.GREETING_SECONDS", 0.2)
    monkeypatch.setattr("mmplane.engines.kit.mirrored.RETRY_S", 0.01)
    away = machines.mirrored()
    with pytest.raises(Lost, match="has not joined"):
        board.read(away.board.path)
    with pytest.raises(Lost, match="not joined"):
        put(machines).lease()
    machines.producer.begin()
    machines.producer.begin()
    until(lambda: shown(away))


def test_a_mirror_with_another_key_is_off_and_says_so(machines: Machines, caplog: pytest.LogCaptureFixture) -> None:
    machines.producer.begin()
    away = machines.mirrored(b"x" * 32)
    away._thread.join(HANG_S)
    assert "mmplane: off: no mirror on this machine" in caplog.text
    assert "different cluster key" in caplog.text
    assert not shown(away)


def test_after_a_lost_mirror_nothing_is_leased(machines: Machines) -> None:
    away = machines.join()
    leased = put(machines).lease()
    (array,) = machines.inboxes[1].open(leased).arrays(np).values()
    away.stop()
    assert not shown(away)
    until(lambda: machines.producer.statistics()["dead"] == 1)
    with pytest.raises(Lost, match="dead"):
        put(machines, 1).lease()
    assert np.array_equal(array, FEATURES), "what it has opened stays as it is"
    machines.inboxes[0].open(leased)
    until(lambda: machines.producer.statistics()["leases"] == 0)


def test_what_a_machine_does_not_get_in_time_is_late(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = machines.producer._plane
    Inbox(board.read(machines.producer.board.path), 0)
    idle = plane.add_mirror(lambda item: None, 1000)
    plane.mirror_told(idle, joined=[1], ended=[], died=[])
    until(lambda: machines.producer.statistics()["joined"] == 2)
    monkeypatch.setattr(producer, "THERE_SECONDS", 0.0)
    item = put(machines)
    with pytest.raises(Late):
        item.lease()
    plane.mirror_wrote(idle, item._hold.item.slot.generation)
    machines.producer.revoke(item.lease())
    assert machines.producer.statistics()["leases"] == 0


def test_what_does_not_fit_is_refused_by_how_long_it_will_not(machines: Machines) -> None:
    with pytest.raises(TooLarge):
        machines.producer.put(b"large", {"0": np.zeros(2 * MIB, np.uint8)})
    held = machines.producer.put(b"most", {"0": np.zeros(MIB // 4 * 3, np.uint8)})
    with pytest.raises(Full):
        machines.producer.put(b"too", {"0": np.zeros(MIB // 2, np.uint8)})
    assert not held.hit


def test_a_stopped_producer_is_lost_and_its_port_free(machines: Machines) -> None:
    path = machines.producer.board.path
    assert Producer.at(path) is machines.producer
    machines.join()
    machines.producer.stop()
    machines.producer.stop()
    with pytest.raises(NotAttached):
        Producer.at(path)
    with pytest.raises(Lost):
        put(machines)
    until(lambda: not shown(machines.away[0]))
    socket.create_server(machines.server.address).close()
