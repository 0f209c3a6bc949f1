"""The contract of a design: two halves, one in the tokenizer process and one on each rank.

SGLang 0.5.23 decodes and transforms in the tokenizer process. What is left to do on a rank, the *build*, is what the
analyses call materialisation: `MultimodalInputs.from_processor_output`, which hashes the features (tens of
milliseconds for a large picture) and makes the object that the scheduler uses (some 20 us).

Whatever the design, each rank says at the end of the step whether it has a request's inputs, in one `all_reduce`, and a
request is admitted when all have them, or failed when all are done and one has failed. So a failure on one rank is that
request's 500, and ranks never disagree about which requests there are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from mmplane.delivery.delivery import Delivery
from mmplane.delivery.ports import Ports


class Design(ABC):
    """One way to get a request's multimodal inputs to all ranks."""

    name: ClassVar[str]
    """What `MMPLANE_SGLANG_DESIGN` and the switch call it."""
    analysis: ClassVar[str]
    """Which of the analyses' proposals it is."""
    in_arena: ClassVar[bool] = False
    """Whether features travel in the arena; otherwise as SGLang sends them, in a named segment for each tensor."""
    as_sglang: ClassVar[bool] = False
    """Whether SGLang's own function builds, which obeys `--enable-broadcast-mm-inputs-process`."""

    def finish(self, items: Sequence[Any]) -> None:  # noqa: B027 - most do nothing there
        """In a thread of the tokenizer process: what is done with a request's items before they are sent."""

    @abstractmethod
    def delivery(self, ports: Ports) -> Delivery:
        """The rank's half. It is asked for orders of one item, which is SGLang's `MultimodalProcessorOutput`."""
