"""Features of files, made by whichever process runs this: `features_made.py '[[FOLDER, MODALITY, FILE], ...]'`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mmplane.items.pool
import mmplane.items.store
import mmplane.media.worker  # noqa: F401 - all that a sidecar's processes import
from mmplane.config import Config
from mmplane.core.records import Ask
from mmplane.features.choice import choose
from mmplane.features.verdict import Verdicts
from mmplane.media.materialise import examine, materialise

SAME: Verdicts = {"image": "same", "video": "same", "audio": "same"}


def features_made(cases: Iterable[tuple[str, Any, str]]) -> list[str]:
    """A digest for each (model folder, modality, file), over features, layout and fingerprint."""
    found = []
    for folder, modality, path in cases:
        processors = choose(Config(model="", model_folder=folder, served_name="", device="cpu"), SAME)
        media = Path(path).read_bytes()
        recipe = examine(processors, media, Ask(modality))
        out = memoryview(bytearray(recipe.layout.length_bytes))
        materialise(processors, media, recipe, out)
        found.append(hashlib.sha256(bytes(out) + repr(recipe.layout).encode() + processors.fingerprint).hexdigest())
    return found


if __name__ == "__main__":
    print(json.dumps({"made": features_made(json.loads(sys.argv[1])), "loaded": sorted(sys.modules)}))
