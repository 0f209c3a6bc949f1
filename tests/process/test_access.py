"""API keys in a real server: every route is shut without one, tenants do not meet, no key is to be found anywhere."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest
from live import Live, serving
from pictures import part, photograph, text

from memory import copies
from mmplane.process.priority import BEHIND, NICEST
from polling import until

OPERATOR, ALICE, BOB = (f"sk-{secrets.token_hex(16)}" for _ in range(3))
PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23
ROUTES = [
    *("/", "/v1/models", "/v1/models/tiny", "/v1/chat/completions", "/ready", "/metrics", "//metrics", "/metrics/"),
    *("/admin/delivery", "/admin/statistics", "/x"),
]


def as_an_ordinary_user_with_nice() -> None:
    """Started with `nice -n 10`, and not allowed to take that back."""
    os.nice(10)
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)


@pytest.fixture(scope="module")
def guarded(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with a file of keys and one more in the environment, which says all that it can say."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# ours\n{OPERATOR}\nalice:{ALICE}\n")
    flags = ("--api-key-file", str(keys), "--log-level", "debug", "--log-format", "json", "--running-max", "2")
    flags += ("--queue-max", "2", "--host", "0.0.0.0")
    injected = {"MMPLANE_PORT": "tcp://10.0.0.11:8000", "MMPLANE_SERVICE_HOST": "10.0.0.11"}  # hazard R24
    env = {"MMPLANE_API_KEYS": f"bob:{BOB}", **injected}
    with serving(tiny_folder, *flags, env=env, limits=as_an_ordinary_user_with_nice) as live:
        warnings = [line for line in live.log if '"level":"warning"' in line and "MMPLANE_PORT" in line]
        assert len(warnings) == 1, live.log
        live.http.headers["authorization"] = f"Bearer {OPERATOR}"
        yield live


def client(live: Live, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0)


def ask(live: Live, key: str, content: object, **fields: object) -> httpx.Response:
    body = {"model": "tiny", "max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    with httpx.Client(base_url=live.url, timeout=60) as http:
        headers = {"authorization": f"Bearer {key}"}
        return http.post("/v1/chat/completions", json=body | {"mmplane": {"trace": True}} | fields, headers=headers)


def test_openais_client(guarded: Live) -> None:
    for key in (OPERATOR, ALICE, BOB):
        assert [model.id for model in client(guarded, key).models.list()] == ["tiny"]
        assert client(guarded, key).models.retrieve("tiny").id == "tiny"
        messages = [{"role": "user", "content": [part(photograph("china")), text("?")]}]
        answer = client(guarded, key).chat.completions.create(
            model="tiny",
            messages=messages,  # type: ignore[arg-type]
            max_tokens=4,
        )
        assert answer.choices[0].finish_reason
        assert answer._request_id
    for key in ("wrong", ALICE[:-1], ALICE + "x", f"alice:{ALICE}"):
        with pytest.raises(openai.AuthenticationError) as refused:
            client(guarded, key).models.list()
        assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize("path", ROUTES)
def test_nothing_without_a_key(path: str, guarded: Live) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        answer = httpx.request(method, guarded.url + path)
        assert answer.status_code == 401, (method, path)
        assert answer.headers.get_list("www-authenticate") == ['Bearer realm="mmplane"', 'Basic realm="mmplane"']
        if method != "HEAD":
            assert answer.json()["error"]["code"] == "missing_api_key"
    assert httpx.get(guarded.url + "/health").status_code == 200


def test_a_tenant_sees_nothing_of_the_others(guarded: Live) -> None:
    for path in ("/metrics", "//metrics", "/metrics/", "/admin/statistics", "/admin/delivery", "/"):
        assert httpx.get(guarded.url + path, headers={"authorization": f"Bearer {ALICE}"}).status_code == 403
        shown = httpx.get(guarded.url + path, auth=("anybody", OPERATOR)).status_code
        assert shown in (200, 404)


def test_media_goes_behind_the_ranks_whatever_the_niceness(guarded: Live) -> None:
    nice = {title: process.nice() for title, process in guarded.processes().items()}
    started = min(os.nice(0) + 10, NICEST)
    assert {nice[title] for title in ("supervisor", "frontend", "rank 0/2", "rank 1/2")} == {started}
    assert {nice[title] for title in ("parser", "worker 1", "worker 2")} == {min(started + BEHIND, NICEST)}


def items(answer: httpx.Response) -> tuple[str, bool]:
    (item,) = answer.raise_for_status().json()["mmplane"]["trace"]["items"]
    return item["content_key"], item["cache_hit"]


def test_tenants_do_not_share_items_or_names(guarded: Live) -> None:
    picture = [part(photograph("flower")) | {"uuid": "flower"}, text("?")]
    name = [{"type": "image_url", "image_url": None, "uuid": "flower"}, text("?")]
    found = {}
    for key in (ALICE, BOB, OPERATOR):
        before = ask(guarded, key, name)
        assert (before.status_code, before.json()["error"]["code"]) == (404, "media_not_held")
        found[key], hit = items(ask(guarded, key, picture))
        assert not hit, "what another tenant sent is a miss"
        assert items(ask(guarded, key, picture)) == (found[key], True)
        assert items(ask(guarded, key, name)) == (found[key], True)
    assert len(set(found.values())) == 3


def test_a_tenant_cannot_take_all_places(guarded: Live) -> None:
    """Four requests fit in flight, so two of one tenant's."""
    endless = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    endless |= {"max_tokens": 5000, "mmplane": {"ignore_eos": True}}
    with ExitStack() as stack:
        for _ in range(2):
            headers = {"authorization": f"Bearer {ALICE}"}
            url = f"{guarded.url}/v1/chat/completions"
            answer = stack.enter_context(httpx.stream("POST", url, json=endless, headers=headers, timeout=60))
            assert answer.status_code == 200
        assert guarded.statistics()["shares"]["most"] == 2
        refused = ask(guarded, ALICE, "Hi")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
        assert refused.headers["retry-after"] == "1"
        assert ask(guarded, BOB, "Hi").status_code == 200
    until(lambda: guarded.statistics()["shares"]["tenants"] == 0, 60, "nothing is held")


def test_no_key_is_to_be_found_anywhere(guarded: Live) -> None:
    answers = [
        ask(guarded, ALICE, "Hi"),
        ask(guarded, f"{BOB}x", "Hi"),
        ask(guarded, ALICE, [{"type": "image_url", "image_url": {"url": "data:,"}}]),
        guarded.http.get("/metrics"),
        guarded.http.get("/admin/statistics"),
    ]
    until(lambda: any('"request_id"' in line for line in guarded.log), 60, "requests are in the log")
    places = {f"answer {index}": answer.text + str(answer.headers) for index, answer in enumerate(answers)}
    places["log"] = "".join(guarded.log)
    for title, process in guarded.processes().items():
        places[f"{title}'s arguments"] = " ".join(process.cmdline())
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace")
        places[f"{title}'s environment"] = environment
    keys = [key.encode() for key in (OPERATOR, ALICE, BOB)]
    for title in ("supervisor", "nursery", "parser", "worker 1", "rank 0/2"):  # the front end is sent them
        assert copies(guarded.processes()[title].pid, *keys) == 0, f"the memory of {title}"
    for place, content in places.items():
        for key in (OPERATOR, ALICE, BOB):
            assert key not in content, place
            assert base64.b64encode(key.encode()).decode() not in content, place


def test_the_log_has_a_line_for_each_request_under_its_own_name(guarded: Live) -> None:
    answer = ask(guarded, ALICE, [part(photograph("china")), text("?")])
    usage = answer.json()["usage"]
    counts = f"items 1, prompt tokens {usage['prompt_tokens']}, completion tokens {usage['completion_tokens']}"

    def line() -> dict[str, object] | None:
        seen = (json.loads(each) for each in guarded.log if answer.headers["x-request-id"] in each)
        return next((each for each in seen if each["message"].endswith(counts)), None)

    found = until(line, 60, "the line is read")
    assert (found["level"], found["request_id"]) == ("info", answer.headers["x-request-id"])
    assert found["message"].startswith("POST /v1/chat/completions 200 in ")
    refused = ask(guarded, ALICE, "Hi", n=0).headers["x-request-id"]
    until(lambda: any(refused in each and " 400 in " in each for each in guarded.log), 30, "so has a refusal")


def test_every_line_of_the_log_is_an_object(guarded: Live) -> None:
    ask(guarded, ALICE, "Hi")
    said = guarded.log
    seen = [json.loads(line) for line in said if line.startswith("{")]
    assert {each["process"] for each in seen} >= {"supervisor", "frontend"}
    strays = [line for line in said if not line.startswith("{") and "mmplane" in line and "INFO" in line]
    assert not strays
