"""What the command line makes of a machine."""

from __future__ import annotations

import pytest

from mmplane.cli import workers_for
from mmplane.config import GIB, Config


@pytest.mark.parametrize(
    ("cores", "arena_bytes", "workers"),
    [(1, GIB, 2), (2, GIB, 2), (16, GIB, 2), (16, 4 * GIB, 8), (16, 64 * GIB, 8), (256, 64 * GIB, 48)],
)
def test_workers_by_cores_and_room(cores: int, arena_bytes: int, workers: int) -> None:
    assert workers_for(cores, arena_bytes) == workers


def test_a_configuration_without_flags_has_what_the_smallest_machine_gets() -> None:
    assert Config(model="", model_folder="", served_name="").workers == workers_for(1, GIB)
