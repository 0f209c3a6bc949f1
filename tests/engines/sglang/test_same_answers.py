"""The same tokens with the plugin and without; with it, through the arena."""

from __future__ import annotations

from PIL import Image
from sglang_alone import Alone
from sglang_live import SGLang, maps_an_arena, part, text
from sglang_work import CHINA, REQUESTS, answers

from mmplane.engines.kit import doctor
from polling import until

LIMIT_S = 60.0


def test_answers_are_the_same(alone: Alone, server: SGLang) -> None:
    given = answers(server)
    assert len(given) == REQUESTS
    assert given == alone.answers
    assert len({texts[0] for _, texts in given}) > REQUESTS // 3, "the answers depend on the pictures"


def test_the_features_went_through_the_arena(server: SGLang, tp: int) -> None:
    assert server.log().count("mmplane: on: ") == 1
    before = server.figures()
    asked = [part(CHINA.crop((300, 100, 500, 290))), part(Image.new("RGB", (112, 112))), text("New.")]
    server.answers(asked)
    server.answers(asked)
    wanted = (before.get("arena_misses", 0) + 2, before.get("arena_hits", 0) + 2)
    until(lambda: (server.figures()["arena_misses"], server.figures()["arena_hits"]) == wanted, LIMIT_S, "both counted")
    assert len(server.ranks()) == tp
    assert all(map(maps_an_arena, server.ranks()))


def test_the_doctor_sees_features_in_the_arena(server: SGLang) -> None:
    server.answers([part(CHINA.crop((10, 10, 210, 200))), text("What is this?")])

    def findings() -> list[tuple[str, str | None]]:
        return list(doctor.findings({}, str(server.http.base_url), metrics=""))

    ((subject, _),) = until(lambda: [one for one in findings() if one[1] is None], LIMIT_S, "nothing is wrong")
    assert "through the arena" in subject
