"""docs/sidecar.md is true where a machine can tell."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from test_architecture import ROOT, flag_table, section

import mmplane
from mmplane.commands.sidecar import add_flags
from mmplane.features.checkpoint.audio import EXTRACTOR
from mmplane.features.families.names import KNOWN

PAGE = ROOT / "docs" / "sidecar.md"


def test_the_flag_table_is_the_parsers() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert section(PAGE, "flags") == "\n".join(flag_table(parser))


def test_the_table_of_families_is_that_of_the_code() -> None:
    rows = [line.split("|")[1:-1] for line in section(PAGE, "families").splitlines()[2:]]
    listed = {name: backends.strip() for *_, names, backends in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed.pop(EXTRACTOR) == ""
    assert set(listed) == set(KNOWN.images)
    assert {name for name, backends in listed.items() if backends == "torchvision"} == KNOWN.torchvision


def test_every_error_is_named() -> None:
    text = PAGE.read_text()
    for error in (mmplane.BadMedia, mmplane.Unprofiled, mmplane.TooLarge, mmplane.Full, mmplane.Lost):
        assert f"`{error.__name__}`" in text


def test_the_example_is_an_engine_of_sixty_lines() -> None:
    lines = (ROOT / "examples" / "beside_a_sidecar.py").read_text().splitlines()
    assert len(lines) <= 60
    assert Path(PAGE).read_text().count("beside_a_sidecar.py") >= 1
