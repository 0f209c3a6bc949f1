"""Which embeddings a checkpoint takes: from its configuration and the layout of one image, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from mmplane.features.checkpoint.defaults import ADDING
from mmplane.features.embeddings import embedding_form
from mmplane.features.families.names import KNOWN
from mmplane.features.select import image_processor

from .checkpoints import FAMILIES


def folder_of(family: str, folder: Path, **config: Any) -> str:
    path = FAMILIES[family].write(folder)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | config))
    return path


def test_a_qwen_model_takes_rows_of_its_hidden_states_and_a_grid(tmp_path: Path) -> None:
    folder = folder_of("qwen2_5_vl", tmp_path, text_config={"hidden_size": 96})
    image = image_processor(folder, encoding="float32")
    form = embedding_form(folder, image)
    assert (form.token_id, form.width, form.merge) == (image.placeholder_id, 96, 2)


def test_qwen3_vl_takes_what_its_first_layers_add_as_well(tmp_path: Path) -> None:
    vision = {"deepstack_visual_indexes": [1, 2, 3]}
    folder = folder_of("qwen3_vl", tmp_path, text_config={"hidden_size": 96}, vision_config=vision)
    assert embedding_form(folder, image_processor(folder, encoding="float32")).width == 4 * 96


def test_llava_takes_rows_alone(tmp_path: Path) -> None:
    folder = folder_of("llava", tmp_path, text_config={"model_type": "llama", "hidden_size": 96})
    form = embedding_form(folder, image_processor(folder, encoding="float32"))
    assert (form.width, form.merge, form.names) == (96, 0, {"image_embeds"})


def test_images_of_several_runs_of_tokens_are_not_replaced(tmp_path: Path) -> None:
    folder = folder_of("internvl", tmp_path)
    with pytest.raises(ValueError, match="--accept-embeddings: not for this checkpoint"):
        embedding_form(folder, image_processor(folder, encoding="float32"))


def test_a_model_without_images_takes_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--accept-embeddings: not for this checkpoint"):
        embedding_form(str(tmp_path), None)


@pytest.mark.parametrize("model_type", sorted(KNOWN.models))
def test_models_whose_layers_add_to_their_embeddings_are_known(model_type: str) -> None:
    vision = getattr(CONFIG_MAPPING[model_type](), "vision_config", None)
    assert (model_type in ADDING) == bool(getattr(vision, "deepstack_visual_indexes", None))


def test_by_its_files_alone_a_model_is_known_or_refused(tmp_path: Path) -> None:
    folder = folder_of("qwen2_5_vl", tmp_path, text_config={"hidden_size": 96})
    image = image_processor(folder, encoding="float32")
    assert embedding_form(folder, image, by_files=True).width == 96
    for config in ({"text_config": {}}, {"model_type": "qwen3_vl"}, {"model_type": "another"}):
        folder_of("qwen2_5_vl", tmp_path, **{"text_config": {"hidden_size": 96}, **config})
        with pytest.raises(ValueError, match="does not say how wide"):
            embedding_form(folder, image, by_files=True)
