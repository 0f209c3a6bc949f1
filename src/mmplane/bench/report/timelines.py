"""Drawings of timelines: what each process did when, for one and ten requests, on axes that all designs share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmplane.bench.draw.lanes import Bar, Panel, lanes

RECEIVE, MAKE, WAIT, HAND_OVER, STEP = (
    "receive",
    "materialise",
    "wait for ranks",
    "wait, pickle, send or read",
    "the rank's step",
)
COLOURS = {RECEIVE: "#8c8c8c", MAKE: "#2ca02c", WAIT: "#c7c7c7", HAND_OVER: "#ff7f0e", STEP: "#9467bd"}
FRONT_END = "frontend"
MADE = ("decode", "transform")
SHORT_MS = 0.05
"""Shorter spans are not drawn."""

Group = dict[str, Any]
"""The requests of one design that were sent together."""


def drawings(groups: Sequence[Group]) -> dict[str, str]:
    """Return one SVG file for each design, by file name."""
    ends = {count: max(end_ms(group) for group in groups if group["at_once"] == count) for count in _counts(groups)}
    drawn = {}
    for delivery in dict.fromkeys(group["delivery"] for group in groups):
        own = [group for group in groups if group["delivery"] == delivery]
        panels = [Panel(_title(group), ends[group["at_once"]], list(bars(group["requests"]))) for group in own]
        title = f"{delivery}: {own[0]['workload']}, TP={own[0]['tp']}"
        drawn[f"{delivery}.svg"] = lanes(title, _processes(panels, own[0]["tp"]), panels, COLOURS)
    return drawn


def bars(requests: Sequence[dict[str, Any]]) -> Iterator[Bar]:
    """Yield one bar per activity, in milliseconds since the first of the requests arrived."""
    began_s = min(request["at_s"] for request in requests)
    for number, request in enumerate(requests):
        shift_ms = (request["at_s"] - began_s) * 1000
        for lane, kind, begin_ms, long_ms in _parts(request["spans"]):
            if long_ms >= SHORT_MS:
                said = f"request {number + 1}: {kind}, {long_ms:.1f} ms"
                yield Bar(lane, number, kind, shift_ms + begin_ms, long_ms, said)


def end_ms(group: Group) -> float:
    """Return when the last of the requests was answered, in milliseconds since the first one arrived."""
    requests = group["requests"]
    began_s = min(request["at_s"] for request in requests)
    ends: list[float] = [(request["at_s"] - began_s) * 1000 + request["ms"] for request in requests]
    return max(ends)


Part = tuple[str, str, float, float]
Span = Sequence[Any]
"""Stage, process, start in milliseconds since the request's start, and duration in milliseconds."""


def _parts(spans: Sequence[Span]) -> Iterator[Part]:
    front = {stage: (begin_ms, long_ms) for stage, process, begin_ms, long_ms in spans if process == FRONT_END}
    if "materialise" in front:
        yield FRONT_END, RECEIVE, 0.0, front["materialise"][0]
    delivered = [begin_ms for stage, _, begin_ms, _ in spans if stage == "deliver"]
    if "hold" in front and delivered:
        yield FRONT_END, WAIT, front["hold"][0], min(delivered) - front["hold"][0]
    for stage, process, begin_ms, long_ms in spans:
        if stage in MADE:
            yield process, MAKE, begin_ms, long_ms
        elif stage == "handoff":
            yield process, HAND_OVER, begin_ms, long_ms
        elif stage == "encode":
            yield process, STEP, begin_ms, long_ms
        elif stage == "deliver":
            yield from _handed_over(process, begin_ms, long_ms, spans)


def _handed_over(process: str, begin_ms: float, long_ms: float, spans: Iterable[Span]) -> Iterator[Part]:
    """Yield the parts of a delivery before and after the rank's own materialising."""
    own = [(begin, begin + long) for stage, where, begin, long in spans if where == process and stage in MADE]
    if not own:
        yield process, HAND_OVER, begin_ms, long_ms
        return
    first_ms, last_ms = min(begin for begin, _ in own), max(end for _, end in own)
    yield process, HAND_OVER, begin_ms, first_ms - begin_ms
    yield process, HAND_OVER, last_ms, begin_ms + long_ms - last_ms


def _counts(groups: Sequence[Group]) -> list[int]:
    return sorted({group["at_once"] for group in groups})


def _title(group: Group) -> str:
    return "one request" if group["at_once"] == 1 else f"{group['at_once']} requests at once"


def _processes(panels: Sequence[Panel], tp: int) -> list[str]:
    """Return the lanes from the front end to the ranks, with only those workers that did something."""
    workers = sorted({bar.lane for panel in panels for bar in panel.bars if bar.lane.startswith("worker")})
    return [FRONT_END, *workers, *(f"rank {rank}" for rank in range(tp))]
