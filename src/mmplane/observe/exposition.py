"""Prometheus' text format from a table of metrics and a snapshot of figures. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmplane.core.buckets import Reading

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
Value = float | Reading


@dataclass(frozen=True)
class Figures:
    """A snapshot: the statistics of every part, as in `GET /admin/statistics`, and some more."""

    now: Mapping[str, Any]
    counts: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)
    """Values by name, then by labels."""
    readings: Mapping[str, Mapping[Labels, Reading]] = field(default_factory=dict)


Read = Callable[[Figures], Iterable[tuple[Labels, Value]]]


@dataclass(frozen=True)
class Metric:
    """One metric: its name in queries (a histogram's without suffix), its labels, and the source of its values."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: Labels
    read: Read

    def lines(self, figures: Figures) -> Iterator[str]:
        """Its help, its type and its samples."""
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} {self.kind}"
        for values, value in self.read(figures):
            labels = ",".join(f'{name}="{_escaped(each)}"' for name, each in zip(self.labels, values, strict=True))
            if not isinstance(value, Reading):
                yield f"{self.name}{{{labels}}} {value}" if labels else f"{self.name} {value}"
                continue
            before = f"{self.name}_bucket{{{labels}," if labels else f"{self.name}_bucket{{"
            bounds = zip((*value.bounds_s, "+Inf"), value.below, strict=True)
            yield from (f'{before}le="{bound}"}} {count}' for bound, count in bounds)
            after = f"{{{labels}}}" if labels else ""
            yield f"{self.name}_count{after} {value.below[-1]}"
            yield f"{self.name}_sum{after} {value.total_s}"


def exposition(figures: Figures, metrics: Iterable[Metric]) -> bytes:
    """Render the metrics as text. For all metrics of a server it takes milliseconds: not for an event loop."""
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines(figures)).encode()


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
