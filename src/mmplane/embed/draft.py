"""A draft: a slot that the producer writes in place."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from mmplane.arena.arrays import array, content, library_of
from mmplane.core.records import Item, Modality, Slot, Tensor
from mmplane.embed.hold import Hold


class Draft:
    """A slot that is being written. It is freed with this object, unless it is published.

    `window` is its region's bytes. `abandon` may be called from a finalizer.
    """

    def __init__(
        self,
        slot: Slot,
        tensors: tuple[Tensor, ...],
        window: Any,
        *,
        publish: Callable[[Item], Hold],
        abandon: Callable[[], object],
    ) -> None:
        self._slot = slot
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._window = window
        self._publish = publish
        self._unpublished = weakref.finalize(self, abandon)
        self._unpublished.atexit = False

    def arrays(self, library: Any) -> dict[str, Any]:
        """Writable arrays of shared memory, by name. Write to them only before `publish`."""
        return {name: self._array(library, one) for name, one in self._tensors.items()}

    def fill(self, name: str, values: Any) -> None:
        """Copy an array in, with the interpreter's lock released."""
        library, flat = library_of(values), content(values)
        self._array(library, Tensor(name, "uint8", (len(flat),), self._tensors[name].offset_bytes))[...] = flat

    def fill_all(self, arrays: Mapping[str, Any]) -> None:
        """Copy arrays in by name; an array without elements is skipped."""
        for name, values in arrays.items():
            if prod(values.shape):
                self.fill(name, values)

    def publish(self, key: bytes, *, modality: Modality = "image") -> Hold:
        """The bytes are complete: index them under their key. If another producer was faster, its item is held."""
        unpublished = self._unpublished.detach()
        assert unpublished is not None, "a draft is published once"
        item = Item(key, modality, self._slot, tuple(self._tensors.values()))
        return self._publish(item)

    def _array(self, library: Any, tensor: Tensor) -> Any:
        return array(library, tensor, self._window, self._slot.offset_bytes, self._slot.length_bytes)
