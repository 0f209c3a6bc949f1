"""The whole application without a socket: a proxy's prefix, several names, HEAD, open routes, one id for a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from frontend_client import Service, picture, question, serving
from transformers import PreTrainedTokenizerFast

from frontend_loop import in_loop
from mmplane.core.keyring import SALT_BYTES, Keyring, parse_keyring
from mmplane.frontend.app import build
from mmplane.frontend.http.endpoint import Endpoints
from mmplane.frontend.http.routes import Routes
from mmplane.frontend.server import Entrance
from mmplane.observe.exposition import Figures

KEYS = parse_keyring("operators-long-key\n", salt=bytes(SALT_BYTES))
GET_ROUTES = (
    "/",
    "/health",
    "/ping",
    "/version",
    "/v1/models",
    "/v1/models/small",
    "/admin/delivery",
    "/admin/statistics",
)


@asynccontextmanager
async def asking(service: Service, keyring: Keyring = Keyring()) -> AsyncIterator[httpx.AsyncClient]:  # noqa: B008
    """A client of the application around this service."""
    console = Routes(
        names=("tiny", "small"),
        context_tokens=100,
        readiness=service.readiness,
        dispatch=service.chat._dispatch,
        journal=service.journal,
        statistics=dict,
        figures=lambda: Figures({}, {}, {}),
    )
    entrance = Entrance(keyring, ("mm.test",), open_routes=("/ready",), root="/behind/a-proxy")
    app = build(Endpoints(service.endpoint, service.rendering, service.completing), console, entrance)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mm.test") as client:
        yield client


@in_loop
async def test_get_routes_answer_head(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service, asking(service) as client:
        for route in GET_ROUTES:
            head, whole = await client.head(route), await client.get(route)
            assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole.content))), route


@in_loop
async def test_a_proxy_may_strip_its_prefix_or_leave_it(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service, asking(service) as client:
        models = (await client.get("/v1/models")).json()
        assert (await client.get("/behind/a-proxy/v1/models")).json() == models
        assert (await client.get("/behind/v1/models")).status_code == 404
        described = {"object": "model", "created": 0, "owned_by": "mmplane", "root": "tiny", "max_model_len": 100}
        assert models["data"] == [{"id": name, **described} for name in ("tiny", "small")]
        assert (await client.get("/v1/models/small")).json()["id"] == "small"
        assert (await client.get("/v1/models/large")).json()["error"]["code"] == "model_not_found"


@in_loop
async def test_a_route_may_be_open_where_there_are_keys(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service, asking(service, KEYS) as client:
        service.readiness.media_served()
        assert (await client.get("/ready")).status_code == 200
        for path in ("/v1/models", "/metrics", "/behind/a-proxy/metrics"):
            assert (await client.get(path)).status_code == 401, path


@in_loop
async def test_a_request_has_one_name(tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    """Its client's: in the answer's header and id, its trace, its timeline and the log's line, which is complete."""
    caplog.set_level(logging.INFO)
    async with serving(tokenizer) as service, asking(service) as client:
        body = question(picture(), mmplane={"trace": True})
        named = {"x-request-id": "bench-7.a"}
        posting = asyncio.create_task(client.post("/v1/chat/completions", json=body, headers=named))
        await service.worker.serve_one()
        submit = await service.admitted()
        service.say(submit, "abc")
        answer = await posting
        assert (answer.status_code, answer.headers["x-request-id"]) == (200, "bench-7.a")
        assert answer.json()["id"] == "chatcmpl-bench-7.a"
        assert answer.json()["mmplane"]["trace"]["request_id"] == "bench-7.a"
        assert [each["id"] for each in (await client.get("/admin/requests")).json()["requests"]] == ["bench-7.a"]
        (line,) = [each.getMessage() for each in caplog.records if each.name == "mmplane"]
        for piece in ("POST /v1/chat/completions 200 in ", "first token after ", "items 1, ", "completion tokens 3"):
            assert piece in line
        assert f"prompt tokens {submit.prompt_tokens}" in line


@in_loop
async def test_a_request_without_a_name_gets_one(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service, asking(service) as client:
        names = []
        for given in ({}, {"x-request-id": "not plain!"}):
            body = {"model": "tiny", "prompt": "x"}
            posting = asyncio.create_task(client.post("/v1/completions", json=body, headers=given))
            service.say(await service.admitted(), "a")
            answer = await posting
            assert answer.json()["id"] == f"cmpl-{answer.headers['x-request-id']}"
            names.append(answer.headers["x-request-id"])
        assert len(set(names)) == 2
        assert all(len(name) == 16 for name in names)
