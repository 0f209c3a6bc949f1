"""The thread that reads parcels: what is whole arrives, here and on the followers; when it fails the process ends."""

from __future__ import annotations

import os
import threading

import pytest

from mmplane.core.errors import RequestError
from mmplane.delivery.parcels import Parcels
from mmplane.ranks.plan.reader import ParcelReader
from mmplane.ranks.plan.wake import Wake
from mmplane.wire.stream import header, stream_pair
from mutation import Mutant, check_it_is_killed

LIMIT_S = 60.0


def test_parcels_are_read_and_passed_on_and_half_ones_are_not() -> None:
    ours, leaders = stream_pair()
    to_follower, followers = stream_pair()
    here, there = Parcels(), Parcels()
    follower = ParcelReader(followers, there, Wake(), limit_s=LIMIT_S, frame_bytes_max=100)
    leader = ParcelReader(leaders, here, Wake(), followers=[to_follower], limit_s=LIMIT_S, frame_bytes_max=100)
    ours.sendall(header(1, 3, relayed=True) + b"one" + header(2, 3, relayed=False) + b"two")
    assert bytes(here.get(2, LIMIT_S)) == b"two"
    assert bytes(there.get(1, LIMIT_S)) == b"one"
    ours.sendall(header(3, 5, relayed=True) + b"thr")
    ours.close()
    leader.close()
    assert list(leader.arrived) == [(1, True), (2, False)]
    follower.close()
    to_follower.close()
    for parcels, request_id in ((here, 3), (there, 2), (there, 3)):
        with pytest.raises(RequestError):
            parcels.get(request_id, 0.0)


def test_close_takes_what_had_arrived_whole() -> None:
    ours, leaders = stream_pair()
    for number in range(20):
        ours.sendall(header(number, 3, relayed=False) + b"abc")
    reader = ParcelReader(leaders, Parcels(), Wake(), limit_s=LIMIT_S, frame_bytes_max=100)
    reader.close()
    ours.close()
    assert list(reader.arrived) == [(number, False) for number in range(20)]


def test_a_reader_that_cannot_go_on_ends_the_process() -> None:
    child = os.fork()
    if child == 0:
        os.close(2)
        ours, theirs = stream_pair()
        ParcelReader(theirs, Parcels(), Wake(), limit_s=LIMIT_S, frame_bytes_max=100)
        ours.sendall(header(1, 101, relayed=False))
        threading.Event().wait(LIMIT_S)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1


def test_a_reader_that_passes_everything_on_is_found_out(request: pytest.FixtureRequest) -> None:
    killer = test_parcels_are_read_and_passed_on_and_half_ones_are_not
    check_it_is_killed(
        Mutant("all bytes reach all ranks", ParcelReader._accept, "if relayed:", "if True:", killer), request
    )
