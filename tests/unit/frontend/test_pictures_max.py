"""A model whose processor treats several pictures in another way is asked about one at a time."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mmplane.config import Config
from mmplane.core.errors import RequestError
from mmplane.frontend.body.parts import AudioUrlPart, ImagePart
from mmplane.frontend.body.schema import ChatRequest, UserMessage
from mmplane.frontend.chat.preparation import Preparation
from mmplane.frontend.request.intake import Intake


def preparation(pictures_max: int) -> Preparation:
    config = Config(model="x", model_folder="", served_name="x")
    limits = {"context_tokens": 1, "vocabulary_tokens": 1, "pictures_max": pictures_max}
    return Preparation(config, cast("Intake", None), {}, names={"x"}, **limits)


def asked(*parts: Any) -> ChatRequest:
    return ChatRequest(model="x", messages=[UserMessage(list(parts))])


def test_more_pictures_than_the_model_takes_are_refused() -> None:
    picture, sound = ImagePart(uuid="x"), AudioUrlPart(uuid="y")
    for pictures_max in (0, 2):
        preparation(pictures_max)._check(asked(picture, picture, sound))
    preparation(1)._check(asked(picture, sound, sound))
    with pytest.raises(RequestError, match="at most 1 image") as refused:
        preparation(1)._check(asked(picture, picture))
    assert (refused.value.status, refused.value.code) == (422, "unsupported_by_model")
