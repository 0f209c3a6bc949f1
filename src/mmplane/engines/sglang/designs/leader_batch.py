"""`leader-batch`: rank 0 builds all new requests of a step and broadcasts them at once (D1).

Tokenizer: nothing. Rank 0: like `leader`, for all requests of one `process_input_requests`. Collectives: two broadcasts
for each step that has any. Results wait by request id in D1's cache, at most 1,000.

Differs from D1: the received list is used (in D1 it is a temporary, so followers never see it); a failure is a payload,
not a local fallback that leaves the others waiting; all ranks have the same batch, so the cache evicts the same entries
on all of them.
"""

from __future__ import annotations

from mmplane.delivery import leader_batch
from mmplane.delivery.delivery import Delivery
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class LeaderBatch(Design):
    """One collective for a step."""

    name = "leader-batch"
    analysis = "D1"

    def delivery(self, ports: Ports) -> Delivery:
        """Broadcasts in the step."""
        return leader_batch.LeaderBatch(ports)
