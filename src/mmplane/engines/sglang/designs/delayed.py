"""`delayed`: rank 0 broadcasts the input of the build, and all ranks build at the same time, in the step (C1).

Tokenizer: nothing. Rank 0: pickles the processor's output. Every rank: hashes, builds. Collectives: two broadcasts for
each request.

Differs from C1 in what it can save. In C1 the raw dict held undecoded media and was small. SGLang 0.5.23's processor
has already run, in the tokenizer process, so the input of the build is as large as its result.
"""

from __future__ import annotations

from mmplane.delivery import delayed
from mmplane.delivery.delivery import Delivery
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class Delayed(Design):
    """Broadcast first, build afterwards."""

    name = "delayed"
    analysis = "C1"

    def delivery(self, ports: Ports) -> Delivery:
        """Broadcasts in the step."""
        return delayed.Delayed(ports)
