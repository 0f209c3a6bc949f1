"""What every fast path promises: layout, companions and features are transformers' own, in every encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from mmplane.core.errors import RequestError
from mmplane.core.records import BackendName
from mmplane.features.arithmetic.encodings import ENCODINGS, cast, dtype_of
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.contract.image import Pixels
from mmplane.features.families.names import FAST, KNOWN
from mmplane.features.families.table import TableImageProcessor
from mmplane.features.reference.parity import materialise


def fast(folder: str, backend: BackendName = "pil") -> TableImageProcessor:
    """The fast path of a checkpoint."""
    checkpoint = ImageCheckpoint.load(folder, KNOWN, backend)
    family = FAST[checkpoint.kind]
    assert family.serves(checkpoint)
    return family(checkpoint, "float32")


def assert_equal(
    processor: TableImageProcessor,
    images: Sequence[Pixels],
    answers: Iterable[dict[str, Any]],
    *,
    in_every: bool = False,
) -> int:
    """All of them are those of the answers; how many were not refused.

    Each is compared `in_every` encoding, or they take turns.
    """
    encodings = [each for each in ENCODINGS if processor.has_bytes or dtype_of(each) != "uint8"]
    made, recoded = 0, {encoding: processor.recoded(encoding) for encoding in encodings}
    for number, (pixels, theirs) in enumerate(zip(images, answers, strict=True)):
        height, width, _ = pixels.shape
        if "refused" in theirs:
            with pytest.raises(RequestError):
                processor.layout(width, height)
            continue
        assert [*map(tuple, theirs.pop("expansion").tolist())] == [*processor.layout(width, height).expansion]
        as_bytes = theirs.pop("bytes", None)
        exact = theirs.pop(processor.features_name)
        for encoding in encodings if in_every else (encodings[number % len(encodings)],):
            ours = materialise(recoded[encoding], pixels)
            stored: Any = ours.pop(processor.features_name)
            if encoding == "uint8":
                rebuilt = np.empty_like(exact)
                processor.byte_form.rebuild(stored, rebuilt)
                np.testing.assert_array_equal(rebuilt, exact, strict=True)
                assert exact.nbytes == stored.nbytes * 4 * processor.byte_form.copies
                copied = processor.byte_form.with_copies(stored)
                assert copied.base is not None
                if as_bytes is not None:
                    np.testing.assert_array_equal(copied.reshape(as_bytes.shape), as_bytes)
            elif encoding == "uint8_copies":
                pixels_alone: Any = materialise(recoded["uint8"], pixels)["pixel_values"]
                np.testing.assert_array_equal(stored.ravel(), processor.byte_form.with_copies(pixels_alone).ravel())
            else:
                np.testing.assert_array_equal(stored, cast(exact, encoding), strict=True)
            assert ours.keys() == theirs.keys()
            for name, array in theirs.items():
                expected = cast(array, encoding) if array.dtype == np.float32 else array
                np.testing.assert_array_equal(ours[name], expected, strict=True)
        made += 1
    return made
