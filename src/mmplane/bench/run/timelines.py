"""Records the server's own timelines of one request and of ten for each design, without other figures.

Requests ask for no digests and nothing else runs, so the drawings show only the work of a request.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mmplane.bench.inputs.making import Made, made
from mmplane.bench.inputs.workloads import Request, Workload
from mmplane.bench.run import turns
from mmplane.bench.run.progress import Progress
from mmplane.bench.run.server import Server, serving
from mmplane.bench.run.settings import CACHED, Options

AT_ONCE = (1, 10)


def timelines(workload: Workload, tp: int, options: Options, progress: Progress) -> list[dict[str, Any]]:
    """Return the timelines for each delivery and number of concurrent requests, in order of arrival."""
    load = workload.make(max(AT_ONCE), workload.tokens)
    items = list(made(load.sources, options.model_folder))
    found = []
    with serving(options.model_folder, tp=tp, flags=options.server_flags(workload)) as server:
        for delivery in options.deliveries:
            server.switch(delivery, cache=delivery in CACHED)
            _send(server, load.requests[:1], items, f"{delivery}/warm", progress)
            for count in AT_ONCE:
                progress.stage(f"{workload.name}: {delivery}, {count} at once", count)
                _send(server, load.requests[:count], items, f"{delivery}/{count}", progress)
                place = {"workload": workload.name, "tp": tp, "delivery": delivery, "at_once": count}
                found.append(place | {"requests": server.requests()[:count][::-1]})
    return found


def _send(server: Server, requests: tuple[Request, ...], items: list[Made], note: str, progress: Progress) -> None:
    plain = [msgspec.structs.replace(each, body=_untraced(each.body)) for each in requests]
    turns.send(server, turns.TurnPlan(plain, (), len(plain)), items, note, progress.tick)


def _untraced(body: bytes) -> bytes:
    """Without a trace in the answer, no rank digests features."""
    return body.replace(b'"trace":true', b'"trace":false')
