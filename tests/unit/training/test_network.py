"""The training forward pass gives what transformers gives, on batches that are as the server would make them."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
import torch
from numpy.random import default_rng
from training.network import Reader, losses
from training.pictures import NO_SYMBOL, Variety, number_picture
from training.samples import Batch, Mix, make_batch, patches_of
from training.train import SIMPLE
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mmplane.models.tiny import IMAGE_PROCESSOR, tiny_tokenizer

TINY = Mix(grids=((112, 56), (168, 112)), pictures=4)
MIXES = {
    "one": replace(TINY, several=0.0, clips=0.0),
    "several": replace(TINY, several=1.0, clips=0.0),
    "clips": replace(TINY, clips=1.0),
    "text": replace(TINY, text_only=1.0, clips=0.0),
}


@pytest.fixture(scope="module")
def reader() -> Reader:
    torch.manual_seed(0)
    return Reader()


def batch_of(mix: Mix, step: int = 1) -> Batch:
    return make_batch(0, step, mix, tiny_tokenizer())


@pytest.mark.parametrize("mix", MIXES.values(), ids=list(MIXES))
@torch.inference_mode()
def test_features_and_logits_are_those_of_transformers(reader: Reader, mix: Mix) -> None:
    batch = batch_of(mix)
    logits, _ = reader(batch)
    found = []
    for group in batch.groups:
        patches = group.patches.flatten(0, 1)
        if patches.shape[1] == 588:
            patches = patches.view(-1, 3, 1, 196).expand(-1, -1, 2, -1).reshape(-1, 1176)
        grids = torch.tensor([group.grid] * len(group.patches))
        found.append(reader.model.model.visual(patches, grid_thw=grids).pooler_output)
        torch.testing.assert_close(found[-1], reader.features(group).flatten(0, 1), atol=1e-5, rtol=1e-4)
    config = reader.model.config
    visual = (batch.ids == config.image_token_id) | (batch.ids == config.video_token_id)
    embedded = reader.model.get_input_embeddings()(batch.ids)
    embedded[visual] = torch.cat(found)[batch.feature_index]
    text = reader.model.model.language_model
    hidden = text(inputs_embeds=embedded, position_ids=batch.positions, use_cache=False).last_hidden_state
    torch.testing.assert_close(reader.model.lm_head(hidden), logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["one", "clips"])
def test_positions_are_those_of_transformers(reader: Reader, name: str) -> None:
    batch = batch_of(replace(MIXES[name], text_only=0.0))
    config, group = reader.model.config, batch.groups[0]
    grids = torch.tensor([group.grid] * len(group.patches))
    image, video = (batch.ids == token for token in (config.image_token_id, config.video_token_id))
    arguments = {"video_grid_thw": grids} if video.any() else {"image_grid_thw": grids}
    expected, _ = reader.model.model.get_rope_index(batch.ids, image.int() + 2 * video.int(), **arguments)
    for row in range(len(batch.ids)):
        used = int((batch.labels[row] >= 0).nonzero().max()) + 2
        assert torch.equal(expected[:, row, :used], batch.positions[:, row, :used])


@pytest.mark.parametrize("size", [(224, 112), (219, 120)])
def test_patches_are_those_of_the_image_processor(size: tuple[int, int]) -> None:
    image = number_picture(default_rng(1), "12345", size, Variety()).image
    limits = {name: IMAGE_PROCESSOR[name] for name in ("min_pixels", "max_pixels")}
    expected = Qwen2VLImageProcessorPil(**limits)(images=image, return_tensors="np")
    patches, rows, columns = patches_of(image)
    assert expected["image_grid_thw"].tolist() == [[1, rows, columns]]
    whole = patches.view(-1, 3, 1, 196).expand(-1, -1, 2, -1).reshape(-1, 1176).numpy()
    numpy.testing.assert_allclose(whole, expected["pixel_values"], atol=1e-5)


def test_labels_spell_the_answer_and_its_end() -> None:
    batch = batch_of(SIMPLE)
    tokenizer = tiny_tokenizer()
    for ids, labels in zip(batch.ids, batch.labels, strict=True):
        answer = labels[labels >= 0]
        assert tokenizer.decode(answer).endswith("<|im_end|>")
        assert answer.tolist() == ids[1:][labels[:-1] >= 0].tolist()


def test_the_second_loss_knows_where_the_digits_are(reader: Reader) -> None:
    batch = batch_of(replace(SIMPLE, pictures=2))
    right = [torch.nn.functional.one_hot(group.symbols, NO_SYMBOL + 1).float() * 50 for group in batch.groups]
    logits, _ = reader(batch)
    assert losses(logits, right, batch)[1].item() < 1e-6
