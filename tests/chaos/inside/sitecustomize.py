"""Loaded by the server under test (it lies on its PYTHONPATH): its nursery learns to hold; see holds.py beside this."""

import os
import sys

if "mmplane.process.nursery" in sys.orig_argv:
    import holds

    holds.install()

if "MMPLANE_TEST_MUTANT" in os.environ and {"mmplane.process.nursery", "serve"} & set(sys.orig_argv):
    import mutants

    mutants.install()
