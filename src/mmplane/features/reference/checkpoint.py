"""The image half of a checkpoint in transformers: image processor, tokenizer, prompt rules.

transformers separates three things that a request needs together: the image processor (pixels to arrays), the
tokenizer, and the `Processor`, which knows the text that replaces an image in a prompt. The last one is created
manually here, because its own loader also loads a video processor, which needs torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image
from transformers import PROCESSOR_MAPPING, AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.image_utils import SizeDict
from transformers.processing_utils import ProcessorMixin

from mmplane.core.records import BackendName
from mmplane.features.arithmetic.backends import BACKENDS
from mmplane.features.arithmetic.encodings import Array, Encoding
from mmplane.features.checkpoint.defaults import Options
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.image import TRIAL_SIDE, ImageCheckpoint
from mmplane.features.checkpoint.prompts import Companions
from mmplane.features.checkpoint.size import Size
from mmplane.features.checkpoint.vocabulary import Runs
from mmplane.features.contract.image import FEATURES
from mmplane.features.reference.classes import processor_class

TENSORS: Mapping[BackendName, str] = {"pil": "np", "torchvision": "pt"}
"""What each backend computes with."""
NEEDS_TORCHVISION = "its image processor needs torchvision, which is not installed here or was built for another torch"


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """What transformers knows about images of one checkpoint. `images_kwargs` are its processor's own defaults."""

    files: CheckpointFiles
    processor: Any
    image_processor: Any
    tokenizer: Any
    images_kwargs: Mapping[str, Any]
    backend: BackendName = "pil"

    @classmethod
    def load(cls, model_folder: str, backend: BackendName = "pil") -> ReferenceCheckpoint:
        """Load a checkpoint folder. Raises ValueError if its image processor has no such backend here.

        If transformers only has it for torchvision, that one is loaded whichever backend is requested.
        """
        image_processor = _image_processor(model_folder, backend)
        tokenizer = AutoTokenizer.from_pretrained(model_folder, trust_remote_code=False)
        processor = compose(model_folder, {"image_processor": image_processor, "tokenizer": tokenizer})
        merged = processor._merge_kwargs(processor.valid_processor_kwargs, tokenizer_init_kwargs=tokenizer.init_kwargs)
        images_kwargs = merged["images_kwargs"] | {"return_tensors": TENSORS[image_processor.backend]}
        files = CheckpointFiles(model_folder)
        return cls(files, processor, image_processor, tokenizer, images_kwargs, image_processor.backend)

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """Every option of the image processor, as `BaseImageProcessor.preprocess` resolves them for a call."""
        own, given = self.image_processor, self.images_kwargs
        named = {name: given.get(name, getattr(own, name, None)) for name in own._valid_kwargs_names}
        options: Mapping[str, Any] = own._standardize_kwargs(**named)
        return options

    def described(self) -> ImageCheckpoint:
        """The same for the fast families, whichever classes the checkpoint names, with its own prompt rules."""
        options = {
            name: Size(**dict(value)) if isinstance(value, SizeDict) else value for name, value in self.options.items()
        }

        def expand(_: Options, shape: tuple[int, ...], companions: Companions) -> Runs:
            outputs = {FEATURES: np.broadcast_to(np.float32(0), shape), **companions}
            return self._runs(self.processor.replace_image_token(outputs, 0))

        kind = type(self.image_processor).__name__.removesuffix("Pil")
        names, backend = self.input_names, BACKENDS[self.backend]
        return ImageCheckpoint(self.files, kind, options, self.placeholder_id, names, expand, backend)

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Digest of the files, versions and encoding. A compared fast path shares it, because the bits are the same."""
        return self.files.fingerprint("image", encoding, backend=self.backend)

    @cached_property
    def placeholder_id(self) -> int:
        """The id of the token that stands for one image in a prompt (`processor.image_token`)."""
        ids = self.tokenizer.encode(self.processor.image_token, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError("the image placeholder of this checkpoint is not one token")
        return int(ids[0])

    @cached_property
    def input_names(self) -> frozenset[str]:
        """The image processor's outputs that the model takes: those that a whole call of the processor keeps."""
        image = Image.new("RGB", (TRIAL_SIDE, TRIAL_SIDE))
        text, tensors = [self.processor.image_token], TENSORS[self.backend]
        whole = self.processor(images=[image], text=text, return_tensors=tensors)
        return frozenset(whole) & frozenset(self.outputs(image))

    def prompt(self, text: str, images: Sequence[Image.Image]) -> dict[str, Any]:
        """Torch tensors of one whole prompt, from a whole call of the processor. Raises whatever that raises."""
        given: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
        if not images:
            try:
                return dict(self.processor(**given))
            except Exception:  # noqa: BLE001 - some take no text alone, and say so in any way
                return dict(self.tokenizer(**given))
        try:
            return dict(self.processor(images=[list(images)], **given))
        except ValueError:  # a processor that takes the images of all prompts in one list
            return dict(self.processor(images=list(images), **given))

    def outputs(self, image: Image.Image) -> Mapping[str, Any]:
        """Run the image processor on one RGB image; the result has a batch dimension."""
        return self.replacement(image)[0]

    def replacement(self, image: Image.Image) -> tuple[Mapping[str, Any], Runs]:
        """The same, and the (token id, repetitions) runs that replace the image's placeholder.

        A Processor class may pass its own options to its image processor, so the class is called.
        """
        given = dict(self.images_kwargs)
        if given.pop("several", False):
            outputs, (text, _) = self.processor._process_images([[image, image]], **given)
            return {name: value[:1] for name, value in outputs.items()}, self._runs(text)
        outputs, (text,) = self.processor._process_images([image], **given)
        return outputs, self._runs(text)

    def _runs(self, text: str) -> Runs:
        """Tokenise the text separately, which is exact if it starts and ends with special tokens."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return tuple((int(token), sum(1 for _ in run)) for token, run in groupby(ids))


def as_array(value: Any) -> Array:
    """Convert an output to NumPy, which has no bfloat16: such values become float32."""
    return np.asarray(value.float() if str(getattr(value, "dtype", "")) == "torch.bfloat16" else value)


def _image_processor(model_folder: str, backend: BackendName) -> Any:
    try:
        found = AutoImageProcessor.from_pretrained(model_folder, backend=backend, trust_remote_code=False)
    except (ImportError, RuntimeError, ValueError) as error:
        if "torchvision" in str(error).lower():  # transformers says how to install it, in several sentences
            raise ValueError(NEEDS_TORCHVISION) from error
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"transformers cannot load its {backend} backend: {error}") from error
    if getattr(found, "backend", None) not in (backend, "torchvision"):  # transformers silently replaces missing parts
        kind = type(found).__name__
        raise ValueError(f"no {backend} backend for this image processor here: transformers gave {kind}")
    return found


def compose(model_folder: str, parts: Mapping[str, Any]) -> Any:
    """The checkpoint's Processor with only these parts, by their names. Raises ValueError."""
    settings, _ = ProcessorMixin.get_processor_dict(model_folder)
    named = (getattr(part, "_processor_class", None) for name, part in parts.items() if name != "tokenizer")
    name = settings.get("processor_class") or next(filter(None, named), None)
    if name is not None:
        kind = processor_class(name)
    else:
        config = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
        kind = PROCESSOR_MAPPING.get(type(config), None)
    if kind is None:
        raise ValueError("this checkpoint names no processor class that transformers knows")

    def check(self: Any, name: str, value: Any) -> Any:
        if value is None or isinstance(value, _Nothing):
            return None
        return kind.check_argument_for_proper_class(self, name, value)

    partial: Any = type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})
    try:
        return _of_parts(partial, parts, settings)
    except ImportError as error:
        raise ValueError(f"transformers cannot load {kind.__name__}: {str(error).strip().splitlines()[0]}") from error


def _of_parts(kind: Any, parts: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    names = kind.get_attributes()
    try:
        return kind.from_args_and_dict([parts.get(name) for name in names], settings)
    except AttributeError:  # it asks another part for its options
        stand_ins = {**dict.fromkeys(names, _Nothing()), **parts}
        processor = kind.from_args_and_dict([stand_ins[name] for name in names], settings)
        for name in set(names) - set(parts):
            setattr(processor, name, None)
        return processor


class _Nothing(dict[str, Any]):
    """A missing part of a Processor; every option of it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
