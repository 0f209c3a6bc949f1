"""Each picture of a prompt becomes the tokens that its layout says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmplane.core.errors import RequestError
from mmplane.core.records import Layout, Modality, Recipe
from mmplane.frontend.chat.prompt import Marks, Prompt, expand

PLACEHOLDER, IMAGE, OPEN, CLOSE = 9, 7, 5, 6
CLIP_PLACEHOLDER, VIDEO = 19, 17
MARKS: dict[Modality, Marks] = {"image": Marks(PLACEHOLDER, IMAGE), "video": Marks(CLIP_PLACEHOLDER, VIDEO)}


def image(*runs: tuple[int, int]) -> Recipe:
    return Recipe("image", Layout((), runs, 1))


def clip(*runs: tuple[int, int]) -> Recipe:
    return Recipe("video", Layout((), runs, 1))


def expanded(ids: list[int], *recipes: Recipe) -> Prompt:
    prompt = expand(np.array(ids, dtype=np.int32), recipes, MARKS)
    assert prompt.length == len(prompt.ids)
    assert json.loads(prompt.json()) == prompt.ids.tolist()
    return prompt


def test_text_alone_stays_as_it_is() -> None:
    prompt = expanded([1, 2, 3])
    assert (prompt.ids.tolist(), prompt.placeholders, prompt.tokens_of("image")) == ([1, 2, 3], (), 0)


def test_a_placeholder_becomes_its_items_tokens() -> None:
    prompt = expanded([1, PLACEHOLDER, 2], image((IMAGE, 3)))
    assert prompt.ids.tolist() == [1, 7, 7, 7, 2]
    assert prompt.placeholders == (((1, 3),),)
    assert prompt.tokens_of("image") == 3


def test_tokens_around_and_between_the_rows_are_no_rows() -> None:
    prompt = expanded([1, PLACEHOLDER, 2], image((OPEN, 1), (IMAGE, 2), (CLOSE, 1), (IMAGE, 3), (CLOSE, 2)))
    assert prompt.ids.tolist() == [1, 5, 7, 7, 6, 7, 7, 7, 6, 6, 2]
    assert prompt.placeholders == (((2, 2), (5, 3)),)


def test_each_item_has_its_own_runs() -> None:
    prompt = expanded(
        [PLACEHOLDER, PLACEHOLDER, 1, PLACEHOLDER], image((IMAGE, 2)), image((IMAGE, 1)), image((IMAGE, 3))
    )
    assert prompt.ids.tolist() == [7, 7, 7, 1, 7, 7, 7]
    assert prompt.placeholders == (((0, 2),), ((2, 1),), ((4, 3),))


def test_the_placeholder_may_be_the_image_token_itself() -> None:
    prompt = expand(np.array([1, IMAGE, 2], dtype=np.int32), [image((IMAGE, 3))], {"image": Marks(IMAGE, IMAGE)})
    assert (prompt.ids.tolist(), prompt.placeholders) == ([1, 7, 7, 7, 2], (((1, 3),),))


@pytest.mark.parametrize("images", [0, 2, 3])
def test_another_number_of_placeholders_is_a_400(images: int) -> None:
    """A template that leaves pictures out, or writes them twice, must not be answered as if it had not."""
    with pytest.raises(RequestError) as refused:
        expanded([1, PLACEHOLDER, 2], *[image((IMAGE, 3))] * images)
    assert (refused.value.status, refused.value.code) == (400, "invalid_messages")


def test_ids_stay_32_bits_when_they_are_expanded() -> None:
    prompt = expanded([PLACEHOLDER], image((IMAGE, 3)))
    assert prompt.ids.dtype == np.int32
    assert prompt.ids.tobytes() == bytes([7, 0, 0, 0] * 3)


def test_items_of_two_kinds_each_in_its_place() -> None:
    ids = [1, CLIP_PLACEHOLDER, 2, PLACEHOLDER, CLIP_PLACEHOLDER]
    prompt = expanded(ids, clip((OPEN, 1), (VIDEO, 2)), image((IMAGE, 3)), clip((VIDEO, 4)))
    assert prompt.ids.tolist() == [1, OPEN, VIDEO, VIDEO, 2, IMAGE, IMAGE, IMAGE, VIDEO, VIDEO, VIDEO, VIDEO]
    assert prompt.placeholders == (((2, 2),), ((5, 3),), ((8, 4),))
    assert (prompt.tokens_of("image"), prompt.tokens_of("video"), prompt.tokens_of("audio")) == (3, 6, 0)


def test_a_picture_never_takes_the_place_of_a_clip() -> None:
    with pytest.raises(RequestError) as refused:
        expanded([CLIP_PLACEHOLDER, PLACEHOLDER], image((IMAGE, 3)), clip((VIDEO, 3)))
    assert (refused.value.status, refused.value.code) == (400, "invalid_messages")
