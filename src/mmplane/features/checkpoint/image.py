"""The image half of a checkpoint: its own image processor, tokenizer and prompt rules, loaded without torchvision.

transformers keeps three things apart that a request needs together: the image processor (pixels to arrays), the
tokenizer, and the `Processor` that knows by which text an image is replaced in a prompt. The last is composed here by
hand, because its own loader also loads a video processor, which needs torchvision.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy
import PIL
import transformers
from PIL import Image
from transformers import PROCESSOR_MAPPING, AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import processor_class_from_name
from transformers.processing_utils import ProcessorMixin

from mmplane.core.keys import digest_parts
from mmplane.features.arithmetic.encodings import Encoding

TRIAL_SIDE = 224
"""Side in pixels of a square image that every processor takes: a multiple of patches of 14 and 16, merged or not."""

Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ImageCheckpoint:
    """What transformers knows about images of one checkpoint. `images_kwargs` are its processor's own defaults."""

    processor: Any
    image_processor: Any
    tokenizer: Any
    images_kwargs: Mapping[str, Any]

    @classmethod
    def load(cls, model_folder: str) -> ImageCheckpoint:
        """Load from a checkpoint folder. Raises ValueError when it has no image processor with a PIL backend."""
        image_processor = AutoImageProcessor.from_pretrained(model_folder, backend="pil", trust_remote_code=False)
        kind = type(image_processor).__name__
        if not kind.endswith("Pil"):  # a backend that is missing is replaced without a word
            raise ValueError(f"no PIL backend for this image processor: transformers gave {kind}")
        tokenizer = AutoTokenizer.from_pretrained(model_folder, trust_remote_code=False)
        processor = _compose(model_folder, image_processor, tokenizer)
        merged = processor._merge_kwargs(tokenizer_init_kwargs=tokenizer.init_kwargs)
        return cls(processor, image_processor, tokenizer, merged["images_kwargs"] | {"return_tensors": "np"})

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """Every option of the image processor, as `BaseImageProcessor.preprocess` resolves them for a call."""
        own, given = self.image_processor, self.images_kwargs
        named = {name: given.get(name, getattr(own, name, None)) for name in own._valid_kwargs_names}
        options: Mapping[str, Any] = own._standardize_kwargs(**named)
        return options

    def fingerprint(self, encoding: Encoding) -> bytes:
        """32 bytes over class, configuration, backend, versions and encoding. A fast path shares it: same bits."""
        config = json.dumps({**self.image_processor.to_dict(), **self.images_kwargs}, sort_keys=True)
        kinds = f"{type(self.image_processor).__name__} {type(self.processor).__mro__[1].__name__} pil"
        versions = f"transformers {transformers.__version__} pillow {PIL.__version__} numpy {numpy.__version__}"
        return digest_parts([kinds.encode(), config.encode(), versions.encode(), encoding.encode()])

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
        whole = self.processor(images=[image], text=[self.processor.image_token], return_tensors="np")
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
