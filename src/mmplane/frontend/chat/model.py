"""What the front end knows of the model: how media become its features, and text its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from mmplane.config import Config
from mmplane.core.records import Modality
from mmplane.features.choice import Processors, choose
from mmplane.features.tokens import tokens_of
from mmplane.frontend.chat.prompt import Marks, chat_template_of


@dataclass(frozen=True)
class Model:
    """A checkpoint without its weights. `context_tokens` is the longest prompt together with its answer."""

    processors: Processors
    tokenizer: Any
    chat_template: str
    marks: dict[Modality, Marks]
    context_tokens: int


def load(config: Config) -> Model:
    """Read it from the model's folder. Raises ValueError or OSError for one that cannot be served."""
    processors = choose(config)
    folder = config.model_folder
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    described = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return Model(
        processors=processors,
        tokenizer=tokenizer,
        chat_template=chat_template_of(tokenizer, folder),
        marks=_marks(processors, tokens_of(folder)),
        context_tokens=config.context_tokens_max or int(described.get_text_config().max_position_embeddings),
    )


def _marks(processors: Processors, tokens: dict[Modality, int]) -> dict[Modality, Marks]:
    placeholders = {modality: each.placeholder_id for modality, each in processors.present.items()}
    return {modality: Marks(id_, tokens[modality]) for modality, id_ in placeholders.items() if id_ is not None}
