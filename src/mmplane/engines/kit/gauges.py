"""Gauges in the engine's own `/metrics`.

When `prometheus_client` is imported, it decides how processes share metrics, and engines configure that first. So it
is imported here when the first gauge is created. A process that runs two engines has each gauge once, with their sum.

Figures are read and shown under one lock: otherwise the older counts of two threads might be shown last.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

PREFIX = "mmplane_"

_made: dict[str, _Gauge] = {}
_showing = Lock()


class Gauges:
    """One owner's gauges. `table` maps each name, without the prefix, to its help text.

    With a `label`, the table has only one gauge, with a value for each value of the label. `mode` is how a scrape
    combines processes: "livesum" sums over living processes, "livemostrecent" is for a figure that all of them share.
    `late` gauges are created when they are first shown.
    """

    def __init__(self, table: Mapping[str, str], *, label: str = "", mode: str = "livesum", late: bool = False) -> None:
        self._table = table
        self._label = label
        self._mode = mode
        if not late:
            self.show(dict)

    def show(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Set what `read` returns, by name or by the label's value. May be called in any thread.

        `read` must not wait. Raises KeyError for a name that is not in the table.
        """
        with _showing:
            gauges = {name: self._gauge(name) for name in self._table}
            for key, value in read().items():
                name, label = (next(iter(gauges)), key) if self._label else (key, "")
                gauges[name].set(self, label, value)

    def _gauge(self, name: str) -> _Gauge:
        if name not in _made:
            _made[name] = _Gauge(name, self._table[name], self._label, self._mode)
        return _made[name]


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
