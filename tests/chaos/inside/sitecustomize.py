"""Run by what the servers under test are forked from: they learn to hold; see holds.py beside this."""

import os

import holds

holds.install()

if "MMPLANE_TEST_MUTANT" in os.environ:
    import mutants

    mutants.install()
