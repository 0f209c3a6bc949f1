"""The pages of several machines have every flag of `mmplane worker`, `mmplane route` and `mmplane ray`."""

from __future__ import annotations

import argparse

import pytest
from test_architecture import ROOT, flag_table, section

from mmplane.commands import ray, route, worker

PAGES = {("cluster.md", "flags"): worker, ("cluster.md", "ray-flags"): ray, ("replicas.md", "flags"): route}


@pytest.mark.parametrize(("page", "name"), PAGES)
def test_its_flags_are_those_of_the_command(page: str, name: str) -> None:
    parser = argparse.ArgumentParser()
    PAGES[page, name].add_flags(parser)
    assert section(ROOT / "docs" / page, name) == "\n".join(flag_table(parser))
