"""`leader`: rank 0 builds and broadcasts the object, one request after the other, in the step (the incident's commit).

Tokenizer: nothing. Rank 0: hashes, builds, pickles. The others: wait, unpickle. Collectives: two broadcasts for each
request (the length, the bytes), in SGLang's own CPU group, like `broadcast_object_list`.

Differs from the commit (`_process_and_broadcast_mm_inputs`) in failures: with the commit, the others do not learn that
a rank cannot read the object. SGLang's flag does the same work; the design can be switched on and off at run time.
"""

from __future__ import annotations

from mmplane.delivery import leader
from mmplane.delivery.delivery import Delivery
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class Leader(Design):
    """The commit."""

    name = "leader"
    analysis = "the incident's commit"

    def delivery(self, ports: Ports) -> Delivery:
        """Broadcasts in the step."""
        return leader.Leader(ports)
