"""What goes wrong with one request is that request's, and a full arena is no error at all."""

from __future__ import annotations

from PIL import Image
from sglang_alone import Alone
from sglang_live import ARENA_BYTES, SGLang, part, text
from sglang_work import CHINA, FAULTY, GOOD

from polling import until

LIMIT_S = 60.0


def test_an_exception_while_inputs_are_built_is_that_requests_500(server: SGLang) -> None:
    expected = server.answers(GOOD)
    for _ in range(2):
        failed = server.chat(FAULTY)
        assert failed.status_code == 500
        assert "injected" not in failed.text
        assert server.answers(GOOD) == expected
    assert not server.has_ended()


def test_sglang_alone_ends(alone: Alone) -> None:
    assert alone.ended


def test_what_does_not_fit_goes_by_sglangs_own_way(server: SGLang) -> None:
    inline = server.figures().get("features_passed_over.full", 0)
    size = (1288, 966)
    assert (size[0] // 14) * (size[1] // 14) * 1176 * 4 > ARENA_BYTES
    large = part(CHINA.resize(size))
    for at in (2, 3):
        assert server.answers([large, text("Small and"), part(Image.new("RGB", (56 * at, 84)))])
    until(lambda: server.figures()["features_passed_over.full"] == inline + 2, LIMIT_S, "both were counted")
    assert server.segments() == []
    assert server.answers(GOOD)
