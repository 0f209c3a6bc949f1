"""docs/deliveries.md has a section for each delivery and a row for each of the analyses' names, and its names exist."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from test_architecture import NAME, ROOT, exists

from mmplane.config import DELIVERY_NAMES
from mmplane.core.faults import Point
from mmplane.delivery.names import DELIVERIES

TEXT = (ROOT / "docs" / "deliveries.md").read_text()
FROM_THE_ANALYSES = (
    "TokenizerManager",
    "MultimodalInputs.from_dict",
    "ensure_materialized",
    "_process_and_broadcast_mm_inputs",
    "AsyncMMInputsBroadcaster.submit_broadcast_task",
    "AsyncMMInputsBroadcaster.cancel_pending",
    "AsyncMMInputsBroadcaster.shutdown",
    "_batch_process_mm_inputs",
    "mm_inputs_cache",
    "pad_input_ids_func",
    "abort_request",
    "use_optimization",
)


def sections() -> dict[str, str]:
    """Text by the delivery that a heading begins with."""
    return dict(re.findall(r"^## `([\w-]+)`[^\n]*\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def test_every_delivery_has_a_section_and_no_other() -> None:
    assert sections().keys() == set(DELIVERY_NAMES)


@pytest.mark.parametrize("name", DELIVERIES)
def test_a_section_says_what_an_operator_asks(name: str) -> None:
    bullets = re.findall(r"^- (\w+(?: it)?): ?(.*)", sections()[name], re.MULTILINE)
    assert [bullet for bullet, _ in bullets] == ["Idea", "Cost", "Use it", "Predicted", "Measured"]
    assert bullets[-1][1] == "see docs/results.md"


@pytest.mark.parametrize("name", FROM_THE_ANALYSES)
def test_a_name_of_the_analyses_has_a_place_here(name: str) -> None:
    (row,) = re.findall(rf"^\| `{re.escape(name)}` \| (.*) \|$", TEXT, re.MULTILINE)
    ours = NAME.findall(row)
    assert ours
    assert all(map(exists, ours))


@pytest.mark.parametrize("name", sorted(set(NAME.findall(TEXT))))
def test_symbol_exists(name: str) -> None:
    assert exists(name)


@pytest.mark.parametrize("point", get_args(Point))
def test_every_point_of_a_fault_is_named(point: str) -> None:
    assert f"`{point}`" in TEXT
