"""A rank's GPU, and the memory from which it copies features.

If the driver knows the memory, an engine starts a copy to the GPU and continues while it runs. Otherwise the driver
first copies the data into its own memory, on the engine's main thread. So a rank on a GPU maps the regions shared and
writable, and registers each of them with the driver once. A private mapping must not be registered: the driver pins
its pages, which turns them into private copies of this process, and the rank would read old bytes for ever.

PyTorch does not track such copies: it drops events of host memory that it has not allocated. So code that starts
copies calls `keep`. The tensors, and with them their leases, stay until an event behind the copies has passed.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from mmplane.arena.segment import Access
from mmplane.embed.windows import Register
from mmplane.engines.kit import settings

log = logging.getLogger("mmplane")

REGISTER_VARIABLE = "MMPLANE_GPU_REGISTER"
"""0: do not register memory; the driver copies features itself."""
PORTABLE = 1
"""cudaHostRegisterPortable: the memory counts as registered in every context of the process."""
PENDING_MAX = 64
"""Maximum number of pending events; the next `keep` waits until the GPU has reached the oldest."""


class Device:
    """GPU number `index` of `torch`. `keep` and `drain` belong to the thread that starts the copies."""

    def __init__(self, torch: Any, index: int) -> None:
        self._torch = torch
        self._index = index
        self._pid = os.getpid()
        self._lengths_bytes: dict[int, int] = {}  # by address
        self._pending: deque[tuple[Any, list[Any]]] = deque()
        self._refused = False

    @classmethod
    def current(cls, torch: Any) -> Device | None:
        """Return the GPU that this process computes on, or None if it has not started to use one."""
        return cls(torch, torch.cuda.current_device()) if torch.cuda.is_initialized() else None

    def register(self, address: int, length_bytes: int) -> Callable[[], None] | None:
        """Register this memory (`mmplane.embed.windows.Register`). Never raises."""
        try:
            with self._torch.cuda.device(self._index):  # a new thread uses GPU 0, and would create a context there
                error = self._torch.cuda.cudart().cudaHostRegister(address, length_bytes, PORTABLE)
        except Exception as raised:  # noqa: BLE001 - whatever it is, the rank can do without
            error = raised
        if isinstance(error, Exception) or int(error) != 0:
            self._say_refused(length_bytes, error)
            return None
        self._lengths_bytes[address] = length_bytes
        return partial(self._unregister, address)

    def holds(self, array: Any) -> bool:
        """Whether this array is in registered memory."""
        at = self._address(array)
        return at is not None and any(
            address <= at < address + length for address, length in list(self._lengths_bytes.items())
        )

    def keep(self, arrays: Iterable[Any]) -> None:
        """Copies of these were started on the current stream: keep the registered ones until they are done."""
        self.drain()
        kept = [array for array in arrays if self.holds(array)]
        if not kept:
            return
        event = self._torch.cuda.Event()
        event.record()
        self._pending.append((event, kept))
        if len(self._pending) > PENDING_MAX:
            self._pending.popleft()[0].synchronize()

    def drain(self) -> None:
        """Release tensors whose copies are done."""
        while self._pending and self._pending[0][0].query():
            self._pending.popleft()

    def _address(self, array: Any) -> int | None:
        if isinstance(array, self._torch.Tensor):
            return int(array.data_ptr()) if array.is_cpu else None
        interface = getattr(array, "__array_interface__", None)
        return int(interface["data"][0]) if interface is not None else None

    def _unregister(self, address: int) -> None:
        if os.getpid() == self._pid:  # a forked process has no context
            del self._lengths_bytes[address]
            with self._torch.cuda.device(self._index):
                self._torch.cuda.cudart().cudaHostUnregister(address)

    def _say_refused(self, length_bytes: int, error: object) -> None:
        if not self._refused:
            self._refused = True
            log.warning(
                "mmplane: the GPU's driver does not register %d MiB of features (%s): it copies each one once more",
                length_bytes >> 20,
                error,
            )


_current: Device | None = None


def begin(torch: Any) -> Access | Register:
    """Return how a rank's inbox maps the regions, once the engine has chosen its GPU. Raises ValueError.

    Only for engines whose copies end in `keep`.
    """
    global _current
    _current = Device.current(torch) if settings.flag(REGISTER_VARIABLE, default=True) else None
    return "private" if _current is None else _current.register


def current() -> Device | None:
    """This rank's GPU, or None if features are not registered."""
    return _current


def arrays_in(value: Any) -> Iterator[Any]:
    """Yield all leaves of nested lists, tuples and dicts."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from arrays_in(one)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
    else:
        yield value
