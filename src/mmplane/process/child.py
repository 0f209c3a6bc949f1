"""A child's side of its control link: sends heartbeats and receives the supervisor's decisions."""

from __future__ import annotations

import time

from mmplane.core.control import Beat
from mmplane.core.records import Record
from mmplane.wire.link import Link, RecordT

BEAT_SECONDS = 1.0
"""Half of the shortest `--stall-seconds`. Each heartbeat wakes two processes up."""
CONTROL_LIMIT_S = 5.0


class Control:
    """The child's end. If the supervisor does not read (it is stopped), heartbeats are dropped and serving goes on."""

    def __init__(self, link: Link[RecordT]) -> None:
        self.link = link
        self._beaten_s = 0.0

    def beat(self) -> None:
        """Tell the supervisor that this loop makes progress. Cheap enough to call in every turn."""
        now_s = time.monotonic()
        if now_s - self._beaten_s >= BEAT_SECONDS:
            self._beaten_s = now_s
            self.link.send_nowait(Beat())

    def beat_computing(self) -> None:
        """Tell the supervisor that this process is alive while its loop computes. Call it from any thread."""
        self.link.send_nowait(Beat(computing=True))

    def tell(self, record: Record) -> None:
        """Send a record that must arrive."""
        self.link.send(record, limit_s=CONTROL_LIMIT_S)
