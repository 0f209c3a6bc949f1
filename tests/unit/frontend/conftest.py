"""What the front end's tests share."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from mmplane.models.tiny import tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The built-in model's: one token for each byte, and Qwen's special tokens."""
    return tiny_tokenizer()
