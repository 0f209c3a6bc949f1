"""The image half of a checkpoint, read from its files: the image processor's options and the rule of its prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmplane.core.records import BackendName
from mmplane.features.arithmetic.backends import BACKENDS, Backend
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.checkpoint.arguments import LIMITS, check_names
from mmplane.features.checkpoint.defaults import Options
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.known import Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule
from mmplane.features.checkpoint.size import Size
from mmplane.features.checkpoint.vocabulary import Runs, Vocabulary

TRIAL_SIDE = 224
"""Side in pixels of a square image that every processor accepts: a multiple of patches of 14 and 16, merged or not."""

Expansion = Callable[[Options, tuple[int, ...], Companions], Runs]
"""Return the replacement of an image's placeholder from (options, the features' shape, companions)."""


@dataclass(frozen=True)
class Description:
    """The content of the JSON files, without the vocabulary: image processor class, its options, the prompts' rule."""

    kind: str
    options: Options
    rule: PromptRule

    @classmethod
    def of(cls, files: CheckpointFiles, known: Known) -> Description:
        """Raises ValueError if the classes are not supported."""
        given, settings = files.part("image_processor", "preprocessor_config.json"), files.json("processor_config.json")
        kinds = known.kinds_of(files.model_type)
        kind = str(given.get("image_processor_type") or kinds.image).removesuffix("Pil").removesuffix("Fast")
        name = str(settings.get("processor_class") or given.get("processor_class") or kinds.processor)
        if not given or kind not in known.images or name not in known.prompts:
            raise ValueError(f"images by {kind} and {name} are not built")
        rule = known.prompts[name]
        return cls(kind, {**_resolved(known.images[kind], given), **rule.images(settings)}, rule)


@dataclass(frozen=True)
class ImageCheckpoint:
    """The settings of a fast family.

    `kind` is the image processor's class, without `Fast` or `Pil`; `options` are all of its options, resolved;
    `input_names` are the model's inputs for an image; `backend` is the one whose bits are wanted.
    """

    files: CheckpointFiles
    kind: str
    options: Options
    placeholder_id: int
    input_names: frozenset[str]
    expand: Expansion
    backend: Backend = BACKENDS["pil"]
    compared: bool = True

    @classmethod
    def load(cls, model_folder: str, known: Known, backend: BackendName = "pil") -> ImageCheckpoint:
        """Read a checkpoint folder. Raises ValueError if its classes are not supported."""
        files = CheckpointFiles(model_folder)
        described, settings = Description.of(files, known), files.json("processor_config.json")
        kind, rule, vocabulary = described.kind, described.rule, Vocabulary(files)

        def expand(options: Options, shape: tuple[int, ...], companions: Companions) -> Runs:
            return vocabulary.runs(rule.pieces(Prompt(settings, options, vocabulary, shape, companions)))

        backend = "torchvision" if kind in known.torchvision else backend
        placeholder_id = vocabulary.one(rule.placeholder(vocabulary, settings))
        return cls(files, kind, described.options, placeholder_id, rule.inputs, expand, BACKENDS[backend])

    def adjusted(self, arguments: Mapping[str, Any]) -> ImageCheckpoint:
        """The same with arguments of one call, by the rules of `_standardize_kwargs`.

        Raises ValueError for arguments that the class does not support.
        """
        check_names(self.kind, arguments, self.options)
        limits = {edge: arguments[name] for name, edge in LIMITS.items() if name in arguments}
        options = {**self.options, **{name: value for name, value in arguments.items() if name not in LIMITS}}
        options |= {name: Size.of(arguments[name]) for name in ("size", "crop_size") if name in arguments}
        if limits:
            options["size"] = replace(options["size"], **limits)
        return replace(self, options=options)

    def expansion(self, shape: tuple[int, ...], companions: Companions) -> Runs:
        """The replacement of an image's placeholder, for an image that became these features and companions."""
        return self.expand(self.options, shape, companions)

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Digest of the files, versions and encoding. The generic path has the same one, since its bits are equal."""
        return self.files.fingerprint("image", encoding, backend=self.backend.name, compared=self.compared)


def _resolved(default: Options, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class with the values of its file; null counts as no value."""
    options = {name: default[name] if given.get(name) is None else given[name] for name in default}
    for name, edge in LIMITS.items():
        if options.get(name):
            options["size"], options[name] = {**options["size"], edge: options[name]}, None
    square = bool(options.pop("default_to_square"))
    for name in ("image_mean", "image_std"):
        options[name] = tuple(options[name]) if isinstance(options[name], list) else options[name]
    for name in ("size", "crop_size", "pad_size"):
        options[name] = None if options[name] is None else Size.of(options[name], square=square or name != "size")
    return options
