"""What stands in front of a server: pages of other sites, a proxy's prefix, several names, and one id for a request."""

from __future__ import annotations

from live import Live
from pictures import noise, part, text

ROUTES = ("/", "/health", "/ready", "/metrics", "/v1/models", "/v1/models/tiny", "/admin/delivery", "/admin/requests")


def test_get_routes_answer_head(server: Live) -> None:
    for route in ROUTES:
        answer = server.http.head(route)
        assert (answer.status_code, answer.content) == (200, b""), route
        assert answer.headers["content-type"] == server.http.get(route).headers["content-type"]


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


def test_a_request_has_one_name(server: Live) -> None:
    """Its client's: in the answer's header and id, its trace, its timeline and the log's line, which is complete."""
    content = [part(noise(97_001)), text("?")]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 3}
    body |= {"mmplane": {"trace": True, "ignore_eos": True}, "temperature": 0}
    answer = server.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "bench-7.a"})
    said = answer.json()
    assert answer.headers["x-request-id"] == "bench-7.a"
    assert said["id"] == "chatcmpl-bench-7.a"
    assert said["mmplane"]["trace"]["request_id"] == "bench-7.a"
    assert server.http.get("/admin/requests").json()["requests"][0]["id"] == "bench-7.a"
    server.settle()
    (line,) = [line for line in server.log if line.rstrip().endswith("[bench-7.a]")]
    tokens = f"prompt tokens {said['usage']['prompt_tokens']}, completion tokens 3"
    assert all(
        piece in line for piece in ("INFO POST /v1/chat/completions 200 in", "first token after", "items 1", tokens)
    )


def test_a_request_without_a_name_gets_one(server: Live) -> None:
    answers = [server.chat("Hi", max_tokens=1) for _ in range(2)]
    names = [answer.headers["x-request-id"] for answer in answers]
    assert [answer.json()["id"] for answer in answers] == [f"chatcmpl-{name}" for name in names]
    assert len(set(names)) == 2
