"""Which embeddings a checkpoint's model takes in the place of an image."""

from __future__ import annotations

from math import isqrt

from mmplane.features.contract.embeddings import GRID, EmbeddingForm
from mmplane.features.contract.image import ImageProcessor

TRIAL_SIDE = 224


def embedding_form(model_folder: str, image: ImageProcessor | None) -> EmbeddingForm:
    """What the model takes. Raises ValueError for a model whose images are more than one run of tokens in a prompt.

    The width follows from the configuration; the run and the patches of a token from the layout of one image.
    """
    from mmplane.features.reference.configuration import embedding_width

    if image is None or not image.layout_is_cheap:
        raise ValueError(
            "--accept-embeddings: not for this checkpoint, whose images mmplane transforms by its own class"
        )
    layout = image.layout(TRIAL_SIDE, TRIAL_SIDE)
    if len(layout.expansion) != 1:
        raise ValueError("--accept-embeddings: not for this checkpoint, whose images are more than one run of tokens")
    ((token_id, tokens),) = layout.expansion
    gridded = any(tensor.name == GRID for tensor in layout.tensors)
    return EmbeddingForm(
        token_id, embedding_width(model_folder), isqrt(layout.tensors[0].shape[0] // tokens) if gridded else 0
    )
