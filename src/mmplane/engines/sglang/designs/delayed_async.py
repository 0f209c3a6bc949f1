"""`delayed-async`: like `delayed`, in the background (C3: C1 and C2 together).

Tokenizer: nothing. Every rank: its lane broadcasts the input of the build and two threads build; the next broadcast
does not wait for them. The loop continues; the request joins in the first step after all ranks have it.

Differs from C3 as `leader-async` differs from C2 and `delayed` from C1.
"""

from __future__ import annotations

from mmplane.delivery import delayed_async
from mmplane.delivery.delivery import Delivery
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class DelayedAsync(Design):
    """The lane, and a pool on every rank."""

    name = "delayed-async"
    analysis = "C3"

    def delivery(self, ports: Ports) -> Delivery:
        """Broadcasts in the lane."""
        return delayed_async.DelayedAsync(ports)
