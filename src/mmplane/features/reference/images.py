"""Image processors by the classes that a checkpoint names: loaded by transformers, or replaced by a family."""

from __future__ import annotations

import logging

from mmplane.core.records import BackendName
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.families.names import FAST
from mmplane.features.reference.checkpoint import ReferenceCheckpoint
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import agree

log = logging.getLogger("mmplane")


def generic(model_folder: str, encoding: Encoding, *, fast: bool, backend: BackendName = "pil") -> ImageProcessor:
    """The generic processor, or a `fast` family with the checkpoint's own prompt rules if both agree on noise."""
    checkpoint = ReferenceCheckpoint.load(model_folder, backend)
    described = checkpoint.described()
    family = FAST.get(described.kind)
    if fast and family is not None and family.serves(described):
        if _agree(family(described, "float32"), HuggingFaceImageProcessor(checkpoint)):
            return family(described, encoding)
        log.warning("the fast image processor differs from transformers' own, which serves instead")
    return HuggingFaceImageProcessor(checkpoint, encoding)


def _agree(fast: ImageProcessor, reference: ImageProcessor) -> bool:
    """Also False if its prompt rule looks at more than the outputs of its image processor (GOT-OCR2)."""
    try:
        return agree(fast, reference)
    except LookupError:
        return False
