"""Gauges in the engine's own `/metrics`.

When `prometheus_client` is imported, it decides how processes share metrics, and engines configure that first. So it
is imported here when the first gauge is created. A process that runs two engines has each gauge once, with their sum.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

PREFIX = "mmplane_"

_made: dict[str, _Gauge] = {}


class Gauges:
    """One owner's gauges. `table` maps each name, without the prefix, to its help text.

    `label` is for `show_by`: the label of the table's only gauge. `mode` is how a scrape combines processes: "livesum"
    sums over living processes, "livemostrecent" is for a figure that all of them share.
    """

    def __init__(self, table: Mapping[str, str], *, label: str = "", mode: str = "livesum") -> None:
        for name, text in table.items():
            if name not in _made:
                _made[name] = _Gauge(name, text, label, mode)
        self._gauges = {name: _made[name] for name in table}

    def show(self, figures: Mapping[str, float]) -> None:
        """Set the named gauges. Raises KeyError for a name that is not in the table."""
        for name, value in figures.items():
            self._gauges[name].set(self, "", value)

    def show_by(self, name: str, values: Mapping[str, float]) -> None:
        """Set one gauge for each value of its label."""
        for label, value in values.items():
            self._gauges[name].set(self, label, value)


class _Gauge:
    """A gauge, and the value that each living owner has set."""

    def __init__(self, name: str, text: str, label: str, mode: str) -> None:
        self._is_shared = mode != "livesum"
        gauge = importlib.import_module("prometheus_client").Gauge
        self._gauge: Any = gauge(PREFIX + name, text, [label] if label else [], multiprocess_mode=mode)
        self._set: dict[str, WeakKeyDictionary[object, float]] = {}

    def set(self, owner: object, label: str, value: float) -> None:
        parts = self._set.setdefault(label, WeakKeyDictionary())
        parts[owner] = value
        gauge = self._gauge.labels(label) if label else self._gauge
        gauge.set(value if self._is_shared else sum(parts.values()))
