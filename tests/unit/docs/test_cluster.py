"""The pages of several machines have every flag of `mmplane worker` and of `mmplane route`."""

from __future__ import annotations

import argparse

import pytest
from test_architecture import ROOT, flag_table, section

from mmplane.commands import route, worker

PAGES = {"cluster.md": worker, "replicas.md": route}


@pytest.mark.parametrize("page", PAGES)
def test_its_flags_are_those_of_the_command(page: str) -> None:
    parser = argparse.ArgumentParser()
    PAGES[page].add_flags(parser)
    assert section(ROOT / "docs" / page, "flags") == "\n".join(flag_table(parser))
