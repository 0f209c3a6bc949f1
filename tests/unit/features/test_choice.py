"""The processors of a model, together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from mmplane.core.errors import RequestError
from mmplane.features.choice import Processors


class Counting:
    """A processor that counts how often its fingerprint is made."""

    made = 0

    @property
    def fingerprint(self) -> bytes:
        self.made += 1
        return b"f" * 32


def test_a_fingerprint_is_made_once_for_all_keys() -> None:
    """It is a part of every key, and reads the versions of packages from disk."""
    image = Counting()
    processors = Processors("float32", cast("Any", image))
    assert len({processors.fingerprint_of("image") for _ in range(100)}) == 1
    assert image.made == 1
    assert replace(processors, decode_profile="vllm").fingerprint_of("image") != processors.fingerprint_of("image")


def test_what_a_model_does_not_take_has_none() -> None:
    with pytest.raises(RequestError) as refused:
        Processors("float32", cast("Any", Counting())).fingerprint_of("video")
    assert refused.value.status == 422
