"""The embeddings that a checkpoint's model accepts instead of an image."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

from mmplane.features.checkpoint.defaults import ADDING
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.contract.embeddings import GRID, EmbeddingForm
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.families.names import KNOWN

TRIAL_SIDE = 224


def embedding_form(model_folder: str, image: ImageProcessor | None, *, by_files: bool = False) -> EmbeddingForm:
    """Return the form that the model takes. Raises ValueError if its images are more than one run of tokens in a
    prompt.

    The width comes from the configuration; the run and the patches per token come from the layout of one image.
    `by_files`: transformers is not asked for what `config.json` leaves out, and such a model is refused.
    """
    if image is None or not image.layout_is_cheap:
        raise ValueError(
            "--accept-embeddings: not for this checkpoint, whose images mmplane transforms by its own class"
        )
    layout = image.layout(TRIAL_SIDE, TRIAL_SIDE)
    if len(layout.expansion) != 1:
        raise ValueError("--accept-embeddings: not for this checkpoint, whose images are more than one run of tokens")
    ((token_id, tokens),) = layout.expansion
    gridded = any(tensor.name == GRID for tensor in layout.tensors)
    merge = isqrt(layout.tensors[0].shape[0] // tokens) if gridded else 0
    return EmbeddingForm(token_id, _width(model_folder, by_files=by_files), merge)


def _width(model_folder: str, *, by_files: bool) -> int:
    width = _stated(CheckpointFiles(model_folder).json("config.json"))
    if width is not None:
        return width
    if by_files:
        raise ValueError("--accept-embeddings: config.json does not say how wide this model's embeddings are")
    from mmplane.features.reference.configuration import embedding_width

    return embedding_width(model_folder)


def _stated(config: Mapping[str, Any]) -> int | None:
    """Width of a token's embedding, with those of layers that a model adds to its own; None if no file says."""
    hidden = (config.get("text_config") or config).get("hidden_size")
    adding = (config.get("vision_config") or {}).get("deepstack_visual_indexes")
    kind = config.get("model_type")
    if hidden is None or (adding is None and (kind not in KNOWN.models or kind in ADDING)):
        return None
    return int(hidden) * (1 + len(adding or ()))
