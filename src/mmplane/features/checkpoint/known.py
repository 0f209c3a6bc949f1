"""What is known of transformers' classes and of types of models, by the names that a checkpoint's files use.

Each family writes down its own; `mmplane.features.families.names.KNOWN` is all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mmplane.core.records import Modality
from mmplane.features.checkpoint.defaults import Options
from mmplane.features.checkpoint.prompts import PromptRule


@dataclass(frozen=True)
class Kinds:
    """The classes and tokens of a type of model, where no file names them; empty where it takes none."""

    processor: str = ""
    image: str = ""
    video: str = ""
    tokens: Mapping[Modality, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """`images` are the options of image processors and their defaults, by class without `Fast` and `Pil`; `prompts` are
    by Processor class, `models` by `model_type`. `torchvision` are the image processors that have no other backend.
    """

    images: Mapping[str, Options] = field(default_factory=dict)
    prompts: Mapping[str, PromptRule] = field(default_factory=dict)
    models: Mapping[str, Kinds] = field(default_factory=dict)
    torchvision: frozenset[str] = frozenset()

    def kinds_of(self, model_type: str) -> Kinds:
        """Those of a type of model; of an unknown one, none."""
        return self.models.get(model_type, Kinds())

    @classmethod
    def merged(cls, parts: Iterable[Known]) -> Known:
        """All of several families."""
        every = list(parts)
        return cls(
            {name: options for part in every for name, options in part.images.items()},
            {name: rule for part in every for name, rule in part.prompts.items()},
            {name: kinds for part in every for name, kinds in part.models.items()},
            frozenset().union(*(part.torchvision for part in every)),
        )
