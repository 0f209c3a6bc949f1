"""A snapshot of a server's `/metrics`, and differences between two snapshots. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = dict[str, str]


@dataclass(frozen=True)
class Snapshot:
    """Every sample at one moment: (labels, value) by name."""

    at_s: float
    samples: dict[str, list[tuple[Labels, float]]]

    @classmethod
    def of(cls, text: str, at_s: float) -> Snapshot:
        """Parse Prometheus' text format. Raises ValueError."""
        samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name].append((sample.labels, sample.value))
        return cls(at_s, dict(samples))

    def sum(self, name: str, **labels: str) -> float:
        """Sum of the samples that have these labels; 0 if there are none."""
        return sum(value for found, value in self.samples.get(name, ()) if labels.items() <= found.items())

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The same sum for each value of one label, in the order of the text."""
        sums: dict[str, float] = {}
        for found, value in self.samples.get(name, ()):
            if labels.items() <= found.items():
                sums[found[label]] = sums.get(found[label], 0.0) + value
        return sums


@dataclass(frozen=True)
class Between:
    """Two snapshots of one server. If a counter fell, it was restarted, and its value counts from there."""

    before: Snapshot
    after: Snapshot

    @property
    def seconds(self) -> float:
        """Seconds between the snapshots."""
        return max(1e-9, self.after.at_s - self.before.at_s)

    def rise(self, name: str, **labels: str) -> float:
        """The increase of a counter."""
        now = self.after.sum(name, **labels)
        then = self.before.sum(name, **labels)
        return now - then if now >= then else now

    def rate(self, name: str, **labels: str) -> float:
        """A counter's increase per second."""
        return self.rise(name, **labels) / self.seconds

    def mean_s(self, name: str, **labels: str) -> float | None:
        """Mean of a histogram's durations between the two, or None."""
        count = self.rise(f"{name}_count", **labels)
        return self.rise(f"{name}_sum", **labels) / count if count else None

    def quantile_s(self, share: float, name: str, **labels: str) -> float | None:
        """The bucket bound that `share` of the durations do not exceed, or None."""
        now = self.after.by("le", f"{name}_bucket", **labels)
        then = self.before.by("le", f"{name}_bucket", **labels)
        if now.get("+Inf", 0.0) < then.get("+Inf", 0.0):
            then = {}
        below = {bound: count - then.get(bound, 0.0) for bound, count in now.items()}
        wanted = share * below.get("+Inf", 0.0)
        if not wanted:
            return None
        return next(float(bound) for bound, count in below.items() if count >= wanted)
