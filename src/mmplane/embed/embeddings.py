"""Embeddings instead of an image: the output of the model's vision tower, computed by the producer."""

from __future__ import annotations

import json
from typing import Any

from mmplane.arena.arrays import digestible, dtype_name
from mmplane.embed.errors import BadMedia

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
"""The dtypes that may be sent, and their names in safetensors."""
HEADER_ALIGN_BYTES = 8


class Embeddings:
    """Arrays by name: NumPy arrays or CPU tensors. They must not change until the call that gets them has returned.

    `image_embeds` is (tokens, width) in float32, float16 or bfloat16. Its width is that of the model's hidden states,
    once more for each layer that adds to them. `image_grid_thw`, (1, 3) int64, is required for models with positions in
    two dimensions: patches in time, height and width. The sidecar checks both against the checkpoint.
    """

    def __init__(self, **arrays: Any) -> None:
        self._arrays = arrays

    def content(self) -> bytes:
        """All arrays as a safetensors file. Raises BadMedia for a dtype that cannot be sent."""
        header, parts, end_bytes = {}, [], 0
        for name, values in self._arrays.items():
            dtype = dtype_name(values)
            if dtype not in DTYPES:
                raise BadMedia(f"{name} must be {', '.join(DTYPES)}, not {dtype}")
            parts.append(digestible(values))
            begin_bytes, end_bytes = end_bytes, end_bytes + parts[-1].nbytes
            header[name] = {
                "dtype": DTYPES[dtype],
                "shape": list(values.shape),
                "data_offsets": [begin_bytes, end_bytes],
            }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % HEADER_ALIGN_BYTES)
        return b"".join([len(text).to_bytes(8, "little"), text, *parts])
