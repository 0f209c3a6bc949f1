"""Many items through one client: every worker is busy, and no more is read than that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sidecar_rig import HANG_S, Rig

from attaching import picture
from mmplane import Full
from mmplane.embed.series import in_order
from mmplane.embed.wanted import Wanted

WORKERS = 3


@pytest.mark.parametrize(("ahead", "asked"), [(5, 5), (None, 2 * WORKERS)])
def test_every_worker_has_an_item_and_the_rest_is_not_read_yet(
    ahead: int | None, asked: int, rig_of: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmplane.embed.client.AHEAD", 1)
    rig, read = rig_of(workers=WORKERS), []

    def medias() -> Iterator[bytes]:
        for number in range(20):
            read.append(number)
            yield picture(str(number))

    rig.gate.close()
    with rig.client() as client, ThreadPoolExecutor(1) as thread:
        holds = client.map(medias(), ahead=ahead)
        first = thread.submit(next, holds)
        for _ in range(WORKERS):
            assert rig.gate.begun.acquire(timeout=HANG_S), "a worker stands idle"
        rig.until(lambda now: now["requests"] == asked)
        assert len(read) == asked
        rig.gate.open()
        first.result(HANG_S)
        assert len(read) == asked, "nobody has asked for the second one"
        assert len(list(holds)) == 19
        del first
    rig.check_at_rest()


class Room:
    """A sidecar with room for so many items at a time; `at_once` has how many there were at each wait."""

    def __init__(self, items: int) -> None:
        self._items = items
        self._begun: list[Future[str]] = []
        self.at_once: list[int] = []

    def begin(self, wanted: Wanted) -> Future[str]:
        future: Future[str] = Future()
        self._begun.append(future)
        future.name = str(wanted.media)  # type: ignore[attr-defined]
        return future

    def wait(self, future: Future[str]) -> str:
        self._begun = [each for each in self._begun if not each.cancelled()]
        self.at_once.append(len(self._begun))
        self._begun.remove(future)
        if self.at_once[-1] > self._items:
            raise Full("no room")
        return future.name  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(("items", "at_once"), [(1, 1), (3, 2), (5, 4), (8, 8)])
def test_where_room_is_short_as_many_are_made_at_a_time_as_fit(items: int, at_once: int) -> None:
    room, names = Room(items), [str(number) for number in range(20)]
    made = in_order(map(Wanted, names), room.begin, room.wait, ahead=8, failures=False)  # type: ignore[arg-type]
    assert list(made) == names
    tries = [count for count in room.at_once if count > items]
    assert tries == [count for count in (8, 4, 2) if count > items]
    assert room.at_once[len(tries) : -at_once] == [at_once] * (20 - at_once)


def test_an_item_that_fits_not_even_alone_is_an_error_in_its_place() -> None:
    made = list(in_order(map(Wanted, "ab"), (room := Room(0)).begin, room.wait, ahead=2, failures=True))  # type: ignore[arg-type]
    assert [type(each) for each in made] == [Full, Full]
