"""Hypothesis in these folders: the same examples on every run, unless a fuzz run asks for fresh ones."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

FUZZ_EXAMPLES = int(os.environ.get("MMPLANE_FUZZ_EXAMPLES", "0"))

settings.register_profile(
    "mmplane",
    derandomize=not FUZZ_EXAMPLES,
    max_examples=FUZZ_EXAMPLES or 60,
    deadline=None,  # a loaded machine is not a failure
    database=None,
)
settings.load_profile("mmplane")

gc.disable()


def pytest_collection_finish() -> None:
    """Modules and tests are never garbage, so no collection looks through them.

    The collection at the end lets Python forget how many objects there were: it puts full collections off until their
    number has grown by a quarter, and meanwhile garbage would keep its descriptors.
    """
    gc.freeze()
    gc.enable()
    gc.collect()


@pytest.fixture(autouse=True)
def _its_own_log() -> Iterator[None]:
    """A command that runs in this process logs to the test's stderr, whose descriptor is another file's afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers).difference(handlers):
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set in the shell would change the commands that a test runs."""
    for name in [name for name in os.environ if name.startswith("MMPLANE_")]:
        monkeypatch.delenv(name)
