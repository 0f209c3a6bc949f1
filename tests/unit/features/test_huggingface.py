from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmplane.core.errors import RequestError
from mmplane.features.arithmetic.encodings import cast, storage_dtype
from mmplane.features.contract.arrays import views
from mmplane.features.contract.image import Pixels
from mmplane.features.reference.checkpoint import NEEDS_TORCHVISION, ReferenceCheckpoint
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import materialise

from .checkpoints import FAMILIES, GENERIC, TORCHVISION_ALONE

LOADED = {name: family for name, family in FAMILIES.items() if name not in (*TORCHVISION_ALONE, "pixtral")}
"""Those that transformers loads without torchvision."""
ONLY_TORCHVISION = {
    "phi4_multimodal": "Phi4MultimodalImageProcessor",
    "lfm2_vl": "Lfm2VlImageProcessor",
    "cohere2_vision": "Cohere2VisionImageProcessor",
}


@pytest.fixture(params=[*LOADED.values(), GENERIC], ids=[*LOADED, "generic"], scope="module")
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ReferenceCheckpoint:
    return ReferenceCheckpoint.load(request.param.write(tmp_path_factory.mktemp("model")))


@pytest.fixture
def processor(checkpoint: ReferenceCheckpoint) -> HuggingFaceImageProcessor:
    return HuggingFaceImageProcessor(checkpoint)


def noise(width: int, height: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_writes_what_the_whole_processor_call_returns(
    checkpoint: ReferenceCheckpoint, processor: HuggingFaceImageProcessor
) -> None:
    pixels = noise(150, 100)
    token = checkpoint.processor.image_token
    whole = checkpoint.processor(images=[Image.fromarray(pixels)], text=[token], return_tensors="np")
    arrays = materialise(processor, pixels)
    assert next(iter(arrays)) == "pixel_values"
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, whole[name], strict=True)
    text_names = {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"}
    assert set(whole) - text_names == set(arrays)


def test_expansion_is_what_the_whole_processor_call_puts_into_the_prompt(
    checkpoint: ReferenceCheckpoint, processor: HuggingFaceImageProcessor
) -> None:
    token = checkpoint.processor.image_token
    number_tokens = 3 if getattr(checkpoint.image_processor, "use_image_id", False) else 0  # of MiniCPM-V's <image_id>
    assert checkpoint.tokenizer.convert_tokens_to_ids(token) == processor.placeholder_id
    for width, height in [(150, 100), (60, 200)]:
        whole = checkpoint.processor(images=[Image.fromarray(noise(width, height))], text=[token])
        ids = [token_id for token_id, count in processor.layout(width, height).expansion for _ in range(count)]
        assert ids == list(whole["input_ids"][0])[number_tokens:]


def test_a_16_bit_encoding_is_the_output_cast_once(
    checkpoint: ReferenceCheckpoint, processor: HuggingFaceImageProcessor
) -> None:
    pixels = noise(70, 60)
    exact = materialise(processor, pixels)
    for encoding in ("bfloat16", "float16"):
        encoded = HuggingFaceImageProcessor(checkpoint, encoding)
        assert encoded.layout(70, 60).tensors[0].dtype == encoding
        stored = materialise(encoded, pixels)
        np.testing.assert_array_equal(stored["pixel_values"], cast(exact["pixel_values"], encoding), strict=True)
        assert stored["pixel_values"].dtype == storage_dtype(encoding)
        assert all(stored[name].dtype == exact[name].dtype for name in exact if name != "pixel_values")


def test_pixels_are_not_known_to_the_generic_path(checkpoint: ReferenceCheckpoint) -> None:
    with pytest.raises(ValueError, match="uint8"):
        HuggingFaceImageProcessor(checkpoint, "uint8")


def test_a_slot_of_another_shape_is_refused(processor: HuggingFaceImageProcessor) -> None:
    layout = processor.layout(150, 100)
    arrays = views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
    arrays["pixel_values"] = arrays["pixel_values"][..., :-1]
    with pytest.raises(RuntimeError, match="shape"):
        processor.write(noise(150, 100), arrays)


def test_fingerprint_covers_configuration_and_encoding(tmp_path: Path) -> None:
    def checkpoint(name: str, **changes: object) -> ReferenceCheckpoint:
        return ReferenceCheckpoint.load(FAMILIES["qwen2_5_vl"].write(tmp_path / name, **changes))

    first = checkpoint("a").fingerprint("float32")
    assert len(first) == 32
    others = [
        checkpoint("b", max_pixels=28 * 28 * 64).fingerprint("float32"),
        checkpoint("c", image_mean=[0.5, 0.5, 0.5]).fingerprint("float32"),
        checkpoint("a").fingerprint("uint8"),
    ]
    assert len({first, *others}) == 4
    assert checkpoint("d").fingerprint("float32") == first


def test_a_size_that_the_model_cannot_take_is_the_clients_error(tmp_path: Path) -> None:
    processor = HuggingFaceImageProcessor.load(FAMILIES["qwen2_5_vl"].write(tmp_path))
    with pytest.raises(RequestError) as caught:
        processor.layout(2000, 2)
    assert caught.value.status == 400


def test_a_checkpoint_without_a_pil_backend_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torchvision:
        @staticmethod
        def from_pretrained(*_: object, **__: object) -> object:
            return object()

    monkeypatch.setattr("mmplane.features.reference.checkpoint.AutoImageProcessor", Torchvision)
    with pytest.raises(ValueError, match="pil backend"):
        ReferenceCheckpoint.load(FAMILIES["llava"].write(tmp_path))


@pytest.mark.parametrize(("model_type", "kind"), sorted(ONLY_TORCHVISION.items()))
def test_what_needs_torchvision_is_refused_in_one_sentence(model_type: str, kind: str, tmp_path: Path) -> None:
    """Whatever transformers says, and however: it raises an ImportError for some models and a ValueError for others."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind}))
    with pytest.raises(ValueError, match="torchvision") as raised:
        ReferenceCheckpoint.load(str(tmp_path))
    assert str(raised.value) == NEEDS_TORCHVISION
