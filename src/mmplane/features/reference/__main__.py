"""Compares fast paths with transformers, in a separate process: `python -m ... FOLDER BACKEND MODALITY ...`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import cast

import msgspec

from mmplane.core.records import BackendName, Modality

if __name__ == "__main__":
    folder, backend, *names = sys.argv[1:]
    modalities = cast("list[Modality]", names)
    if backend == "torchvision":
        import_module("torchvision")  # if it was built for another torch, its own error is clearer than transformers'
    from mmplane.features.reference.parity import compare

    found = {
        modality: "same" if compare(folder, modality, cast("BackendName", backend)) else "differs"
        for modality in modalities
    }
    sys.stdout.buffer.write(msgspec.json.encode(found))
