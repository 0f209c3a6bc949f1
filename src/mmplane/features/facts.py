"""What a checkpoint's own files say that it is: its class, the tokens that stand for items, what a request may hold.

No weights and no torch: the front end, the ranks and a sidecar read the same. What its modules are is in
`mmplane.ranks.model.anatomy`.
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
"""Where a configuration may keep a modality's token, if not beside the others."""
SEVERAL: Mapping[str, str] = {"LlavaOnevisionProcessor": '{"several":true}'}
"""Processors that make other features of an image when a prompt has several, and how to ask for those."""


@dataclass(frozen=True)
class Facts:
    """`architecture` is the class's name; `tokens` are those that embeddings replace: what a model takes at most.

    `several` are the image processor's arguments (JSON) for each of several images in one prompt; empty: its own.
    """

    architecture: str
    tokens: Mapping[Modality, int]
    several: str

    @classmethod
    def of(cls, model_folder: str, *, generic: bool = True) -> Facts:
        """Read them. Of a type of model that no family knows, transformers is asked too if it may be (`generic`)."""
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
    """The name of the model's class as `config.json` has it, or else its type."""
    names = files.json("config.json").get("architectures") or [files.model_type]
    return str(names[0] or "a checkpoint without a name")


def reason(model_folder: str, error: BaseException) -> str:
    """Why a checkpoint cannot be served, in one sentence with its class.

    What transformers and the model's own code raise says little by itself: its type is added.
    """
    said = " ".join(str(error).split()) or "no message"
    try:
        name = architecture_of(CheckpointFiles(model_folder))
    except (ValueError, OSError):
        name = model_folder
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return f"{name}: {kind}{said}"
