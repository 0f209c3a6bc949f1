"""Containers: what is opened, and how far it is read."""

from __future__ import annotations

import io

import av
import pytest

from clips import real
from mmplane.core.errors import RequestError
from mmplane.media import container
from mmplane.media.video import survey

from .test_audio import heard


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
