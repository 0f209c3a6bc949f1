"""A request is rendered from headers and bytes: no worker and no rank hears of it, and nothing is left of it."""

from __future__ import annotations

import pytest
from frontend_client import picture, question, serving
from transformers import PreTrainedTokenizerFast

from frontend_loop import in_loop, settle
from mmplane.frontend.http.render import Renderings
from mutation import mutated


@in_loop
async def test_no_pixel_is_decoded(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = await service.render(question(picture(), picture(1))).done()
        await settle()
        assert service.rig.pool.statistics().states["busy"] == 0
        assert service.rig.group.statistics().in_flight == 0
        assert call.status == 200
        features, ids = call.answer["features"], call.answer["token_ids"]
        for place in features["mm_placeholders"]["image"]:
            assert ids[place["offset"] :][: place["length"]] == [268] * 4
        assert len({*features["mm_hashes"]["image"]}) == 2
        assert features["kwargs_data"] is None


def test_a_mutant_that_decodes_fails_it(tokenizer: PreTrainedTokenizerFast) -> None:
    piece = 'journey.enter("reply")'
    store = "item, store = prepared.media[0], self._preparation._intake._looks._store"
    decodes = "self.task = asyncio.create_task(store.acquire(item.key, item.content, item.recipe, 1))"
    with (
        mutated(Renderings.__call__, piece, f"import asyncio; {store}; {decodes}; {piece}"),
        pytest.raises(AssertionError, match="assert 1 == 0"),
    ):
        test_no_pixel_is_decoded(tokenizer)


@in_loop
async def test_names(tokenizer: PreTrainedTokenizerFast) -> None:
    """A client's own name is the item's; without one equal bytes have equal names."""
    async with serving(tokenizer) as service:
        asked = question(picture(), picture(), picture())
        asked["messages"][0]["content"][-1]["uuid"] = "mine"
        call = await service.render(asked).done()
        first, second, third = call.answer["features"]["mm_hashes"]["image"]
        assert first == second != third == "mine"


@in_loop
async def test_text_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = await service.render(question()).done()
        assert call.answer["features"] is None
        assert call.answer["sampling_params"]["max_tokens"] > 0
