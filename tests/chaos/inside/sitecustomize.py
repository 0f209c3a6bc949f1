"""Loaded by the server under test (it lies on its PYTHONPATH): its nursery learns to hold; see holds.py beside this.

So does a process from which the tests fork servers, nursery and all.
"""

import os
import sys
import traceback


def install(name: str) -> None:
    """Python would go on without what fails here."""
    try:
        __import__(name).install()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


preloaded = any(each.endswith("/preloaded.py") for each in sys.orig_argv)

if preloaded or "mmplane.process.nursery" in sys.orig_argv:
    install("holds")

if "MMPLANE_TEST_MUTANT" in os.environ and (preloaded or {"mmplane.process.nursery", "serve"} & set(sys.orig_argv)):
    install("mutants")
