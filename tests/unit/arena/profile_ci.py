"""One Hypothesis profile for this folder: the same examples on every run, unless a fuzz run asks for fresh ones."""

from __future__ import annotations

import os

from hypothesis import settings

FUZZ_EXAMPLES = int(os.environ.get("MMPLANE_FUZZ_EXAMPLES", "0"))

CI = settings(
    derandomize=not FUZZ_EXAMPLES,
    max_examples=FUZZ_EXAMPLES or 60,
    stateful_step_count=50,
    deadline=None,  # a loaded machine is not a failure
    database=None,
)
