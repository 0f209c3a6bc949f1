"""The designs on two ranks with SGLang's own classes: the checks of `design_checks.py`."""

from __future__ import annotations

import pytest
from sglang_checks import names, outcomes

PROGRAM = "design_checks.py"


@pytest.mark.parametrize("name", names(PROGRAM))
def test_designs(name: str) -> None:
    error = outcomes(PROGRAM)[name]
    assert error is None, error
