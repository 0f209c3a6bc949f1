"""What stands in front of a server: a proxy's prefix, several names, pages of other sites."""

from __future__ import annotations

from live import Live


def test_a_proxy_may_strip_its_prefix_or_leave_it(server: Live) -> None:
    models = server.http.get("/v1/models").json()
    assert server.http.get("/behind/a-proxy/v1/models").json() == models
    assert server.http.get("/behind/v1/models").status_code == 404


def test_the_model_has_several_names(server: Live) -> None:
    models = server.http.get("/v1/models").json()["data"]
    assert [(model["id"], model["root"], model["max_model_len"]) for model in models] == [
        ("tiny", "tiny", 8192),
        ("small", "tiny", 8192),
    ]
    answers = [server.chat("Hi", model=name, max_tokens=4).json() for name in ("tiny", "small")]
    assert [answer["model"] for answer in answers] == ["tiny", "small"]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert server.chat("Hi", model="large").json()["error"]["code"] == "model_not_found"


def test_a_page_that_may_ask(server: Live) -> None:
    """A browser asks first, then sends; a real one does in tests/browser."""
    origin = {"origin": "https://chat.test"}
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    allowed = server.http.options("/v1/chat/completions", headers=origin | asked)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (204, origin["origin"])
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    answer = server.http.post("/v1/chat/completions", json=body, headers=origin)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin["origin"])
    for path, site in (("/v1/chat/completions", "https://evil.test"), ("/metrics", "https://chat.test")):
        assert server.http.options(path, headers=asked | {"origin": site}).json()["error"]["code"] == "origin_forbidden"
