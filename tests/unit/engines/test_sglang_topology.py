"""Groups and positions of ranks, from the options of each version of SGLang."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mmplane.engines.sglang.topology import Topology, options_of, ranks_of

OLD, NEW = "0.5.20, 0.5.21", "0.5.22, 0.5.23"


def options(version: str, *, tp: int, replicas: int = 1, attention: int = 1) -> dict[str, Any]:
    """As that version says it."""
    if version == NEW:
        return {"tp_size": tp, "dp_size": replicas, "attn_dp_size": attention, "enable_dp_attention": attention > 1}
    return {"tp_size": tp, "dp_size": max(replicas, attention), "enable_dp_attention": attention > 1}


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize(
    ("tp", "replicas", "attention", "groups"),
    [
        (1, 1, 1, (1,)),
        (4, 1, 1, (4,)),
        (1, 2, 1, (1, 1)),
        (2, 3, 1, (2, 2, 2)),
        (8, 1, 4, (2, 2, 2, 2)),
        (2, 1, 2, (1, 1)),
    ],
)
def test_every_rank_has_a_place_of_its_own(
    version: str, tp: int, replicas: int, attention: int, groups: tuple[int, ...]
) -> None:
    topology = Topology.of(options(version, tp=tp, replicas=replicas, attention=attention))
    assert topology.groups == groups
    places = [topology.position(tp_rank, dp_rank) for dp_rank in range(replicas) for tp_rank in range(tp)]
    assert sorted(places) == [(group, rank) for group, ranks in enumerate(groups) for rank in range(ranks)]
    if replicas == 1:
        assert places == [topology.position(tp_rank, None) for tp_rank in range(tp)]


def test_the_order_within_attention_groups_is_sglangs() -> None:
    """tp_rank = (attn_dp_rank * attn_cp_size + attn_cp_rank) * attn_tp_size + attn_tp_rank."""
    topology = Topology(8, 1, 2)
    for data, context, tensor in [(d, c, t) for d in range(2) for c in range(2) for t in range(2)]:
        assert topology.position((data * 2 + context) * 2 + tensor, None) == (data, context * 2 + tensor)


def test_options_as_they_are_settled() -> None:
    assert options_of(SimpleNamespace(tp_size=2))["tp_size"] == 2
    assert options_of(SimpleNamespace(tp_size=2, resolved_dict=lambda: {"tp_size": 4}))["tp_size"] == 4


def test_where_a_scheduler_says_its_rank() -> None:
    context = SimpleNamespace(tp_rank=1, dp_rank=None)
    assert ranks_of({"server_args": None}, context) == (1, None)
    assert ranks_of({"server_args": None, "tp_rank": 3, "dp_rank": 2}, context) == (3, 2)
