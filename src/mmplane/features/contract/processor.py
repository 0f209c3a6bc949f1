"""The contract of a feature processor: turns decoded media into the arrays that the model takes.

`Processor` is what processors of images, clips and sounds share. A processor is swappable: one class, one file, one
conformance suite. A fast one serves a family and must give the bits of the generic one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

LAYOUTS_MAX = 1024
"""Number of sizes whose layout a processor caches."""


class Processor(ABC):
    """Turns one decoded item into the arrays that the model takes.

    Pure: no I/O, and no state between items except caches that depend only on their key. Called by one thread, one
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

        None if items have no place in the prompt.
        """

    @abstractmethod
    def warm(self) -> None:
        """Do all one-time work (compile, load from the cache on disk), so that no request has to wait for it."""

    def adjusted(self, arguments: Mapping[str, Any]) -> Self:
        """Return the same processor with a call's own arguments, with the names of transformers' class.

        Raises ValueError for arguments that it does not support.
        """
        raise ValueError(f"the processor of these items takes no arguments: {', '.join(arguments)}")
