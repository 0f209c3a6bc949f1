"""constraints.txt holds a version for everything that pyproject.toml asks for, and no place to get it from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools import lock

ROOT = Path(__file__).parents[3]
LINES = (ROOT / "constraints.txt").read_text().splitlines()[1:]
PINS = dict(line.split("==") for line in LINES)
HOW = "run `.venv/bin/python tools/lock.py` and commit constraints.txt"


@pytest.mark.parametrize("requirement", lock.declared(), ids=str)
def test_what_is_declared_is_locked(requirement: Requirement) -> None:
    version = PINS.get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} has no version: {HOW}"
    assert requirement.specifier.contains(version), f"{requirement}, and {version} is locked: {HOW}"


def test_there_are_names_and_versions_and_nothing_else() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", line)] == []
    assert sorted(LINES, key=lambda line: line.split("==")[0]) == LINES


def test_torch_is_the_makefiles() -> None:
    assert f"TORCH := torch=={PINS['torch']}\n" in (ROOT / "Makefile").read_text()


def test_everything_that_those_need_is_locked_too() -> None:
    assert set(lock.pins(lock.declared())) == set(PINS), HOW
