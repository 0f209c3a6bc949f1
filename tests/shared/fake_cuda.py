"""PyTorch with a GPU whose stream does nothing until it is told to. Its memory is this process's.

Like the real one it remembers of a copy only an address, and not the tensor.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

INDEX = 3
NOT_REGISTERED = 713


class Cuda:
    """`torch.cuda`, as far as it is used, and its `cudart()`."""

    def __init__(self) -> None:
        self.registered: dict[int, tuple[int, int]] = {}  # (length, flags) by address
        self.error: int | Exception = 0
        self._device = 0
        self._asked: deque[Callable[[], None]] = deque()
        self._done = 0

    def is_initialized(self) -> bool:
        return True

    def current_device(self) -> int:
        return INDEX

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        self._device, before = index, self._device
        yield
        self._device = before

    def cudart(self) -> Cuda:
        assert self._device == INDEX, "this would make a context on another GPU"
        return self

    def cudaHostRegister(self, address: int, length_bytes: int, flags: int) -> int:  # noqa: N802
        if isinstance(self.error, Exception):
            raise self.error
        if not self.error:
            self.registered[address] = length_bytes, flags
        return self.error

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        return 0 if self.registered.pop(address, None) else NOT_REGISTERED

    def copy(self, source: torch.Tensor) -> torch.Tensor:
        """What `source.to("cuda", non_blocking=True)` does with registered memory."""
        made = torch.zeros_like(source)
        source_at, length_bytes = source.data_ptr(), source.nbytes
        self._asked.append(lambda: ctypes.memmove(made.data_ptr(), source_at, length_bytes) and None)
        return made

    def run(self, until: int | None = None) -> None:
        """Do all that was asked for, or the first `until` of it."""
        while self._asked and (until is None or self._done < until):
            self._asked.popleft()()
            self._done += 1

    def Event(self) -> Event:  # noqa: N802
        return Event(self)


class Event:
    """It has passed at once if nobody records it, as CUDA's."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._behind = 0

    def record(self) -> None:
        self._behind = self._cuda._done + len(self._cuda._asked)

    def query(self) -> bool:
        return self._cuda._done >= self._behind

    def synchronize(self) -> None:
        self._cuda.run(self._behind)


class Torch:
    """`torch` with that GPU."""

    Tensor = torch.Tensor

    def __init__(self) -> None:
        self.cuda: Any = Cuda()
