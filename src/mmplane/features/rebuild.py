"""uint8 features to the model's dtype, in torch and on any device: the rank's half of `encodings.ByteForm`."""

from __future__ import annotations

import torch

from mmplane.features.encodings import ByteForm


class Rebuild:
    """A `ByteForm` on one device, for one dtype of the model. Casting the table is casting every value once."""

    def __init__(self, form: ByteForm, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        self._table = torch.from_numpy(form.table).to(dtype).to(device).reshape(-1)
        self._offsets = torch.arange(0, 768, 256, dtype=torch.int32, device=device).reshape(1, 3, 1, 1)
        self._form = form

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        """Features, bit for bit the processor's float32 cast to the dtype, from bytes on the same device.

        The shape is that of the bytes, with the last side `copies` times as long.
        """
        *sides, last = stored.shape
        pixels = stored.reshape(-1, 3, 1, self._form.run)
        values = self._table[pixels.to(torch.int32) + self._offsets]
        return values.expand(-1, 3, self._form.copies, self._form.run).reshape(*sides, last * self._form.copies)
