"""What seeing costs the front end for one request: phases, what worker and ranks reported, histograms by label.

    python benchmarks/observing.py [--rounds N] [--ranks N] [--trace]

Processor time of one thread, all warm. Declared bias: labels repeat as those of real traffic do, so dictionaries
are found in the cache; a scrape is measured apart, since it happens once in seconds and in a thread. With --trace the
event loop's part of a trace is measured too (the request's own span), not that of the thread which makes the others.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from mmplane.core.plan import Work
from mmplane.core.stages import PHASES, Span
from mmplane.observe.journal import Journal, Tracer

BATCH = 1000
TOKENS = 16
"""Of an answer."""


def request(journal: Journal, works: tuple[Work, ...], headers: list[tuple[bytes, bytes]]) -> None:
    """All that one image request makes the front end note."""
    journey = journal.begin(headers)
    journey.asked(["image"])
    for phase in PHASES[1 : PHASES.index("hold")]:
        journey.enter(phase)
    journey.add([Span(stage, "worker 1", 1.0, 0.001) for stage in ("slot_wait", "handoff", "decode", "transform")])
    journey.delivery = "arena"
    journey.enter("hold")
    journey.heard(works, journey.began_s)
    for phase in PHASES[PHASES.index("prefill") + 1 :]:
        journey.enter(phase)
    for _ in range(TOKENS):
        journey.drew(0)
    journal.end(journey, 200)


def microseconds(rounds: int, works: tuple[Work, ...], tracer: Tracer | None) -> float:
    journal = Journal(tracer)
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    took = []
    for _ in range(rounds):
        began_s = time.thread_time()
        for _ in range(BATCH):
            request(journal, works, headers)
        took.append((time.thread_time() - began_s) / BATCH * 1e6)
    return median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    works = tuple(Work(0, 0.0, 0.5, 1.0, 0.0, 0.5) for _ in range(options.ranks))
    print(f"one request, {options.ranks} ranks: {microseconds(options.rounds, works, None):.1f} µs")
    if options.trace:
        from mmplane.observe.trace import Tracer as Real

        traced_us = microseconds(options.rounds, works, Real("file:/dev/null", "tiny"))
        print(f"with traces, the loop's part: {traced_us:.1f} µs")


if __name__ == "__main__":
    main()
