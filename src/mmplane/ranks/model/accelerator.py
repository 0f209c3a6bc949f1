"""Makes transformers shard a model over the given device, instead of over whatever accelerator the machine has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def accelerator_is(device: torch.device) -> Iterator[None]:
    """Inside the block, torch reports that its accelerator has this device's type.

    transformers has no argument for it: with tensor parallelism it asks `torch._C._get_accelerator`, which names CUDA
    on a machine with a GPU, and with some builds of torch also on one without, whatever `--device` says.
    """
    asked = torch._C._get_accelerator
    torch._C._get_accelerator = lambda *_, **__: torch.device(device.type)
    try:
        yield
    finally:
        torch._C._get_accelerator = asked
