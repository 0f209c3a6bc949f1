"""`default`: what SGLang does, which is the analyses' "original", and the rollback.

Tokenizer: nothing. Each rank: opens the segments, hashes the features, builds. Collectives: none of its own. With
`--enable-broadcast-mm-inputs-process` SGLang's function builds on rank 0 and broadcasts: the incident's commit.

Differs from SGLang alone by the agreement: in SGLang an exception ends the server, or leaves one rank without the
request.
"""

from __future__ import annotations

from mmplane.delivery.delivery import Delivery
from mmplane.delivery.original import Original
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class Default(Design):
    """Every rank builds for itself, with SGLang's own function."""

    name = "default"
    analysis = "the original"
    as_sglang = True

    def delivery(self, ports: Ports) -> Delivery:
        """No collective."""
        return Original(ports)
