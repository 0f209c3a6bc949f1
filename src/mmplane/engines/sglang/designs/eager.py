"""`eager`: features and their hash are finished in the tokenizer process (A1, B1, B2).

Tokenizer: SGLang's hash of each item, in four threads (B2), not on the event loop (as A1 has it). Each rank: opens the
segments and creates the object around them: no hash, some 20 us. Collectives: none.

Differs from A1: SGLang 0.5.23's message type cannot carry a finished `MultimodalInputs`, so each rank makes the
wrapper. Differs from B1: SGLang's processor already returns finished features, so nothing is lazy and there is nothing
to force.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from mmplane.delivery.delivery import Delivery
from mmplane.delivery.original import Original
from mmplane.delivery.ports import Ports
from mmplane.engines.sglang.designs.design import Design


class Eager(Design):
    """Hash before sending."""

    name = "eager"
    analysis = "A1, B1, B2"

    def finish(self, items: Sequence[Any]) -> None:
        """SGLang's own hash, because the plugin's wrapper of the same function computes the arena's."""
        for item in items:
            inspect.unwrap(type(item).set_pad_value)(item)

    def delivery(self, ports: Ports) -> Delivery:
        """No collective."""
        return Original(ports)
