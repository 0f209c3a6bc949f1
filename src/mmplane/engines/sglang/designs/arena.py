"""`arena`: features and their identity are finished before they are sent, in memory that all ranks map (B4 and on).

Tokenizer: as in the plugin without a design, features are written into a slot and digested, off the event loop. Each
rank: creates the object over the mapping, some 20 us. Collectives: none, not even those of SGLang's own transport.

Differs from B4 (a named segment for each request): nothing is created, opened or removed for a request.
"""

from __future__ import annotations

from mmplane.delivery.delivery import Delivery
from mmplane.delivery.original import Original
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class Arena(Design):
    """The plugin's own path."""

    name = "arena"
    analysis = "B4 and on"
    in_arena = True

    def delivery(self, ports: Ports) -> Delivery:
        """No collective."""
        return Original(ports)
