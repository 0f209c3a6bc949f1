"""The model as the front end sees it: how media become features, and text becomes tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmplane.config import Config
from mmplane.core.records import Modality
from mmplane.features.choice import Processors, choose
from mmplane.features.facts import Facts
from mmplane.frontend.chat.prompt import Marks
from mmplane.frontend.request.renderer import Renderer


@dataclass(frozen=True)
class Model:
    """A checkpoint without its weights."""

    processors: Processors
    renderer: Renderer
    marks: dict[Modality, Marks]
    several: str
    """Arguments (JSON) of the image processor for requests with several images; empty: the usual ones."""


def load(config: Config) -> Model:
    """Read it from the model's folder. Raises ValueError or OSError if it cannot be served."""
    processors = choose(config)
    renderer = Renderer.load(config)
    renderer.warm()
    facts = Facts.of(config.model_folder)
    return Model(processors, renderer, _marks(processors, facts.tokens), facts.several)


def _marks(processors: Processors, tokens: Mapping[Modality, int]) -> dict[Modality, Marks]:
    placeholders = {modality: each.placeholder_id for modality, each in processors.present.items()}
    return {modality: Marks(id_, tokens[modality]) for modality, id_ in placeholders.items() if id_ is not None}
