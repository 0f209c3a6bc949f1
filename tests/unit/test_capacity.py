"""What traffic needs: enough for a case computed by hand, never less for more, and the server's own constants."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane import capacity
from mmplane.capacity import Plan, Traffic, plan
from mmplane.config import Config
from mmplane.frontend.http import endpoint
from mmplane.frontend.request import bodies

MB = 10**6
PHOTOGRAPHS = Traffic(
    requests_per_s=100.0, body_bytes=400_000, item_bytes=8 * MB, decoded_bytes=3 * MB, item_s=0.01, held_s=0.09
)


def config(found: Plan) -> Config:
    return Config(
        model="",
        model_folder="",
        served_name="",
        workers=found.workers,
        join_max=found.join_max,
        arena_bytes=found.arena_bytes,
        budget_bytes=found.budget_bytes,
    )


def test_by_hand() -> None:
    found = plan(PHOTOGRAPHS)
    assert found.workers == 2  # 100/s x 10 ms: one core's worth, and none is to be busier than 70 %
    assert found.utilisation == pytest.approx(0.5)
    # M/M/2 at a half: the exact mean wait is a third of a service time, the approximation a little above 0.36.
    assert 0.003 < found.waiting_s < 0.004
    assert found.slots_at_once == 21  # 100/s x 100 ms = 10 at a time, and 10 + 3 sqrt(10) + 1 at the peak
    assert found.requests_at_once == 6  # 1.4 at a time
    *_, worker_bytes = config(found).region_bytes()
    assert worker_bytes >= 11 * 8 * MB


traffic = st.builds(
    Traffic,
    requests_per_s=st.floats(0.1, 500),
    items_per_request=st.floats(1, 28),
    new_share=st.floats(0, 1),
    body_bytes=st.integers(1000, 60 * MB),
    item_bytes=st.integers(1000, 300 * MB),
    decoded_bytes=st.integers(1000, 300 * MB),
    item_s=st.floats(0.0005, 2.0),
    held_s=st.floats(0, 2),
    kept_items=st.integers(0, 500),
    machines=st.integers(0, 4),
)


@given(traffic)
def test_there_is_room_for_what_is_there_at_once(given_: Traffic) -> None:
    found = plan(given_)
    front_bytes, *worker_bytes = config(found).region_bytes()
    assert found.utilisation <= capacity.UTILISATION + 1e-9
    assert sum(region // given_.item_bytes for region in worker_bytes) >= found.slots_at_once + given_.kept_items
    assert front_bytes >= given_.body_bytes
    assert found.budget_bytes // 2 >= found.requests_at_once * 2 * given_.body_bytes
    assert config(found).decode_bytes() >= found.workers * given_.decoded_bytes


@given(traffic, st.floats(1.0, 4.0))
def test_more_traffic_never_needs_fewer_workers_or_slots(given_: Traffic, times: float) -> None:
    less, more = plan(given_), plan(msgspec.structs.replace(given_, requests_per_s=given_.requests_per_s * times))
    assert more.workers + more.machine_workers >= less.workers + less.machine_workers
    assert more.slots_at_once >= less.slots_at_once


def test_machines_by_hand() -> None:
    found = plan(msgspec.structs.replace(PHOTOGRAPHS, item_s=0.1, machines=3))
    assert (found.workers, found.join_max) == (1, 3), "the server's own worker is the reserve"
    assert found.machine_workers == 5  # 100/s x 100 ms = 10 cores' worth, at most 70 % busy: 15
    assert found.utilisation == pytest.approx(10 / 15)
    assert found.network_bytes_per_s == pytest.approx(100 * 8 * MB)
    assert found.machine_arena_bytes >= 5 * capacity.MACHINE_ITEMS * 8 * MB
    front_bytes, *each_bytes = config(found).region_bytes()
    assert len(each_bytes) == 4
    assert front_bytes >= PHOTOGRAPHS.body_bytes
    assert 3 * (each_bytes[0] // (8 * MB)) >= found.slots_at_once


def test_traffic_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        plan(msgspec.structs.replace(PHOTOGRAPHS, requests_per_s=0.0))


def test_the_servers_own_constants() -> None:
    assert capacity.BODY_FACTOR == endpoint.BODY_FACTOR
    assert capacity.INLINE_BYTES_MAX == bodies.INLINE_BYTES_MAX


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--requests-per-s 100 --body-bytes 400000 --item-bytes 8000000 --decoded-bytes 3000000 --item-s 0.01"
    assert capacity.main(arguments.split()) == 0
    assert "--workers 2" in capsys.readouterr().out
    assert capacity.main([*arguments.split(), "--machines", "2"]) == 0
    said = capsys.readouterr().out
    assert "mmplane serve --workers 1" in said
    assert "--join-max 2" in said
    assert "on each of 2 media machines: mmplane worker --workers 1" in said
    assert "send the server 6.40 Gbit/s" in said
