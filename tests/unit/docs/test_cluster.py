"""The page of media machines has every flag of `mmplane worker`."""

from __future__ import annotations

import argparse

from test_architecture import ROOT, flag_table, section

from mmplane.commands.worker import add_flags

PAGE = ROOT / "docs" / "cluster.md"


def test_its_flags_are_those_of_the_command() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert section(PAGE, "flags") == "\n".join(flag_table(parser))
