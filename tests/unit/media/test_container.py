"""Containers: what is opened, and how far it is read."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any, NoReturn

import av
import pytest
import soundfile

from clips import encode, moving, real
from mmplane.core.errors import RequestError
from mmplane.core.records import Clip
from mmplane.media import container, video
from mmplane.media.container import _File, opened
from mmplane.media.video import survey
from sounds import speech_like, write

from .test_audio import heard

SIZE = 640, 272


def test_a_file_of_too_many_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of all streams count: who wants the pictures reads past the sounds."""
    media = real("bigbuckbunny")
    with av.open(io.BytesIO(media)) as film:
        assert len(film.streams) > 1
        parts = sum(1 for _ in film.demux())
    monkeypatch.setattr(container, "PACKETS_MAX", parts)
    frames = len(survey(media).seconds)
    assert frames < parts
    monkeypatch.setattr(container, "PACKETS_MAX", parts - 1)
    with pytest.raises(RequestError, match="too many parts"):
        survey(media)


def test_a_sound_of_too_many_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only up to what is heard: a long film may have more."""
    media = real("bigbuckbunny")
    monkeypatch.setattr(container, "SOUND_PACKETS_MAX", 150)
    assert heard(media, 1.0).shape == (16_000,)
    with pytest.raises(RequestError, match="too many parts"):
        heard(media, 5.0)


def no_memory(*_: Any, **__: Any) -> NoReturn:
    raise av.error.MemoryError(12, "Cannot allocate memory", "a piece of the payload")


def test_no_memory_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker answers 503 then, and not that the file is bad; nor does it repeat what FFmpeg says."""
    media = real("bikes")
    clip = Clip(*SIZE, 2, 25.0, (0, 1))
    for module, name, use in (
        (video, "_size", lambda: survey(media)),
        (video, "_pixels", lambda: list(video.decode(media, clip))),
        (av, "open", lambda: survey(media)),
        (av, "AudioResampler", lambda: heard(real("bigbuckbunny"), 1.0)),
        (soundfile, "SoundFile", lambda: heard(write(speech_like(1.0), 16_000, "FLAC"), 1.0)),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(module, name, no_memory)
            with pytest.raises(MemoryError) as error:
                use()
        assert name == "SoundFile" or not error.value.args


def test_who_decodes_offers_its_core_between_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    offers: list[None] = []
    monkeypatch.setattr("mmplane.media.container.give_way", lambda: offers.append(None))
    footage = survey(real("bikes"))
    assert len(offers) >= len(footage.seconds) > 0


@pytest.mark.parametrize("sound", [True, False])
def test_no_frame_of_a_clip_is_decoded_on_opening(sound: bool) -> None:
    """FFmpeg learns the format of the pixels of these by decoding."""
    media = real("bigbuckbunny") if sound else encode(moving(3))
    for probe in (True, False):
        with opened(media, "mov", "clip", probe=probe) as container:
            assert (container.streams.video[0].codec_context.pix_fmt is not None) is probe


def test_a_file_is_not_copied() -> None:
    media = memoryview(real("bigbuckbunny"))
    survey(media)
    tracemalloc.start()
    try:
        survey(media)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < len(media) / 2


def test_media_is_read_as_a_file_is() -> None:
    ours, right = _File(memoryview(b"0123456789")), io.BytesIO(b"0123456789")
    for file in (ours, right):
        file.seek(-3, io.SEEK_END)
    for read_bytes, offset, whence in [
        (2, 0, io.SEEK_CUR),
        (5, 4, io.SEEK_SET),
        (3, -2, io.SEEK_CUR),
        (9, 30, 0),
        (1, 0, 1),
    ]:
        assert ours.read(read_bytes) == right.read(read_bytes)
        assert ours.seek(offset, whence) == right.seek(offset, whence) == ours.tell()
    with pytest.raises(ValueError, match="beginning"):
        ours.seek(-1)
