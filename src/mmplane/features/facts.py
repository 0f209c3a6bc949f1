"""Facts from a checkpoint's files: its class, the tokens that stand for items, and the limits of a request.

It needs no weights and no torch: the front end, the ranks and a sidecar read the same facts.
`mmplane.ranks.model.anatomy` describes its modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from mmplane.core.records import Modality
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.families.names import KNOWN

MODALITIES: tuple[Modality, ...] = get_args(Modality)
INSIDE: Mapping[Modality, str] = {"image": "vision_config", "video": "vision_config", "audio": "audio_config"}
"""Where a configuration may keep a modality's token, if it is not beside the others."""
SEVERAL: Mapping[str, str] = {"LlavaOnevisionProcessor": '{"several":true}'}
"""Processors that make different features of an image if a prompt has several, and the arguments for those."""


@dataclass(frozen=True)
class Facts:
    """`architecture` is the class's name; `tokens` are those that embeddings replace: the modalities that a model may
    take.

    `several` are the image processor's arguments (JSON) for each of several images in one prompt; empty: its own.
    """

    architecture: str
    tokens: Mapping[Modality, int]
    several: str

    @classmethod
    def of(cls, model_folder: str, *, generic: bool = True) -> Facts:
        """Read the facts. For a type of model that no family knows, also ask transformers if allowed (`generic`)."""
        files = CheckpointFiles(model_folder)
        settings, known = files.json("config.json"), KNOWN.kinds_of(files.model_type)
        if generic and files.model_type not in KNOWN.models:
            from mmplane.features.reference.configuration import settings_of

            settings = settings_of(model_folder)
        tokens: dict[Modality, int] = {}
        for modality in MODALITIES:
            token = next(_named(settings, modality), known.tokens.get(modality))
            if token is not None:
                tokens[modality] = int(token)
        if known.video and "image" in tokens:
            tokens.setdefault("video", tokens["image"])  # frames stand in the prompt as images
        processor = str(files.json("processor_config.json").get("processor_class") or known.processor)
        return cls(architecture_of(files), tokens, several=SEVERAL.get(processor, ""))


def _named(settings: Mapping[str, Any], modality: Modality) -> Iterator[Any]:
    """The values that a configuration gives for a modality's token, nearest first."""
    places = (settings, settings.get("thinker_config"), settings.get(INSIDE[modality]))
    for place in places:
        for name in (f"{modality}_token_id", f"{modality}_token_index"):
            if isinstance(place, Mapping) and place.get(name) is not None:
                yield place[name]


def architecture_of(files: CheckpointFiles) -> str:
    """The name of the model's class in `config.json`, or else its type."""
    names = files.json("config.json").get("architectures") or [files.model_type]
    return str(names[0] or "a checkpoint without a name")


def reason(model_folder: str, error: BaseException) -> str:
    """Explain in one sentence why a checkpoint cannot be served, with its class.

    The type of an exception of transformers or of the model's code is added, because its text alone often says little.
    """
    said = " ".join(str(error).split()) or "no message"
    try:
        name = architecture_of(CheckpointFiles(model_folder))
    except (ValueError, OSError):
        name = model_folder
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return f"{name}: {kind}{said}"
