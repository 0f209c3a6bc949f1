"""Every family, by the PIL backend: 200 sizes, twelve kinds of files, other configurations, refusals."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmplane.core.records import Ask, BackendName
from mmplane.features.choice import Processors
from mmplane.features.contract.image import Pixels
from mmplane.features.families.names import FAMILIES as TABLE
from mmplane.features.families.names import FAST, KNOWN
from mmplane.features.reference.checkpoint import ReferenceCheckpoint
from mmplane.media.materialise import examine
from torchvision_reference import Reference
from torchvision_stub import image

from .checkpoints import FAMILIES, TORCHVISION_ALONE
from .conformance import assert_equal, fast

SERVED = [name for name in FAMILIES if name not in TORCHVISION_ALONE]
NOISE = np.random.default_rng(0).integers(0, 256, (300, 2000, 3), dtype=np.uint8)
LONG = [(1, 1), (1, 150), (190, 1), (2, 1500), (299, 3), (9, 1999), (112, 224), (57, 55)]
SIZES = LONG + [tuple(size) for size in np.random.default_rng(1).integers(1, 200, (192, 2)).tolist()]
"""(height, width) in pixels."""

MORE: list[tuple[str, dict[str, Any]]] = [
    ("pixtral", {"size": {"height": 64, "width": 120}, "do_pad": False, "resample": 2}),
    ("glm4v", {"size": {"shortest_edge": 28 * 28 * 64, "longest_edge": 28 * 28 * 300}}),
    ("glm4v", {"merge_size": 1, "temporal_patch_size": 3, "patch_size": 16}),
    ("idefics3", {"do_image_splitting": False}),
    ("idefics3", {"size": {"longest_edge": 50}, "do_normalize": False, "resample": 3}),
    ("smolvlm", {"max_image_size": {"longest_edge": 48}}),
    ("paddle_ocr", {"merge_size": 1, "patch_size": 16, "temporal_patch_size": 2}),
    ("minicpm_v", {"slice_mode": False}),
    ("minicpm_v", {"downsample_mode": "4x", "max_slice_nums": 4, "patch_size": 8, "resample": 2}),
]
"""Where they take other ways."""


def answers(name: str, folder: str, images: Sequence[Pixels], reference: Reference) -> Iterator[dict[str, Any]]:
    """By transformers here, or in the process that has torchvision for what it needs it for."""
    if name == "pixtral":
        yield from reference.images(folder, images, backend="pil")
    else:
        checkpoint = ReferenceCheckpoint.load(folder)
        yield from (dict(image(checkpoint, pixels)) for pixels in images)


def noise(sizes: Sequence[tuple[int, ...]]) -> list[Pixels]:
    return [np.ascontiguousarray(NOISE[:height, :width]) for height, width in sizes]


@pytest.mark.parametrize("name", SERVED)
def test_two_hundred_sizes(name: str, tmp_path: Path, reference: Reference) -> None:
    folder, images = FAMILIES[name].write(tmp_path), noise(SIZES)
    assert assert_equal(fast(folder), images, answers(name, folder, images, reference)) >= 190


@pytest.mark.parametrize(("name", "changes"), MORE, ids=str)
def test_other_configurations(name: str, changes: dict[str, Any], tmp_path: Path, reference: Reference) -> None:
    folder, images = FAMILIES[name].write(tmp_path, **changes), noise(SIZES[:40])
    assert assert_equal(fast(folder), images, answers(name, folder, images, reference)) >= 30


@pytest.mark.parametrize("name", FAMILIES)
def test_a_layout_needs_the_header_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens and shapes of a file whose pixels nobody may look at; the rest of it is missing."""
    backend: BackendName = "torchvision" if name in TORCHVISION_ALONE else "pil"
    processor, media = fast(FAMILIES[name].write(tmp_path), backend), io.BytesIO()
    Image.fromarray(np.ascontiguousarray(NOISE[:130, :170])).save(media, "PNG")
    monkeypatch.setattr("mmplane.media.image.decode", lambda *_, **__: pytest.fail("decoded"))
    recipe = examine(Processors("float32", processor), media.getvalue()[:1000], Ask("image"))
    assert recipe.layout == processor.layout(170, 130)
    assert sum(count for _, count in recipe.layout.expansion) > 0


def test_the_table_has_every_family_once() -> None:
    assert len(FAST) == sum(len(known.images) for _, known in TABLE)
    assert set(KNOWN.images) == set(FAST)
    assert KNOWN.torchvision <= set(FAST)
