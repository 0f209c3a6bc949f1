"""What shares KV cache: equal images do; white ones of different shapes, which SGLang alone takes for one, do not."""

from __future__ import annotations

from sglang_alone import Alone
from sglang_live import SGLang
from sglang_work import shared_by_white_images

TEMPLATE_TOKENS_MAX = 12
"""Before the picture all prompts are alike."""


def test_white_images_of_other_shapes_share_nothing(server: SGLang) -> None:
    assert all(count < TEMPLATE_TOKENS_MAX for count in shared_by_white_images(server))
    assert all(count > 200 for count in shared_by_white_images(server)), "identical images still do"


def test_sglang_alone_takes_them_for_one_image(alone: Alone) -> None:
    assert alone.shared[0] < TEMPLATE_TOKENS_MAX
    assert all(count > 200 for count in alone.shared[1:])
