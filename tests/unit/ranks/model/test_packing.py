"""What a step computes, as one row: ids, positions and items' rows of all its segments."""

from __future__ import annotations

from typing import Any

import torch

from mmplane.core.plan import Sampling, Submit
from mmplane.ranks.model.packing import Packed, pack
from mmplane.ranks.model.prompt import Prompt, Rows
from mmplane.ranks.plan.step import Segment

HIDDEN = 3
CPU = torch.device("cpu")


def prompt(tokens: int, *, first: int, shift: int = 0, embeddings: Any = ()) -> Prompt:
    """Ids from `first` on; positions that tell the axis."""
    how = Sampling(tokens_max=9, temperature=0.0, top_p=1.0, seed=0, samples=1)
    submit = Submit(0, b"", None, tokens, (), (), how)
    at = torch.arange(tokens)
    return Prompt(submit, at + first, torch.stack([at, at + 1000, at + 2000]), shift, list(embeddings))


def rows(count: int, *, width: int = HIDDEN, value: float = 1.0) -> torch.Tensor:
    """Rows that differ: value, value + 1, ... in all columns."""
    return (torch.arange(count) + value)[:, None].expand(-1, width).clone()


def test_prompts_and_decoded_tokens_lie_in_the_order_of_segments() -> None:
    prompts = {1: prompt(9, first=10), 2: prompt(5, first=50, shift=-3)}
    segments = (
        Segment((2, 0), 6, 1, (77,), 1),
        Segment((1, 0), 4, 3, (), 0),
        Segment((2, 1), 7, 1, (78,), 1),
        Segment((1, 0), 7, 2, (), 2),
    )
    packed = pack(segments, prompts, CPU)
    assert packed.ids.tolist() == [77, 14, 15, 16, 78, 17, 18]
    assert packed.positions.tolist() == [
        [3, 4, 5, 6, 4, 7, 8],
        [3, 1004, 1005, 1006, 4, 1007, 1008],
        [3, 2004, 2005, 2006, 4, 2007, 2008],
    ]
    assert packed.drawing == [0, 4, 6]
    assert packed.items == []


def test_an_items_rows_replace_its_placeholders_wherever_a_chunk_ends() -> None:
    item = rows(4)
    prompts = {1: prompt(8, first=0, embeddings=[Rows(2, item, kept=False)]), 2: prompt(1, first=9)}
    for cut in range(1, 8):
        placed = []
        for start, end in ((0, cut), (cut, 8)):
            segments = (Segment((2, 0), 0, 1, (), 0), Segment((1, 0), start, end - start, (), 0))
            embeddings = torch.zeros(1 + end - start, HIDDEN)
            assert pack(segments, prompts, CPU).place(embeddings) == {}
            assert not embeddings[0].any(), "the other request has no items"
            placed.append(embeddings[1:])
        expected = torch.cat([torch.zeros(2, HIDDEN), item, torch.zeros(2, HIDDEN)])
        assert torch.equal(torch.cat(placed), expected)


def test_a_generated_token_never_gets_an_items_row() -> None:
    prompts = {1: prompt(4, first=0, embeddings=[Rows(2, rows(2), kept=False)])}
    assert pack((Segment((1, 0), 4, 1, (3,), 1),), prompts, CPU).items == []


def test_deepstack_adds_to_the_rows_of_items_alone() -> None:
    wide = rows(2, width=3 * HIDDEN)
    wide[:, HIDDEN:] += 10
    packed = Packed(torch.zeros(5), torch.zeros(3, 5), [(0, rows(1)), (2, wide)], [])
    embeddings = torch.zeros(5, HIDDEN)
    beside = packed.place(embeddings)
    assert embeddings[:, 0].tolist() == [1, 0, 1, 2, 0]
    assert beside["visual_pos_masks"].all()
    assert beside["visual_pos_masks"].shape == (1, 5)
    assert [layer[:, 0].tolist() for layer in beside["deepstack_visual_embeds"]] == [[0, 0, 11, 12, 0]] * 2
