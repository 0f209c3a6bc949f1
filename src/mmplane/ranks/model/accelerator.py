"""transformers shards a model over the machine's accelerator, whatever device is meant. Here it is told which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def accelerator_is(device: torch.device) -> Iterator[None]:
    """While the block runs, torch says that its accelerator is of this device's type.

    transformers has no argument for it: with tensor parallelism it asks `torch._C._get_accelerator`, which names CUDA
    on a machine with a GPU, and with some builds of torch on one without, whatever `--device` says.
    """
    asked = torch._C._get_accelerator
    torch._C._get_accelerator = lambda *_, **__: torch.device(device.type)
    try:
        yield
    finally:
        torch._C._get_accelerator = asked
