"""transformers' Processor classes, including those that require torchvision or num2words and use neither for images.

If a package is missing, transformers replaces a class by a stand-in that only raises. The class itself is in its
module. Some of these modules import a rule for sizes from torchvision's image processor, which Pillow's has too.
SmolVLM's needs a package that spells the numbers of a clip's frames.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

from transformers.models.auto.processing_auto import processor_class_from_name


@cache
def processor_class(name: str) -> Any:
    """The class of this name, or None. Raises ImportError if its module cannot be loaded."""
    found: Any = processor_class_from_name(name)
    if found is not None and getattr(type(found), "is_dummy", False):
        found = getattr(_module_of(found.__module__.rpartition("processing_")[2]), name)
    module: Any = sys.modules.get(getattr(found, "__module__", ""))
    if getattr(module, "num2words", "") is None:
        module.num2words = _no_numbers
    return found


def _module_of(kind: str) -> Any:
    package = f"transformers.models.{kind}"
    wanted = f"{package}.image_processing_{kind}"
    missing = wanted not in sys.modules
    if missing:
        with suppress(ImportError):
            sys.modules[wanted] = import_module(f"{package}.image_processing_pil_{kind}")
    try:
        return import_module(f"{package}.processing_{kind}")
    finally:
        if missing:
            sys.modules.pop(wanted, None)


def _no_numbers(*_: Any) -> str:
    raise ImportError("SmolVLM's clips need num2words")
