"""`delayed`: rank 0 broadcasts what is not built yet, and all ranks build at the same time, in the step (C1).

Tokenizer: nothing. Rank 0: pickles the processor's output. Every rank: hashes, builds. Collectives: two broadcasts for
each request.

Differs from C1 in what it can save: there the raw dict held undecoded media and was small. SGLang 0.5.23's processor
has run before, in the tokenizer process, so what is not built yet is as large as what is.
"""

from __future__ import annotations

from mmplane.delivery import delayed
from mmplane.delivery.delivery import Delivery
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class Delayed(Design):
    """Broadcast first, build after."""

    name = "delayed"
    analysis = "C1"

    def delivery(self, ports: Ports) -> Delivery:
        """Broadcasts in the step."""
        return delayed.Delayed(ports)
