"""What the supervisor does between two deaths of one group, which no real kill can be held at."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from mmplane.config import Config
from mmplane.core.control import RanksReady
from mmplane.core.keyring import Keyring
from mmplane.core.records import Record
from mmplane.process.handle import Child
from mmplane.supervise import Supervisor


class Ended:
    """A handle of a process that is ending, the link to it, and its stacks."""

    pid = incarnation = pidfd = 1

    def __init__(self) -> None:
        self.told: list[Record] = []

    def kill(self) -> None: ...
    def reap(self) -> None: ...
    def close(self) -> None: ...

    def receive_nowait(self) -> None:
        return None

    def send(self, record: Record, *_: Any, limit_s: float) -> None:
        self.told.append(record)


def child(role: str, index: int) -> Child:
    end: Any = Ended()
    return Child(role, index, end, end, end, ready=True)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    config = Config(
        model="tiny", model_folder="", served_name="tiny", device="cpu", tp=2, workers=0, arena_bytes=1 << 20
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Supervisor(config, listener, Keyring(), on_serving=lambda: None)
        yield made
        made._end_everything()


def test_a_new_front_end_is_not_attached_to_a_group_whose_leader_has_died(supervisor: Supervisor) -> None:
    leader, follower = child("rank", 0), child("rank", 1)
    supervisor._ranks = {0: leader, 1: follower}
    supervisor._workers = {0: child("parser", 0)}
    supervisor._ranks_ready = RanksReady(1, "float32")
    supervisor._frontend, supervisor._epoch = child("frontend", 0), 2
    supervisor._gone(leader)
    supervisor._reconcile_children()
    told = cast("Ended", supervisor._frontend.link).told
    assert told == [], "nothing to attach it to"
    supervisor._not_before_s["rank"] = float("inf")
    supervisor._gone(follower)
    assert len(told) == 1, "it is told that they are gone"
    assert supervisor._ranks_ready is None
    supervisor._frontend, supervisor._workers = None, {}
