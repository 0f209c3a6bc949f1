"""Counts features that were carried or passed over, by reason, and logs the first of each.

Every feature is either carried or passed over. `mmplane doctor --ENGINE URL` fails if some were seen and none was
carried, so `seen` must be called before anything that may fail.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from threading import Lock


class Tally:
    """Counts of one process. Its methods may be called in any thread.

    `reasons` maps each reason for passing a feature over to the rest of the sentence "passed over because ...".
    """

    def __init__(self, reasons: Mapping[str, str], log: logging.Logger, *, what: str = "feature") -> None:
        self._reasons = dict(reasons)
        self._log = log
        self._what = what
        self._lock = Lock()
        self._seen = 0
        self._carried = 0
        self._passed_over: Counter[str] = Counter()

    def seen(self, count: int = 1) -> None:
        """Count features that have arrived."""
        with self._lock:
            self._seen += count

    def carried(self, count: int = 1) -> None:
        """Count features that went through the arena."""
        with self._lock:
            is_first = count > 0 and self._carried == 0
            self._carried += count
        if is_first:
            self._log.info("mmplane: first %s in the arena", self._what)

    def passed_over(self, reason: str, detail: object = "") -> None:
        """Count a feature that takes the engine's own path. Raises KeyError for an undeclared reason."""
        text = self._reasons[reason]
        with self._lock:
            is_first = self._passed_over[reason] == 0
            self._passed_over[reason] += 1
        if is_first:
            more = f" ({detail})" if detail else ""
            self._log.warning(
                "mmplane: first %s passed over because %s%s; others are only counted", self._what, text, more
            )

    def figures(self) -> dict[str, int]:
        """`features_seen`, `features_carried`."""
        with self._lock:
            return {"features_seen": self._seen, "features_carried": self._carried}

    def reasons(self) -> dict[str, int]:
        """How many were passed over, for every declared reason."""
        with self._lock:
            return {reason: self._passed_over[reason] for reason in self._reasons}
