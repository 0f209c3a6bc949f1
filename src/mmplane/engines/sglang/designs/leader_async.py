"""`leader-async`: rank 0 builds in a pool of threads and broadcasts in the background (A3, C2).

Tokenizer: nothing. Rank 0: four threads build. Every rank: its lane, one thread, enters the broadcasts in message
order, in a separate process group. The loop continues; the request joins in the first step after all ranks have it.

Differs from C2: one thread runs all collectives (in C2 several threads use one group and can get out of order), nothing
calls `future.result()` on the loop, and an abort cancels the build but not the collective, which all ranks enter.
"""

from __future__ import annotations

from mmplane.delivery import leader_async
from mmplane.delivery.delivery import Delivery
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class LeaderAsync(Design):
    """The pool and the lane."""

    name = "leader-async"
    analysis = "A3, C2"

    def delivery(self, ports: Ports) -> Delivery:
        """Broadcasts in the lane."""
        return leader_async.LeaderAsync(ports)
