"""Features of files, made by whichever process runs this.

features_made.py '[[FOLDER, MODALITY, FILE, BACKEND], ...]'
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmplane.config import Config
from mmplane.core.records import Ask
from mmplane.features.choice import choose
from mmplane.features.verdict import Verdicts
from mmplane.media.materialise import examine, materialise

SAME: Verdicts = {"image": "same", "video": "same", "audio": "same"}
"""As if there had been a comparison, where there can be one."""


def features_made(cases: Iterable[tuple[str, Any, str, Any]]) -> list[tuple[str, str]]:
    """Of each (model folder, modality, file, backend): a digest over features and layout, and the fingerprint."""
    verdicts = SAME if find_spec("transformers") else None
    found = []
    for folder, modality, path, backend in cases:
        options = {"device": "cpu", "backend": backend, "kind": "sidecar", "generic": False}
        config = Config(model="", model_folder=folder, served_name="", **options)
        processors = choose(config, verdicts)
        media = Path(path).read_bytes()
        recipe = examine(processors, media, Ask(modality))
        out = memoryview(bytearray(recipe.layout.length_bytes))
        materialise(processors, media, recipe, out)
        digest = hashlib.sha256(bytes(out) + repr(recipe.layout).encode()).hexdigest()
        found.append((digest, processors.fingerprint.hex()))
    return found


if __name__ == "__main__":
    print(json.dumps({"made": features_made(json.loads(sys.argv[1])), "loaded": sorted(sys.modules)}))
