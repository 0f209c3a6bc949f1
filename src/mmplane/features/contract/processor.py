"""The contract of a feature processor: decoded media in, the arrays that the model takes out.

`Processor` is what images, clips and sounds share. A processor is swappable: one class, one file, one conformance
suite. A fast one serves a family and must give the bits of the generic one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

LAYOUTS_MAX = 1024
"""How many sizes a processor remembers the layout of."""


class Processor(ABC):
    """Turns one decoded item into the arrays that the model takes.

    Pure: no I/O, no state between items but caches whose content depends on their key alone. Called by one thread, one
    item at a time.
    """

    @property
    @abstractmethod
    def fingerprint(self) -> bytes:
        """32 bytes over everything that changes the output: class, configuration, backend, library versions."""

    @property
    @abstractmethod
    def placeholder_id(self) -> int | None:
        """The token that stands for one item in a tokenised prompt; `Layout.expansion` replaces it.

        None where items have no place in the prompt.
        """

    @abstractmethod
    def warm(self) -> None:
        """Do all that happens once (compile, load from the cache on disk), so that no request's path does it."""

    def adjusted(self, arguments: Mapping[str, Any]) -> Self:
        """The same processor with arguments of one call, as transformers' class takes them, in place of its own.

        Raises ValueError for arguments that it does not take.
        """
        raise ValueError(f"the processor of these items takes no arguments: {', '.join(arguments)}")
