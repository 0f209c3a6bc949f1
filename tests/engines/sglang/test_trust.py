"""The checks of `trust_checks.py`, which run in SGLang's own environment: one process for all of them."""

from __future__ import annotations

import pytest
from sglang_checks import names, outcomes

PROGRAM = "trust_checks.py"


@pytest.mark.parametrize("name", names(PROGRAM))
def test_trust(name: str) -> None:
    error = outcomes(PROGRAM)[name]
    assert error is None, error
