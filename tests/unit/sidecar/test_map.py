"""Many items through one client: every worker is busy, and no more is read than that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sidecar_rig import HANG_S, Rig

from attaching import picture

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
