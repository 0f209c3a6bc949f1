"""Real media: every item has pixels of its own, and a stamp changes the file and not one pixel."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import pytest
from PIL import Image

from mmplane.bench.inputs.sources import CLIP_BYTES, Source, encoded
from mmplane.bench.inputs.stamps import stamped
from mmplane.bench.packages import folder_of


def pixels_of(jpeg: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as image:
        image.load()
        return np.asarray(image)


def frames_of(mp4: bytes, count: int) -> list[np.ndarray]:
    with av.open(io.BytesIO(mp4)) as container:
        return [
            frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(count), strict=False)
        ]


def test_a_photograph_has_its_size_and_pixels_of_its_own() -> None:
    first, second = (pixels_of(encoded(Source("image", seed, 320, 200))) for seed in (0, 2))
    assert first.shape == second.shape == (200, 320, 3)
    assert (first != second).any(axis=2).mean() > 0.5
    assert first.std() > 20


def test_one_seed_gives_one_file() -> None:
    assert encoded(Source("image", 5, 64, 64)) == encoded(Source("image", 5, 64, 64))


def test_a_clip_is_two_megabytes_of_h264_with_pixels_of_its_own() -> None:
    clip = encoded(Source("video", 1))
    assert 0.7 * CLIP_BYTES < len(clip) < 1.3 * CLIP_BYTES
    with av.open(io.BytesIO(clip)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.duration is not None
        assert 4 < container.duration / 1e6 < 7
    assert frames_of(stamped(clip, b"a note"), 1)[0].tobytes() == frames_of(clip, 1)[0].tobytes()


def test_a_sound_is_five_seconds_of_its_own() -> None:
    sounds = [encoded(Source("audio", seed)) for seed in (0, 1)]
    assert sounds[0] != sounds[1]
    for content in (sounds[0], stamped(sounds[0], b"odd")):
        with wave.open(io.BytesIO(content)) as sound:
            assert sound.getframerate() == 16_000
            assert 4 < sound.getnframes() / 16_000 < 7
            assert np.frombuffer(sound.readframes(16_000 * 4), np.int16).std() > 100


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_a_stamp_changes_the_file_and_no_pixel(format_: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(file, format_)
    first, second = (stamped(file.getvalue(), note) for note in (b"one", b"two"))
    assert len({file.getvalue(), first, second}) == 3
    assert pixels_of(first).tobytes() == pixels_of(second).tobytes() == pixels_of(file.getvalue()).tobytes()


def test_other_media_cannot_be_stamped() -> None:
    with pytest.raises(ValueError, match="stamped"):
        stamped(b"GIF89a", b"note")


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no_such_package"):
        folder_of("no_such_package")
