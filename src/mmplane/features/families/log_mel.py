"""Log-mel features like Whisper's (Whisper, Qwen2-Audio, Qwen2.5-Omni, Voxtral): one column per 10 ms.

A chunk is 30 seconds, which is all that most models hear. A long sound for Voxtral is computed as a whole and then
split into chunks.

The values match `WhisperFeatureExtractor`'s NumPy path to at most 1 ulp (nearly all of them exactly): spectra in double
precision, rounded to single, then summed into bands in double. If torch is installed, the extractor's own call uses
torch's single-precision path instead, which differs from its NumPy path by up to 2e-5. That path's bits depend on the
machine, so the NumPy path is served. Features are (chunks, bands, columns).

Spectra are computed for a block of columns at a time, and not at all for the padding, which is silence. The maximum of
all values affects each value and is known last, so the values are computed in separate memory (1.5 MB) and written
once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mmplane.core.errors import bad_media
from mmplane.core.records import Layout
from mmplane.features.arithmetic import kernels, mel
from mmplane.features.arithmetic.encodings import Array, Encoding, cast, dtype_of, storage_dtype
from mmplane.features.checkpoint.audio import AudioCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.contract.arrays import Arrays, pack, write_all
from mmplane.features.contract.audio import AUDIO_FEATURES, AudioProcessor, Samples
from mmplane.features.contract.processor import LAYOUTS_MAX

BLOCK_COLUMNS = 64
"""Number of spectra computed at a time, so that they stay in the second-level cache until they are summed."""

MEL_FLOOR = 1e-10
"""Minimum power of a band (`transformers.audio_utils.spectrogram`)."""

KNOWN = Known(
    models={
        "qwen2_audio": Kinds("Qwen2AudioProcessor", tokens={"audio": 151646}),
        "whisper": Kinds("WhisperProcessor"),
        "voxtral": Kinds("VoxtralProcessor"),
    }
)

Reference = Callable[[AudioCheckpoint, Samples], npt.NDArray[np.float32]]
"""(1, bands, columns of all chunks) of one sound."""


class LogMelProcessor(AudioProcessor):
    """The audio processor of the family; with a `reference`, it copies that path's own values."""

    def __init__(
        self, checkpoint: AudioCheckpoint, encoding: Encoding = "float32", *, reference: Reference | None = None
    ) -> None:
        if dtype_of(encoding) == "uint8":
            raise ValueError("uint8 encoding is not available for sounds")
        options = checkpoint.options
        if (
            options["dither"] != 0.0
            or options["padding_value"] != 0.0
            or checkpoint.chunk_samples % options["hop_length"]
        ):
            raise ValueError("this configuration of the feature extractor is not built")
        self._checkpoint, self._encoding, self._reference = checkpoint, encoding, reference
        self._hop: int = options["hop_length"]
        self._width: int = options["n_fft"]
        self._samples_max = checkpoint.samples_max
        self._columns = checkpoint.chunk_samples // self._hop
        self._window = mel.hann(self._width)
        self._bands = _bands(mel.filters(1 + self._width // 2, options["feature_size"], options["sampling_rate"]))
        self._layouts = lru_cache(maxsize=LAYOUTS_MAX)(self._layout)

    @property
    def fingerprint(self) -> bytes:
        """The checkpoint's digest, with the encoding."""
        return self._checkpoint.fingerprint(self._encoding)

    @property
    def placeholder_id(self) -> int | None:
        """The checkpoint's own."""
        return self._checkpoint.placeholder_id

    @property
    def sampling_rate_hz(self) -> int:
        """The checkpoint's own."""
        return int(self._checkpoint.options["sampling_rate"])

    @property
    def samples_max(self) -> int:
        """Thirty seconds for most models."""
        return self._samples_max

    def layout(self, samples: int) -> Layout:
        """A closed formula: takes microseconds. Anything longer than the model hears is cut off, as in transformers."""
        return self._layouts(min(samples, self._samples_max))

    def write(self, samples: Samples, out: Arrays) -> int:
        """Compute block by block in separate memory (the maximum affects all values); then write once into `out`."""
        samples = samples[: self._samples_max]
        layout, features = self.layout(len(samples)), out[AUDIO_FEATURES]
        if features.shape != layout.tensors[0].shape or features.dtype != storage_dtype(self._encoding):
            raise RuntimeError("the slot does not have the shape that the layout said")
        chunks, bands, columns = features.shape
        exact = np.empty((bands, chunks * columns), np.float32)
        self._fill(samples, exact)
        features[...] = cast(exact, self._encoding).reshape(bands, chunks, columns).swapaxes(0, 1)
        masks = {}
        if (rule := self._checkpoint.rule) is not None and rule.mask:
            masks[rule.mask] = np.arange(columns) < self._heard(len(samples))
        return features.nbytes + write_all(masks, out)

    def warm(self) -> None:
        """Run the code once; it was compiled when it was imported."""
        self._fill(np.zeros(self._width, np.float32), np.empty((len(self._bands[0]), self._columns), np.float32))

    def _layout(self, samples: int) -> Layout:
        if samples < 1:
            raise bad_media("the sound is empty")
        chunks = self._checkpoint.chunks(samples)
        features = (AUDIO_FEATURES, self._encoding, (chunks, len(self._bands[0]), self._columns))
        rule, placeholder = self._checkpoint.rule, self._checkpoint.placeholder_id
        if rule is None or placeholder is None:
            return pack([features], ())
        tokens = rule.tokens(self._heard(samples) if rule.mask else chunks * self._columns)
        if tokens < 1:
            raise bad_media("the sound is too short for this model")
        masks = [(rule.mask, "int32", (1, self._columns))] if rule.mask else []
        return pack([features, *masks], ((placeholder, tokens),))

    def _heard(self, samples: int) -> int:
        """Number of columns that the mask covers: those that start in the sound."""
        return -(-samples // self._hop)

    def _fill(self, samples: Samples, logs: Array) -> None:
        if self._reference is not None:
            np.copyto(logs, self._reference(self._checkpoint, samples)[0])
            return
        heard = min(-(-(len(samples) + self._width // 2) // self._hop), logs.shape[1])
        for start in range(0, heard, BLOCK_COLUMNS):
            end = min(start + BLOCK_COLUMNS, heard)
            power = np.empty((len(logs), end - start))
            kernels.sum_bands(self._spectra(samples, start, end, logs.shape[1]), *self._bands, MEL_FLOOR, power)
            logs[:, start:end] = np.log10(power, out=power)
        logs[:, heard:] = np.log10(MEL_FLOOR)
        np.maximum(logs, logs.max() - 8.0, out=logs)
        np.add(logs, 4.0, out=logs)
        np.divide(logs, 4.0, out=logs)

    def _spectra(self, samples: Samples, start: int, end: int, columns: int) -> npt.NDArray[np.complex128]:
        """Spectra of columns start..end, each centred on its moment."""
        half = self._width // 2
        stretch = _stretch(samples, start * self._hop - half, (end - 1) * self._hop + half, columns * self._hop)
        frames = np.lib.stride_tricks.sliding_window_view(stretch, self._width)[:: self._hop]
        return np.fft.rfft(frames * self._window)


def _stretch(samples: Samples, start: int, end: int, length: int) -> npt.NDArray[np.float32]:
    """Samples start..end of the sound: silent after its end, and reflected at both ends of the `length` that counts."""
    stretch = np.zeros(end - start, np.float32)
    from_, to = max(start, 0), min(end, len(samples))
    stretch[from_ - start : max(to, from_) - start] = samples[from_:to]
    if start < 0:
        before = samples[1 : 1 - start]
        stretch[-start - len(before) : -start] = before[::-1]
    last = length - 1
    if end > last + 1:
        after = samples[2 * last - end + 1 : last]
        stretch[len(stretch) - len(after) :] = after[::-1]
    return stretch


def _bands(filters: npt.NDArray[np.float64]) -> tuple[kernels.Ints, kernels.Ints, kernels.Doubles]:
    """For each band: its first frequency, their number, and their shares; from dense (frequencies, bands)."""
    taken = filters != 0.0
    first = np.where(taken.any(axis=0), taken.argmax(axis=0), 0)
    count = np.where(taken.any(axis=0), len(taken) - taken[::-1].argmax(axis=0) - first, 0)
    shares = np.zeros((filters.shape[1], max(int(count.max()), 1)))
    for band, (start, taps) in enumerate(zip(first, count, strict=True)):
        shares[band, :taps] = filters[start : start + taps, band]
    return first.astype(np.int32), count.astype(np.int32), shares
