"""How long each stage of one request took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Stages:
    """Milliseconds by stage, of one request."""

    _at_s: float = field(default_factory=time.perf_counter)
    ms: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        """What happened since the last mark was this stage."""
        now_s = time.perf_counter()
        self.ms[name] = self.ms.get(name, 0.0) + (now_s - self._at_s) * 1000
        self._at_s = now_s
