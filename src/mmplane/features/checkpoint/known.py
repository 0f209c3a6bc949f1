"""What is known of transformers' classes and of types of models, by the names in a checkpoint's files.

Each family defines its own part; `mmplane.features.families.names.KNOWN` is all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mmplane.core.records import Modality
from mmplane.features.checkpoint.defaults import Options
from mmplane.features.checkpoint.prompts import PromptRule


@dataclass(frozen=True)
class Kinds:
    """The classes and tokens of a type of model, if no file names them; empty if it takes no such items."""

    processor: str = ""
    image: str = ""
    video: str = ""
    tokens: Mapping[Modality, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """`images` are the options of image processors with defaults, by class without `Fast` and `Pil`; `prompts` are by
    Processor class, `models` by `model_type`. `torchvision` are image processors that only have that backend.
    """

    images: Mapping[str, Options] = field(default_factory=dict)
    prompts: Mapping[str, PromptRule] = field(default_factory=dict)
    models: Mapping[str, Kinds] = field(default_factory=dict)
    torchvision: frozenset[str] = frozenset()

    def kinds_of(self, model_type: str) -> Kinds:
        """Those of a type of model; none for an unknown one."""
        return self.models.get(model_type, Kinds())

    @classmethod
    def merged(cls, parts: Iterable[Known]) -> Known:
        """Join those of several families."""
        every = list(parts)
        return cls(
            {name: options for part in every for name, options in part.images.items()},
            {name: rule for part in every for name, rule in part.prompts.items()},
            {name: kinds for part in every for name, kinds in part.models.items()},
            frozenset().union(*(part.torchvision for part in every)),
        )
