"""The image half of a checkpoint, read from its files: the image processor's options and the rule of its prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmplane.core.records import BackendName
from mmplane.features.arithmetic.backends import BACKENDS, Backend
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.checkpoint.arguments import LIMITS, check_names
from mmplane.features.checkpoint.defaults import IMAGES, kinds_of
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.prompts import RULES, Prompt
from mmplane.features.checkpoint.size import Size
from mmplane.features.checkpoint.vocabulary import Runs, Vocabulary

TRIAL_SIDE = 224
"""Side in pixels of a square image that every processor takes: a multiple of patches of 14 and 16, merged or not."""

Companions = Mapping[str, tuple[tuple[int, ...], ...]]

Options = Mapping[str, Any]

Expansion = Callable[[Options, tuple[int, ...], Companions, int], Runs]
"""What replaces the placeholder of an image, of (options, the features' shape, small arrays beside them, tiles)."""


@dataclass(frozen=True)
class ImageCheckpoint:
    """What a fast family goes by.

    `kind` is the image processor's class, without `Fast` or `Pil`; `options` are all that it takes, resolved;
    `input_names` are what the model takes of an image; `backend` is whose bits are wanted.
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
    def load(cls, model_folder: str, backend: BackendName = "pil") -> ImageCheckpoint:
        """From a checkpoint folder. Raises ValueError when its classes are not those that are known here."""
        files = CheckpointFiles(model_folder)
        given, settings = files.part("image_processor", "preprocessor_config.json"), files.json("processor_config.json")
        kinds = kinds_of(files.model_type)
        kind = str(given.get("image_processor_type") or kinds.image).removesuffix("Pil").removesuffix("Fast")
        name = str(settings.get("processor_class") or given.get("processor_class") or kinds.processor)
        if not given or kind not in IMAGES or name not in RULES:
            raise ValueError(f"images by {kind} and {name} are not built")
        rule, vocabulary = RULES[name], Vocabulary(files)

        def expand(options: Options, shape: tuple[int, ...], companions: Companions, tiles: int) -> Runs:
            return vocabulary.runs(rule.pieces(Prompt(settings, options, vocabulary, shape, companions, tiles)))

        placeholder_id = vocabulary.one(rule.placeholder(vocabulary, settings))
        options = {**_resolved(kind, given), **rule.images}
        return cls(files, kind, options, placeholder_id, rule.inputs, expand, BACKENDS[backend])

    def adjusted(self, arguments: Mapping[str, Any]) -> ImageCheckpoint:
        """With arguments of one call, by the rules of `_standardize_kwargs`.

        Raises ValueError for those that the class does not take.
        """
        limits = LIMITS if self.kind == "Qwen2VLImageProcessor" else {}
        check_names(self.kind, arguments, {*IMAGES[self.kind], *limits})
        options = {**self.options, **{name: value for name, value in arguments.items() if name not in limits}}
        options |= {name: Size.of(arguments[name]) for name in ("size", "crop_size") if name in arguments}
        edges = {edge: arguments[name] for name, edge in limits.items() if name in arguments}
        return replace(self, options={**options, "size": replace(options["size"], **edges)})

    def expansion(self, shape: tuple[int, ...], companions: Companions, tiles: int) -> Runs:
        """What replaces the placeholder of an image that became these features, in so many tiles."""
        return self.expand(self.options, shape, companions, tiles)

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Of the files, versions and encoding. The generic path has the same: so are the bits."""
        return self.files.fingerprint("image", encoding, backend=self.backend.name, compared=self.compared)


def _resolved(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class, with what its file gives; null there is no value."""
    default = IMAGES[kind]
    options = {name: default[name] if given.get(name) is None else given[name] for name in default}
    if kind == "Qwen2VLImageProcessor":  # older configurations name the limits so
        limits = {"shortest_edge": given.get("min_pixels"), "longest_edge": given.get("max_pixels")}
        if any(limit is not None for limit in limits.values()):
            options["size"] = dict(options["size"]) | {k: limit for k, limit in limits.items() if limit is not None}
    options["size"] = Size.of(options["size"], square=bool(options.pop("default_to_square")))
    for name in ("image_mean", "image_std"):
        options[name] = tuple(options[name]) if isinstance(options[name], list) else options[name]
    for name in ("crop_size", "pad_size"):
        options[name] = None if options[name] is None else Size.of(options[name])
    return options
