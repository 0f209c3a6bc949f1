"""Which token of a prompt an item's embeddings replace."""

from __future__ import annotations

from typing import get_args

from mmplane.core.records import Modality
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.families.names import KNOWN

MODALITIES: tuple[Modality, ...] = get_args(Modality)


def tokens_of(model_folder: str, *, generic: bool = True) -> dict[Modality, int]:
    """The token id of each modality that the model's own configuration names: what it can take at most.

    Of a type of model that no family knows, transformers is asked too if it may be (`generic`).
    """
    files = CheckpointFiles(model_folder)
    settings, defaults = files.json("config.json"), KNOWN.kinds_of(files.model_type).tokens
    if generic and files.model_type not in KNOWN.models:
        from mmplane.features.reference.configuration import settings_of

        settings = settings_of(model_folder)
    found: dict[Modality, int] = {}
    for modality in MODALITIES:
        names = (f"{modality}_token_id", f"{modality}_token_index")
        given = [settings[name] for name in names if settings.get(name) is not None]
        token = given[0] if given else defaults.get(modality)
        if token is not None:
            found[modality] = int(token)
    return found
