"""What the plugin for vLLM hooks was looked up in each version's source, by tools/peers/vllm/record_names.py."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mmplane.engines.vllm.plugin import PLUGIN

ROOT = Path(__file__).parents[4]
TOOL = ROOT / "tools" / "peers" / "vllm" / "record_names.py"
RECORDED = json.loads(Path(__file__).with_name("names.json").read_text())


def hooked() -> list[str]:
    """The table's targets, as the tool reads them."""
    spec = importlib.util.spec_from_file_location("record_names", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    targets: list[str] = tool.targets()
    return targets


def test_every_known_version_was_looked_at() -> None:
    assert [*RECORDED] == [*PLUGIN.tested, PLUGIN.compared]


@pytest.mark.parametrize("version", RECORDED)
def test_everything_that_is_hooked_is_there(version: str) -> None:
    assert [*RECORDED[version]] == hooked()
    assert None not in RECORDED[version].values()


def test_the_compared_version_has_the_tested_signatures() -> None:
    assert RECORDED[PLUGIN.compared] == RECORDED[PLUGIN.tested[-1]]
