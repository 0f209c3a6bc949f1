"""What docs/vllm.md says about figures, reasons and variables is what the source has, without vLLM."""

from __future__ import annotations

import re
from pathlib import Path

from mmplane.engines.vllm import metrics, plugin, settings
from mmplane.engines.vllm.make import figures, reasons

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "vllm.md").read_text()


def table(name: str) -> dict[str, str]:
    """The first two columns of the table between its markers."""
    text = DOCUMENT.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))


def test_the_figures_are_the_codes() -> None:
    assert table("vllm metrics") == {f"mmplane_{name}": text for name, text in metrics.FIGURES.items()}


def test_the_reasons_are_the_codes() -> None:
    assert table("vllm reasons") == metrics.REASONS
    assert table("vllm images") == reasons.REASONS
    for name in (*figures.FIGURES, *figures.PASSED_OVER):
        assert f"| `mmplane_{name}` |" in DOCUMENT


def test_versions_and_variables_are_named() -> None:
    for name in (*plugin.PLUGIN.tested, plugin.PLUGIN.compared, settings.MODES_VARIABLE, settings.ARENA_BYTES_VARIABLE):
        assert f"`{name}`" in DOCUMENT, name
