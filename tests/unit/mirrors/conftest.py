from __future__ import annotations

from collections.abc import Iterator

import pytest
from mirror_rig import Mirrored, mirrored


@pytest.fixture
def rig() -> Iterator[Mirrored]:
    with mirrored() as made:
        yield made
