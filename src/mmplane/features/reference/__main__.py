"""Compare a checkpoint's fast paths with transformers, in a process of its own: `python -m ... FOLDER MODALITY ...`."""

from __future__ import annotations

import sys
from typing import cast

import msgspec

from mmplane.core.records import Modality
from mmplane.features.reference.parity import compare

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    modalities = cast("list[Modality]", names)
    found = {modality: "same" if compare(folder, modality) else "differs" for modality in modalities}
    sys.stdout.buffer.write(msgspec.json.encode(found))
