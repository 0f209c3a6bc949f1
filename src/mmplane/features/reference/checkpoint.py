"""The image half of a checkpoint as transformers has it: image processor, tokenizer, prompt rules.

transformers keeps three things apart that a request needs together: the image processor (pixels to arrays), the
tokenizer, and the `Processor` that knows by which text an image is replaced in a prompt. The last is composed here by
hand, because its own loader also loads a video processor, which needs torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image
from transformers import PROCESSOR_MAPPING, AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.image_utils import SizeDict
from transformers.models.auto.processing_auto import processor_class_from_name
from transformers.processing_utils import ProcessorMixin

from mmplane.core.records import BackendName
from mmplane.features.arithmetic.backends import BACKENDS
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.image import TRIAL_SIDE, Companions, ImageCheckpoint, Options
from mmplane.features.checkpoint.size import Size
from mmplane.features.checkpoint.vocabulary import Runs
from mmplane.features.contract.image import FEATURES

TENSORS: Mapping[BackendName, str] = {"pil": "np", "torchvision": "pt"}
"""What each backend computes with."""


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
        """Load from a checkpoint folder. Raises ValueError when its image processor has no such backend here."""
        image_processor = _image_processor(model_folder, backend)
        tokenizer = AutoTokenizer.from_pretrained(model_folder, trust_remote_code=False)
        processor = _compose(model_folder, image_processor, tokenizer)
        merged = processor._merge_kwargs(processor.valid_processor_kwargs, tokenizer_init_kwargs=tokenizer.init_kwargs)
        images_kwargs = merged["images_kwargs"] | {"return_tensors": TENSORS[backend]}
        return cls(CheckpointFiles(model_folder), processor, image_processor, tokenizer, images_kwargs, backend)

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """Every option of the image processor, as `BaseImageProcessor.preprocess` resolves them for a call."""
        own, given = self.image_processor, self.images_kwargs
        named = {name: given.get(name, getattr(own, name, None)) for name in own._valid_kwargs_names}
        options: Mapping[str, Any] = own._standardize_kwargs(**named)
        return options

    def described(self) -> ImageCheckpoint:
        """The same for the fast families, whichever classes the checkpoint names: its prompts by its own rules."""
        options = {
            name: Size(**dict(value)) if isinstance(value, SizeDict) else value for name, value in self.options.items()
        }

        def expand(_: Options, shape: tuple[int, ...], companions: Companions, tiles: int) -> Runs:
            outputs: dict[str, Any] = {name: np.array(value) for name, value in companions.items()}
            outputs[FEATURES] = np.broadcast_to(np.float32(0), shape)
            return self.expansion(outputs | {"num_patches": np.array([tiles]), "num_crops": [0]})

        kind = type(self.image_processor).__name__.removesuffix("Pil")
        names, backend = self.input_names, BACKENDS[self.backend]
        return ImageCheckpoint(self.files, kind, options, self.placeholder_id, names, expand, backend)

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Of the files, versions and encoding. A fast path that was compared shares it: same bits."""
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
        """Which of the image processor's outputs the model takes: what a whole call of the processor keeps of them."""
        image = Image.new("RGB", (TRIAL_SIDE, TRIAL_SIDE))
        text, tensors = [self.processor.image_token], TENSORS[self.backend]
        whole = self.processor(images=[image], text=text, return_tensors=tensors)
        return frozenset(whole) & frozenset(self.outputs(image))

    def outputs(self, image: Image.Image) -> Mapping[str, Any]:
        """What the image processor makes of one RGB image, batch dimension and all."""
        outputs: Mapping[str, Any] = self.image_processor([image], **self.images_kwargs)
        return outputs

    def expansion(self, outputs: Mapping[str, Any]) -> Runs:
        """The (token id, repetitions) runs that replace the placeholder of the image with these processor outputs.

        The text is tokenised apart from its neighbours, which is exact where it begins and ends with special tokens.
        """
        text = self.processor.replace_image_token(outputs, 0)
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return tuple((int(token), sum(1 for _ in run)) for token, run in groupby(ids))


def _image_processor(model_folder: str, backend: BackendName) -> Any:
    try:
        found = AutoImageProcessor.from_pretrained(model_folder, backend=backend, trust_remote_code=False)
    except (ImportError, RuntimeError) as error:  # torchvision that was built for another torch
        raise ValueError(f"transformers cannot load its {backend} backend: {error}") from error
    if getattr(found, "backend", None) != backend:  # one that is missing is replaced without a word
        kind = type(found).__name__
        raise ValueError(f"no {backend} backend for this image processor here: transformers gave {kind}")
    return found


def _compose(model_folder: str, image_processor: Any, tokenizer: Any) -> Any:
    """The checkpoint's own Processor with this image processor and tokenizer and nothing else (no video, no audio)."""
    settings, _ = ProcessorMixin.get_processor_dict(model_folder)
    name = settings.get("processor_class") or getattr(image_processor, "_processor_class", None)
    if name is not None:
        kind = processor_class_from_name(name)
    else:
        config = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
        kind = PROCESSOR_MAPPING.get(type(config), None)
    if kind is None:
        raise ValueError("this checkpoint names no processor class that transformers knows")

    def check(self: Any, name: str, value: Any) -> Any:
        return None if value is None else kind.check_argument_for_proper_class(self, name, value)

    images_only: Any = type(f"ImagesOnly{kind.__name__}", (kind,), {"check_argument_for_proper_class": check})
    parts = {"image_processor": image_processor, "tokenizer": tokenizer}
    return images_only.from_args_and_dict([parts.get(p) for p in kind.get_attributes()], settings)
