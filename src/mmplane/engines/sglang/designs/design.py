"""The contract of a design: one half in the tokenizer process and one on each rank.

SGLang 0.5.23 decodes and transforms in the tokenizer process. The remaining work on a rank, the *build*, is what the
analyses call materialisation: `MultimodalInputs.from_processor_output`, which hashes the features (tens of
milliseconds for a large picture) and creates the object that the scheduler uses (some 20 us).

With any design, each rank reports at the end of the step whether it has a request's inputs, in one `all_reduce`. A
request is admitted when all ranks have them, or fails when all are done and one has failed. So a failure on one rank
is that request's 500, and ranks never disagree about which requests there are.
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
    """Its name in `MMPLANE_SGLANG_DESIGN` and in the switch."""
    analysis: ClassVar[str]
    """The proposal of the analyses that it implements."""
    in_arena: ClassVar[bool] = False
    """Whether features travel in the arena; otherwise as SGLang sends them, in a named segment for each tensor."""
    as_sglang: ClassVar[bool] = False
    """Whether SGLang's own function builds, which obeys `--enable-broadcast-mm-inputs-process`."""

    def finish(self, items: Sequence[Any]) -> None:  # noqa: B027 - most do nothing there
        """In a thread of the tokenizer process: the work on a request's items before they are sent."""

    @abstractmethod
    def delivery(self, ports: Ports) -> Delivery:
        """The rank's half. Its orders have one item, SGLang's `MultimodalProcessorOutput`."""
