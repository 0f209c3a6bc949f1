"""Features on their way from host memory to the device that computes.

On a GPU a copy is started and not waited for. The bytes may be in the arena, whose owner gives them to another item as
soon as the request is held. So a request is held only when an event behind its copies has passed.

The GPU's driver reads memory that it knows (`register`) while this process goes on. It copies other memory once more,
before it returns. A rank maps regions read-only, which not every driver can register.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from mmplane.delivery.delivery import Features

log = logging.getLogger("mmplane")

PORTABLE, READ_ONLY = 1, 8
"""cudaHostRegisterPortable and cudaHostRegisterReadOnly."""


class Transfer:
    """Takes features to `device`. `cuda` is torch.cuda, and only used for a GPU."""

    def __init__(self, device: torch.device, *, cuda: Any = torch.cuda) -> None:
        self._device = device
        self._cuda = cuda

    def register(self, regions: Iterable[memoryview]) -> None:
        """Make the regions known to the driver, for as long as this process runs. A refusal is logged."""
        if self._device.type != "cuda":
            return
        with self._cuda.device(self._device.index):
            for region in regions:
                address = np.frombuffer(region, np.uint8).ctypes.data
                error = self._cuda.cudart().cudaHostRegister(address, len(region), PORTABLE | READ_ONLY)
                if int(error):
                    log.warning("the GPU's driver does not register features (%s): it copies each one twice", error)
                    with suppress(Exception):
                        torch.zeros(1, device=self._device)  # the next kernel would raise the refusal once more
                    return

    def take(self, features: Features) -> Features:
        """The same tensors on the device; in place on a CPU. `arrived` tells when the originals are no longer read."""
        return {name: self._moved(tensor) for name, tensor in features.items()}

    def arrived(self) -> Iterator[None]:
        """A turn for each time that the copies so far are not done yet."""
        if self._device.type == "cuda":
            event = self._cuda.Event()
            event.record()
            while not event.query():
                yield None

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device, non_blocking=True)
