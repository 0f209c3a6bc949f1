"""Hypothesis in these folders: the same examples on every run, unless a fuzz run asks for fresh ones."""

from __future__ import annotations

import gc
import os

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
    """What is imported and collected is never garbage: nobody looks through it for some."""
    gc.freeze()
    gc.enable()
