"""What docs/sglang.md says about figures and variables is what the source has. SGLang itself is not needed for that."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mmplane.engines.kit import room
from mmplane.engines.sglang import plugin, settings
from mmplane.engines.sglang.processor import launch

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "sglang.md").read_text()
SOURCE = ROOT / "src" / "mmplane" / "engines" / "sglang"
MAKER = "processor/maker.py"


def constant(file: str, name: str) -> object:
    """A literal of a module that cannot be imported here."""
    for node in ast.parse((SOURCE / file).read_text()).body:
        if isinstance(node, ast.Assign) and [target.id for target in node.targets if isinstance(target, ast.Name)] == [
            name
        ]:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{file} has no {name}")


def table(name: str, file: str = "metrics.py") -> dict[str, str]:
    """A table of texts."""
    found = constant(file, name)
    assert isinstance(found, dict)
    return found


def test_metrics_table_is_the_codes() -> None:
    listed = dict(re.findall(r"^\| `mmplane_(\w+)` \| (.*) \|$", DOCUMENT, re.MULTILINE))
    pictures = table("COUNTED", MAKER) | table("PASSED_OVER", MAKER)
    assert listed == table("SIDECARS") | table("OWN") | table("PASSED_OVER") | pictures


def test_reasons_are_listed() -> None:
    assert all(f"| `{reason}` | {text}" in DOCUMENT for reason, text in table("REASONS").items())
    assert all(f"`{reason}`" in DOCUMENT for reason in table("REASONS", MAKER))


def test_the_tested_versions_are_named() -> None:
    assert all(f"`{version}`" in DOCUMENT for version in plugin.TESTED)


def test_variables_are_listed() -> None:
    assert (room.SHARE, room.BYTES_MAX) == (4, 16 * 2**30)
    assert f"| `{launch.VARIABLE}` | `{launch.SETTINGS[0]}` |" in DOCUMENT
    default = "a quarter of the available memory, at most 16 GiB"
    assert f"| `{settings.ARENA_BYTES_VARIABLE}` | {default} |" in DOCUMENT
