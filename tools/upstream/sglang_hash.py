"""Three different white images are one image to SGLang: their hash covers the bytes of the features alone.

    python sglang_hash.py      # in SGLang's environment, some seconds, no server

Prints each image's pad values, which stand for it in the prefix cache and the embedding cache: first as SGLang makes
them, then by the proposed `set_pad_value`. Exits with 1 when SGLang tells the images apart.
"""

import hashlib

import torch
from PIL import Image
from sglang.srt.managers import mm_utils
from sglang.srt.managers.schedule_batch import Modality, MultimodalDataItem
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SIZES = ((560, 280), (280, 560), (140, 1120))
"""Width and height in pixels."""


def item_of(width, height, colour="white"):
    """What SGLang's processor for Qwen2-VL makes of an image of one colour."""
    made = Qwen2VLImageProcessorPil()(images=[Image.new("RGB", (width, height), colour)], return_tensors="pt")
    return MultimodalDataItem(
        modality=Modality.IMAGE,
        feature=made["pixel_values"],
        model_specific_data={"image_grid_thw": made["image_grid_thw"]},
    )


def proposed(item):
    """The same digest over dtype, shape and grids as well, kept whole by `set_identity`, which exists since 0.5.23."""
    if item.pad_value is not None:
        return
    whole = hashlib.sha256(item.modality.name.encode())
    value = item.feature if item.feature is not None else item.precomputed_embeddings
    for one in value if isinstance(value, (list, tuple)) else [value]:
        whole.update(f"{one.dtype} {tuple(one.shape)}".encode())
        whole.update(mm_utils.hash_feature(one).to_bytes(8, "big"))
    for name in sorted(name for name in item.model_specific_data if "grid" in name or "size" in name):
        whole.update(f"{name} {torch.as_tensor(item.model_specific_data[name]).tolist()}".encode())
    item.set_identity(whole.digest())


def main():
    """Exit code 0: reproduced, and solved by the proposal."""
    pads = {}
    for way, name in (("SGLang", MultimodalDataItem.set_pad_value), ("proposed", proposed)):
        for size in (*SIZES, SIZES[0]):
            item = item_of(*size)
            name(item)
            pads.setdefault(way, []).append(item.padding_values())
            shape, grid = tuple(item.feature.shape), item.model_specific_data["image_grid_thw"].tolist()
            print(f"{way:9} {size[0]:>4}x{size[1]:<5} feature {shape} grid {grid} pads {item.pad_value}")
    reproduced = len(set(pads["SGLang"])) == 1
    solved = len(set(pads["proposed"])) == 3 and pads["proposed"][0] == pads["proposed"][-1]
    print("reproduced" if reproduced else "NOT reproduced", "and", "solved" if solved else "NOT solved")
    return 0 if reproduced and solved else 1


if __name__ == "__main__":
    raise SystemExit(main())
