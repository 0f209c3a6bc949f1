"""Converts uint8 features to the model's dtype, with torch on any device: the rank's half of `encodings.ByteForm`.

The look-up, the cast and the doubling of still frames are one loop: on a GPU torch's compiler makes it, once at start;
for float32 on a CPU it is one of ours, which is faster than a sequence of torch's operators.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmplane.features.arithmetic.encodings import ByteForm
from mmplane.features.arithmetic.kernels import look_up

log = logging.getLogger("mmplane")

Run = Callable[[torch.Tensor], torch.Tensor]
"""Bytes [places, 3, run] to values [places, 3, copies, run]."""
TRIAL_RUN = 64
"""The length of the run in the trial, if the form leaves it open."""
TRIAL_PLACES = (1, 8)
"""torch compiles code of its own for a side of 1 (one tile), and code for all other lengths."""


class Rebuild:
    """A `ByteForm` on one device, for one dtype of the model. Casting the table is the same as casting every value.

    `backend` is what torch compiles with: the default on a GPU, and none on a CPU.
    """

    def __init__(
        self, form: ByteForm, dtype: torch.dtype, device: torch.device | str = "cpu", *, backend: Any = None
    ) -> None:
        self._table = torch.from_numpy(form.table).to(dtype).to(device).reshape(-1)
        self._offsets = torch.arange(0, 768, 256, dtype=torch.int32, device=device).reshape(1, 3, 1, 1)
        self._form = form
        if backend is None and torch.device(device).type == "cuda":
            backend = "inductor"
        plain = self._loop if torch.device(device).type == "cpu" and dtype is torch.float32 else self._look_up
        self._run: Run = plain if backend is None else self._compiled(backend)

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        """Features from bytes on the same device: bit for bit the processor's float32 cast to the dtype.

        The shape is that of the bytes, with the last dimension `copies` times as long.
        """
        *sides, last = stored.shape
        values = self._run(stored.reshape(-1, 3, self._form.run_of(stored.shape)))
        return values.reshape(*sides, last * self._form.copies)

    def _loop(self, runs: torch.Tensor) -> torch.Tensor:
        places, _, run = runs.shape
        # NumPy's memory uses huge pages: faults of small pages would take longer than the loop.
        values = np.empty((places, 3, self._form.copies, run), np.float32)
        look_up(runs.numpy(), self._form.table, values)
        return torch.from_numpy(values)

    def _look_up(self, runs: torch.Tensor) -> torch.Tensor:
        values = self._table[runs[:, :, None].to(torch.int32) + self._offsets]
        return values.expand(-1, -1, self._form.copies, -1).contiguous()

    def _compiled(self, backend: Any) -> Run:  # GPU: run on a CPU with other backends only (tests/unit/ranks)
        """One graph without a break, for items of any shape. All compiling is done here, outside of any request."""
        run: Run = torch.compile(self._look_up, backend=backend, fullgraph=True, dynamic=True)
        try:
            for places in TRIAL_PLACES:
                shape = (places, 3, self._form.run or TRIAL_RUN)
                run(torch.zeros(shape, dtype=torch.uint8, device=self._table.device))
        except Exception:  # a missing compiler or driver may raise anything
            log.warning(
                "torch cannot compile the conversion of features into one kernel; it runs as several", exc_info=True
            )
            return self._look_up
        return run
