"""What the ranks' tests share."""

import logging
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)  # tensors are tiny here: a second thread only waits for a core


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Injected faults are logged with their stacks, thousands of them."""
    logger = logging.getLogger("mmplane")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)
