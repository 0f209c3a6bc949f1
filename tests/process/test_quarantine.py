"""Invariant 6, for real: a stopped worker that writes late changes nobody's features."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import psutil
from blake3 import blake3
from live import Live, serving
from pictures import jpeg, noise, part, text
from reference import Reference

from polling import until

MIB = 2**20


def digest_of(live: Live, media: bytes) -> tuple[int, set[str]]:
    answer = live.chat([part(media), text("?")], max_tokens=1, mmplane={"trace": True})
    if not answer.is_success:
        return answer.status_code, set()
    return 200, set(answer.json()["mmplane"]["trace"]["items"][0]["digests"].values())


def stop_while_writing(live: Live, media: bytes) -> tuple[psutil.Process, Thread, list[int]]:
    """Send a picture to stopped workers: one of them has a slot to write, and all of the write still before it."""
    workers = {title: process for title, process in live.processes().items() if title.startswith("worker")}
    for worker in workers.values():
        worker.suspend()
    statuses: list[int] = []
    thread = Thread(target=lambda: statuses.append(digest_of(live, media)[0]))
    thread.start()

    def writing() -> int | None:
        regions = live.statistics()["arena"]["regions"]
        return next((index for index, region in enumerate(regions) if index and region["writing_bytes"]), None)

    late = workers.pop(f"worker {until(writing, 60, 'a worker is to write')}")
    for worker in workers.values():
        worker.resume()
    return late, thread, statuses


def test_a_late_writer(tiny_folder: Path, reference: Reference) -> None:
    flags = ("--item-seconds", "6", "--stall-seconds", "4", "--arena-bytes", str(64 * MIB), "--encoding", "float32")
    with serving(tiny_folder, *flags) as live:
        worker, thread, statuses = stop_while_writing(live, jpeg(1, 3000, 3000))
        live.supervisor.suspend()  # or it would kill the worker before it can do harm
        thread.join()
        assert statuses == [503]
        assert live.statistics()["arena"]["total"]["quarantined_bytes"] > 0
        # Fill the arena over and over: the other worker's region evicts, the quarantined slot stays where it is.
        for seed in range(500, 512):
            media = noise(seed, 700, 700)
            features = reference.features(media)["pixel_values"].numpy().tobytes()
            assert digest_of(live, media) == (200, {blake3(features).hexdigest()})
            if seed == 505:
                worker.resume()  # it writes on, into bytes that are still its own
        assert live.statistics()["arena"]["evictions"] > 0
        live.supervisor.resume()
        until(lambda: not worker.is_running(), 60, "the worker is replaced")
        until(lambda: live.statistics()["workers"]["states"]["idle"] == 2, 60, "its successor is idle")
        statistics = live.statistics()
        assert statistics["arena"]["total"]["quarantined_bytes"] == 0
        assert statistics["arena"]["leases"] == 0
