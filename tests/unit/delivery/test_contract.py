"""The contract of `Delivery`, on a real gloo group of two processes, for every delivery."""

from __future__ import annotations

import threading
from typing import Any, get_args

import pytest

from gloo_pair import LIMIT_S, Bench, bench, expected, order, plain, run_on_two_ranks
from mmplane.config import DELIVERY_NAMES
from mmplane.core.faults import Fault, Point
from mmplane.delivery.ingress import EVERY_RANK, INGRESS
from mmplane.delivery.names import DELIVERIES

A, B, C, D = b"media--a", b"media--b", b"media--c", b"media--d"
BAD = b"bad-one-"
MAKING = ("original", "leader", "leader-batch", "leader-async", "delayed", "delayed-async")
LEADER_MAKES = ("leader", "leader-batch", "leader-async")
BACKGROUND = [name for name, kind in DELIVERIES.items() if kind.background]
SHARED = tuple(name for name in MAKING if name != "original")
every_delivery = pytest.mark.parametrize("name", DELIVERIES)


def test_the_names_are_the_commands() -> None:
    assert (*DELIVERIES, "auto") == DELIVERY_NAMES


def test_every_delivery_says_who_needs_its_bytes() -> None:
    missing = [name for name in DELIVERIES if name not in INGRESS]
    assert not missing, (
        f"{missing} is not in mmplane.delivery.ingress.INGRESS: see 'Adding a delivery', CONTRIBUTING.md"
    )


@every_delivery
def test_features_come_to_every_rank(name: str) -> None:
    def program(rank: Bench) -> Any:
        delivery = DELIVERIES[name](rank.ports)
        futures = delivery.begin([order(rank, name, 1, A), order(rank, name, 2, B, C)])
        at_once = all(future.done() for future in futures)
        more = delivery.begin([order(rank, name, 3, D)])
        return at_once, [plain(future.result(LIMIT_S)) for future in (*futures, *more)], len(rank.begun)

    first, second = run_on_two_ranks(program)
    for at_once, results, _ in (first, second):
        assert results == [expected(A), expected(B, C), expected(D)]
        assert at_once or DELIVERIES[name].background
    made = (first[2], second[2])
    assert made == ((4, 0) if name in LEADER_MAKES else (4, 4) if name in MAKING else (0, 0))


@pytest.mark.parametrize(("name", "ingress"), [(name, way) for name, ways in INGRESS.items() for way in ways[1:]])
def test_the_other_way_in_delivers_the_same(name: str, ingress: str) -> None:
    def program(rank: Bench) -> Any:
        orders = [order(rank, name, 1, A, ingress=ingress), order(rank, name, 2, B, C, ingress=ingress)]
        results = [plain(future.result(LIMIT_S)) for future in DELIVERIES[name](rank.ports).begin(orders)]
        return results, rank.ports.parcels.statistics()["received_bytes"]

    sent_bytes = len(A + B + C)
    (leader, at_leader), (follower, at_follower) = run_on_two_ranks(program)
    assert leader == follower == [expected(A), expected(B, C)]
    assert (at_leader, at_follower) == (sent_bytes, sent_bytes if ingress == EVERY_RANK else 0)


@every_delivery
def test_without_a_group_there_is_no_collective(name: str) -> None:
    rank = bench(0, 1, [None, None])
    delivery = DELIVERIES[name](rank.ports)
    futures = delivery.begin([order(rank, name, 1, A), order(rank, name, 2, B)])
    assert [plain(future.result(LIMIT_S)) for future in futures] == [expected(A), expected(B)]
    delivery.close()
    rank.ports.pool.shutdown()


@pytest.mark.parametrize("name", MAKING)
def test_an_item_that_fails_between_two_that_do_not(name: str) -> None:
    def program(rank: Bench) -> Any:
        orders = [order(rank, name, 1, A), order(rank, name, 2, B, BAD), order(rank, name, 3, C)]
        return [plain(future.result(LIMIT_S)) for future in DELIVERIES[name](rank.ports).begin(orders)]

    assert run_on_two_ranks(program) == [[expected(A), 400, expected(C)]] * 2


def strikes(name: str, point: Point, rank: int) -> bool:
    match point:
        case "materialise":
            return name in MAKING and (rank == 0 or name not in LEADER_MAKES)
        case "view":
            return name not in MAKING
        case "encode" | "construct":
            return False
    return name in SHARED


@every_delivery
def test_a_fault_at_any_point_of_any_rank_is_one_requests_failure(name: str) -> None:
    faults = [Fault(point, rank) for point in get_args(Point) for rank in range(2) if point != "construct"]

    def program(rank: Bench) -> Any:
        delivery = DELIVERIES[name](rank.ports)
        results = []
        for number, fault in enumerate(faults, 1):
            first = 10 * number
            orders = [
                order(rank, name, first, A),
                order(rank, name, first + 1, B, fault=fault),
                order(rank, name, first + 2, C),
            ]
            results.append([plain(future.result(LIMIT_S)) for future in delivery.begin(orders)])
        return results

    first, second = run_on_two_ranks(program)
    for fault, here, there in zip(faults, first, second, strict=True):
        assert here[::2] == there[::2] == [expected(A), expected(C)], fault
        assert (500 in (here[1], there[1])) == strikes(name, fault.point, fault.rank), fault
        assert {str(here[1]), str(there[1])} <= {"500", str(expected(B))}, fault


@pytest.mark.parametrize("name", DELIVERIES)
def test_close_ends_what_is_pending(name: str) -> None:
    def program(rank: Bench) -> Any:
        delivery = DELIVERIES[name](rank.ports)
        media = [b"media%03d" % number for number in range(20)]
        futures = delivery.begin([order(rank, name, number, each) for number, each in enumerate(media, 1)])
        delivery.close()
        delivery.close()
        assert all(future.done() for future in futures)
        return [plain(future.result()) for future in futures], media

    (first, media), (second, _) = run_on_two_ranks(program)
    for result, each in zip(first, media, strict=True):
        assert result in (expected(each), 503)
    assert first == second or name == "delayed-async"
    assert 503 not in first or name == "leader-async"


@pytest.mark.parametrize("name", BACKGROUND)
def test_what_is_cancelled_before_it_begins_is_spared(name: str) -> None:
    def program(rank: Bench) -> Any:
        go_on = threading.Event()
        rank.hold = lambda _: threads_wait(go_on)
        delivery = DELIVERIES[name](rank.ports)
        orders = [order(rank, name, number, media) for number, media in enumerate((A, B, C, D), 1)]
        futures = delivery.begin(orders)
        for _ in range(2):
            delivery.cancel(4)  # two threads have the first two
            delivery.cancel(99)
        go_on.set()
        return [plain(future.result(LIMIT_S)) for future in futures], D in rank.begun

    for results, begun in run_on_two_ranks(program):
        assert results == [expected(A), expected(B), expected(C), 503]
        assert not begun


def test_pools_are_as_large_as_they_were_made() -> None:
    """Analysis A3 gives the leader four threads, C2 two: counted where all of them are held up."""

    def program(rank: Bench) -> Any:
        found = {}
        for name in BACKGROUND:
            go_on, begun = threading.Event(), threading.Semaphore(0)
            rank.begun.clear()
            rank.hold = lambda _, go_on=go_on, begun=begun: (begun.release(), threads_wait(go_on))
            size = {"leader-async": 3 if rank.ports.leads else 0, "delayed-async": 2}[name]
            media = [b"media%03d" % number for number in range(6)]
            orders = [order(rank, name, number, each) for number, each in enumerate(media, 10 * len(found) + 1)]
            futures = DELIVERIES[name](rank.ports).begin(orders)
            assert all(begun.acquire(timeout=LIMIT_S) for _ in range(size))
            found[name] = len(rank.begun)
            go_on.set()
            assert [plain(future.result(LIMIT_S)) for future in futures] == [expected(each) for each in media]
        return found

    leader, follower = run_on_two_ranks(program, leader_threads=3)
    assert leader == {"leader-async": 3, "delayed-async": 2}
    assert follower == {"leader-async": 0, "delayed-async": 2}


def threads_wait(go_on: threading.Event) -> None:
    assert go_on.wait(LIMIT_S)


def test_the_leader_broadcasts_in_the_order_of_submission_whatever_is_made_first() -> None:
    def program(rank: Bench) -> Any:
        second_is_made = threading.Event()
        ended: list[bytes] = []

        def hold(media: bytes) -> None:
            if media == A:
                threads_wait(second_is_made)
            ended.append(media)
            second_is_made.set()

        rank.hold = hold
        delivery = DELIVERIES["leader-async"](rank.ports)
        futures = delivery.begin([order(rank, "leader-async", 1, A), order(rank, "leader-async", 2, B)])
        return [plain(future.result(LIMIT_S)) for future in futures], ended

    (first, ended), (second, _) = run_on_two_ranks(program)
    assert ended == [B, A]
    assert first == second == [expected(A), expected(B)]


@pytest.mark.parametrize("name", ["original", "eager", "eager-compact"])
def test_a_parcel_that_does_not_come_is_a_failure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmplane.delivery.make.PARCEL_SECONDS", 0.01)
    rank = bench(0, 1, [None, None])
    asked = order(rank, name, 1, A)
    rank.ports.parcels.drop(1)
    assert plain(DELIVERIES[name](rank.ports).begin([asked])[0].result()) == 503


def test_a_batch_is_one_collective_and_waits_in_the_cache() -> None:
    """Of three orders in one plan: O(N) collectives one by one, one as a batch (D1)."""

    def program(rank: Bench) -> Any:
        orders = [order(rank, "leader", 1, A), order(rank, "leader", 2, B), order(rank, "leader", 3, C)]
        DELIVERIES["leader"](rank.ports).begin(orders)
        one_by_one = rank.ports.meter.report()
        DELIVERIES["leader-batch"](rank.ports).begin(orders)
        return one_by_one, rank.ports.meter.report()

    for one_by_one, both in run_on_two_ranks(program):
        assert one_by_one.batches == ((1, 3),)
        assert both.batches == ((1, 3), (3, 1))
        assert (both.results_max, both.results_found, both.results_missed) == (3, 3, 0)


def test_a_result_that_was_pushed_out_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmplane.delivery.leader_batch.RESULTS_MAX", 2)
    rank = bench(0, 1, [None, None])
    orders = [order(rank, "leader-batch", number, A) for number in (1, 2, 3)]
    results = [plain(future.result()) for future in DELIVERIES["leader-batch"](rank.ports).begin(orders)]
    assert results == [500, expected(A), expected(A)]
    report = rank.ports.meter.report()
    assert (report.results_max, report.results_found, report.results_missed) == (2, 2, 1)
