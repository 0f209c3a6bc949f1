"""Tests, without a server, whether a checkpoint can be served here, and with how many ranks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mmplane.config import Config
from mmplane.core.records import BackendName, Modality
from mmplane.features.contract.processor import Processor
from mmplane.features.facts import MODALITIES, reason
from mmplane.frontend.chat.model import Model, load
from mmplane.ranks.model.anatomy import sharing
from mmplane.ranks.model.loading import try_out

RANKS = (1, 2, 4, 8)


class Checkup(msgspec.Struct, frozen=True):
    """`tp` are the numbers of ranks that work, of `RANKS`; `reason` is why it cannot be served.

    `processor` names what makes each modality's features: a family here, `generic` (transformers), or nothing.
    """

    servable: bool
    tp: tuple[int, ...]
    reason: str | None
    processor: dict[Modality, str | None]


def checkup(model_folder: str, backend: BackendName = "pil") -> Checkup:
    """Load a checkpoint like the front end and like a rank, including weights, once."""
    config = Config(model=model_folder, model_folder=model_folder, served_name="x", backend=backend, device="cpu")
    processor: dict[Modality, str | None] = dict.fromkeys(MODALITIES)
    with _quiet():
        try:
            processor |= _named(load(config))
            settings = try_out(config)
        except Exception as error:  # noqa: BLE001 - whatever transformers and the model's own code raise
            return Checkup(False, (), reason(model_folder, error), processor)
    return Checkup(True, tuple(sharing(settings, RANKS)), None, processor)


def has_weights(model_folder: str) -> bool:
    """Whether there is anything to load."""
    return any(Path(model_folder).glob("*.safetensors"))


def _named(model: Model) -> dict[Modality, str]:
    return {modality: _family(each) for modality, each in model.processors.present.items()}


def _family(processor: Processor) -> str:
    package, _, family = type(processor).__module__.rpartition(".")
    return "generic" if package.endswith(".reference") else family


@contextmanager
def _quiet() -> Iterator[None]:
    """A block without log lines and progress bars: the result contains what they say."""
    from transformers.utils import logging as theirs

    theirs.disable_progress_bar()
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        theirs.enable_progress_bar()
