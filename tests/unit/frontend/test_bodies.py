"""Long bodies: laid down in a slot, taken apart by a parser, and given back whatever happens (R12, R14)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from blake3 import blake3
from frontend_client import Service, picture, question, serving
from frontend_rig import PlayedParser, Rig, renderer, rigged
from hypothesis import given, strategies
from transformers import PreTrainedTokenizerFast

from frontend_loop import HANG_S, in_loop, settle
from mmplane.arena.arena import Arena
from mmplane.core.control import Replace
from mmplane.core.errors import RequestError, bad_request
from mmplane.core.parsing import ParseFailed
from mmplane.core.records import Slot
from mmplane.frontend.body.schema import ChatRequest, parse
from mmplane.frontend.http import endpoint
from mmplane.frontend.request import bodies as bodies_module
from mmplane.frontend.request import parser as parser_module
from mmplane.frontend.request import parser_queue
from mmplane.frontend.request.parser import take_apart
from mmplane.frontend.request.parser_queue import ParserQueue
from mmplane.frontend.request.reading import Body, ParsedBody
from mmplane.frontend.request.renderer import Ids, Renderer
from mmplane.models.tiny import CHAT_TEMPLATE
from mmplane.waiting import lines

# Taking a body apart.

contents = strategies.binary(max_size=60)


def uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


@given(
    media=strategies.lists(strategies.one_of(contents, strategies.just(None)), max_size=6),
    escape=strategies.booleans(),
    text=strategies.text(max_size=20),
)
def test_each_item_lies_where_the_answer_says(media: list[bytes | None], escape: bool, text: str) -> None:
    urls = ["http://cat.test/" if content is None else uri(content) for content in media]
    raw = json.dumps(question(*urls, text=text, temperature=0.5, stop=["a"])).encode()
    if escape:
        raw = raw.replace(b"/", rb"\/")
    body = memoryview(bytearray(raw))
    rendered = take_apart(body, renderer())
    rest, places = rendered.rest, rendered.media
    held = [content for content in media if content is not None]
    assert [bytes(body[p.offset_bytes : p.offset_bytes + p.length_bytes]) for p in places] == held
    assert [place.digest for place in places] == [blake3(content).digest() for content in held]
    request, whole = parse(rest), parse(raw)
    numbers = iter(range(len(held)))
    expected = ["http://cat.test/" if content is None else f"parked:{next(numbers)}" for content in media]
    assert [json.loads(bytes(part.source or b"")) for part in request.media] == expected
    assert rendered.ids.tolist() == renderer().render(whole).tolist()
    assert request.text_characters == 0
    assert (request.temperature, request.stop, request.max_tokens) == (0.5, ["a"], 8)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff" * 100, 400),
        (json.dumps(question("data:image/png;base64,@")).encode(), 400),
        (json.dumps(question(surprise=1)).encode(), 400),
        (json.dumps(question(*["http://a/"] * 1025)).encode(), 400),
        (json.dumps(question(text="x" * 1_100_000)).encode(), 413),
        (json.dumps(question(text="x" * 10_001)).encode(), 400),
        (b'{"tools":' + b"[" * 1_000_000, 400),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_wrong_with_a_body(body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        take_apart(memoryview(bytearray(body)), renderer())
    assert refused.value.status == status
    assert len(refused.value.message) < 300


# At the front end.


@asynccontextmanager
async def parsing(tokenizer: PreTrainedTokenizerFast, **options: Any) -> AsyncIterator[tuple[Service, PlayedParser]]:
    """A service to which every body of more than a kilobyte is long."""
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(bodies_module, "room_bytes", lambda *_: 4096)
        limits.setattr(bodies_module, "INLINE_BYTES_MAX", 1000)
        async with serving(tokenizer, **options) as service:
            parser = PlayedParser(service.rig)
            await settle()
            try:
                yield service, parser
            finally:
                parser.die()


def long_question(*urls: str, **fields: Any) -> bytes:
    return json.dumps(question(*urls, **fields)).encode().ljust(3000)


@in_loop
async def test_a_long_body_is_answered_as_a_short_one(tokenizer: PreTrainedTokenizerFast) -> None:
    async with parsing(tokenizer) as (service, parser):
        short = service.call(question(picture(1), mmplane={"trace": True}))
        await service.worker.serve_one()
        service.say(await service.admitted(), "A cat.")
        await short.done()
        call = service.call(long_question(picture(1), mmplane={"trace": True}))
        await parser.parse_one()
        service.say(await service.admitted(), "A cat.")
        (item,) = (await call.done()).answer["mmplane"]["trace"]["items"]
        assert item["cache_hit"], "one key, however it came"
        assert item["content_key"] == short.answer["mmplane"]["trace"]["items"][0]["content_key"]
        call = service.call(long_question(picture(1), picture(2)))
        await parser.parse_one()
        job = await service.worker.hear()
        assert service.worker.media_of(job) == base64.b64decode(picture(2).partition(",")[2])
        service.worker.done(job)
        service.say(await service.admitted(), "A cat.")
        assert (await call.done()).status == 200


@in_loop
async def test_an_item_that_others_wait_for_outlives_its_body(tokenizer: PreTrainedTokenizerFast) -> None:
    async with parsing(tokenizer) as (service, parser):
        first = service.call(long_question(picture(3)))
        await parser.parse_one()
        job = await service.worker.hear()
        second = service.call(question(picture(3)))
        await settle()
        await first.leave()
        assert service.worker.media_of(job) == base64.b64decode(picture(3).partition(",")[2])
        service.worker.done(job)
        service.say(await service.admitted(), "x")
        assert (await second.done()).status == 200


@in_loop
async def test_what_the_parser_refuses(tokenizer: PreTrainedTokenizerFast) -> None:
    async with parsing(tokenizer) as (service, parser):
        call = service.call(long_question("data:image/png;base64,@@"))
        await parser.parse_one()
        assert (await call.done()).status == 400
        call = service.call(b" " * 3000)
        await parser.parse_one()
        assert (await call.done()).error["code"] == "invalid_json"


@in_loop
async def test_a_parser_that_dies_costs_its_requests_and_nothing_else(tokenizer: PreTrainedTokenizerFast) -> None:
    async with parsing(tokenizer) as (service, parser):
        calls = [service.call(long_question(picture())) for _ in range(2)]
        await parser.hear()
        parser.die()
        assert (await calls[0].done()).status == 503
        await calls[1].leave()
        with pytest.MonkeyPatch.context() as limits:
            limits.setattr(lines, "STALLED_SECONDS", 0.01)
            assert (await service.call(long_question(picture())).done()).status == 503, "there is none"
        after = PlayedParser(service.rig, incarnation=2)
        await settle()
        call = service.call(long_question(picture()))
        await after.parse_one()
        await service.worker.serve_one()
        service.say(await service.admitted(), "x")
        assert (await call.done()).status == 200
        after.die()


@in_loop
async def test_a_client_that_leaves_while_its_body_is_parsed(tokenizer: PreTrainedTokenizerFast) -> None:
    """The parser still writes there: the bytes are nobody else's until it has answered."""
    async with parsing(tokenizer) as (service, parser):
        call = service.call(long_question(picture()))
        await settle()
        await call.leave()
        assert service.rig.arena.statistics().leases == 1
        await parser.parse_one()
        await settle()
        assert service.rig.arena.statistics().leases == 0


@in_loop
async def test_a_client_that_leaves_while_its_body_comes(tokenizer: PreTrainedTokenizerFast) -> None:
    async with parsing(tokenizer) as (service, _):
        call = service.call(long_question(picture()), whole=False)
        await settle()
        assert service.rig.arena.statistics().leases == 1
        await call.leave()
        assert service.rig.arena.statistics().leases == 0


@in_loop
async def test_an_arena_without_room_for_a_body(tokenizer: PreTrainedTokenizerFast) -> None:
    async with parsing(tokenizer, front_bytes=4 * 4096) as (service, parser):
        first, second, third = (service.call(long_question(picture())) for _ in range(3))
        assert (await third.done()).status == 503
        for _ in range(2):
            await parser.parse_one()
        await service.worker.serve_one()
        for call in (first, second):
            service.say(await service.admitted(), "x")
            assert (await call.done()).status == 200


@in_loop
async def test_parked_is_no_address_for_a_client(tokenizer: PreTrainedTokenizerFast) -> None:
    async with parsing(tokenizer) as (service, parser):
        call = await service.call(question("parked:0")).done()
        assert (call.status, call.error["code"]) == (400, "invalid_url")
        call = service.call(long_question("parked:7", "parked:-1", picture()))
        await parser.parse_one()
        assert (await call.done()).status == 400


@pytest.mark.parametrize("declared_bytes", [10, 10**9])
@in_loop
async def test_more_than_was_declared_is_refused(declared_bytes: int) -> None:
    """Or than the server takes, whatever was declared."""
    async with rigged(front_bytes=102_400) as rig:

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": bytes(min(declared_bytes, 102_400) + 1), "more_body": False}

        with pytest.raises(RequestError) as refused:
            (await rig.bodies.read(receive, declared_bytes)).release()
        assert refused.value.status == 413


CHUNKED = {"transfer-encoding": "chunked"}


@in_loop
async def test_a_body_of_unknown_length_reserves_what_has_come(tokenizer: PreTrainedTokenizerFast) -> None:
    """And goes on in a larger slot when it outgrows the one that it is in."""
    async with parsing(tokenizer) as (service, parser):
        with pytest.MonkeyPatch.context() as limits:
            limits.setattr(endpoint, "FIRST_BYTES", 600)
            body = long_question(picture(1))
            calls = [service.call(body[:700], headers=CHUNKED, whole=False) for _ in range(4)]
            await settle()
            assert service.budget.statistics().reserved_bytes == 4 * endpoint.BODY_FACTOR * 600
            for call in calls:
                await call.leave()
            call = service.call(body, headers=CHUNKED)
            await parser.parse_one()
            await service.worker.serve_one()
            assert service.budget.statistics().peak_bytes < 4 * endpoint.BODY_FACTOR * len(body)
            service.say(await service.admitted(), "A cat.")
            assert (await call.done()).status == 200


@in_loop
async def test_a_body_of_unknown_length_ends_at_the_limit(tokenizer: PreTrainedTokenizerFast) -> None:
    async with parsing(tokenizer) as (service, _):
        call = service.call(bytes(2_000_000), headers=CHUNKED)
        assert (await call.done()).status == 413


# What is done on the loop, and what in the parser.


class CountingRenderer(Renderer):
    """Knows how many characters it has rendered."""

    def __init__(self, like: Renderer) -> None:
        super().__init__(like.tokenizer, CHAT_TEMPLATE, like.context_tokens)
        self.characters = 0

    def render(self, request: ChatRequest) -> Ids:
        self.characters += request.text_characters
        return super().render(request)


TEXT = {"type": "text", "text": "x"}


@pytest.mark.parametrize(
    ("fields", "here"),
    [
        ({"text": "x" * 1024}, True),
        ({"text": "x" * 1025}, False),
        ({"messages": [{"role": "user", "content": "x"}] * 16}, True),
        ({"messages": [{"role": "user", "content": "x"}] * 17}, False),
        ({"messages": [{"role": "user", "content": [TEXT] * 16}]}, False),
        ({"metadata": {"x": '"' * 400}}, True),
        ({"metadata": {"x": '"' * 500}}, False),
    ],
    ids=lambda value: str(value)[:30],
)
@in_loop
async def test_only_short_prompts_are_rendered_on_the_loop(
    fields: dict[str, Any], here: bool, tokenizer: PreTrainedTokenizerFast
) -> None:
    async with serving(tokenizer) as service:
        service.rig.bodies._renderer = on_loop = CountingRenderer(service.rig.renderer)
        parser = await service.rig.parser()
        call = service.call(question(**fields))
        if not here:
            await parser.parse_one()
        submit = await service.admitted()
        assert submit.prompt_tokens > 10
        service.say(submit, "x")
        assert (await call.done()).status == 200
        assert service.rig.bodies.parser.parsed == (0 if here else 1)
        assert on_loop.characters <= (1024 if here else 0)


@in_loop
async def test_text_that_cannot_fit_is_refused_without_the_parser(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        service.rig.bodies._renderer = on_loop = CountingRenderer(service.rig.renderer)
        parser = await service.rig.parser()
        call = await service.call(question(text="x" * 10_001)).done()
        assert (call.status, call.error["code"]) == (400, "context_length_exceeded")
        assert (await parser.hear_all(), on_loop.characters) == ([], 0)


@pytest.mark.parametrize("size", [{"text": "x" * 5000}, {"urls": 1}], ids=["tokens", "an address"])
@in_loop
async def test_what_is_left_of_a_body_has_to_fit(size: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(bodies_module, "room_bytes", lambda *_: 2**16 if "urls" in size else 0)
        limits.setattr(parser_module, "REST_BYTES_MAX", 2000)
        async with serving(tokenizer) as service:
            parser = await service.rig.parser()
            urls = ["http://cat.test/" + "x" * 2000] if "urls" in size else []
            call = service.call(question(*urls, text=size.get("text", "x" * 1025)))
            await parser.parse_one()
            assert (await call.done()).status == 413


@in_loop
async def test_a_template_without_memory_is_not_the_clients_fault(tokenizer: PreTrainedTokenizerFast) -> None:
    def render(*_: Any, **__: Any) -> None:
        raise MemoryError

    async with serving(tokenizer) as service:
        parser = await service.rig.parser()
        with pytest.MonkeyPatch.context() as memory:
            memory.setattr(type(tokenizer), "apply_chat_template", render)
            call = service.call(question(text="x" * 1025))
            await parser.parse_one()
            assert (await call.done()).status == 413
            assert (await service.call(question()).done()).status == 503


@in_loop
async def test_a_tenants_bodies_leave_room_in_the_region_to_another() -> None:
    async with rigged(front_bytes=16 * 2**20, tenants=2) as rig:

        async def read(tenant: str, length_bytes: int) -> Body:
            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": bytes(length_bytes)}

            return await rig.bodies.read(receive, length_bytes, tenant=tenant)

        with await read("greedy", 2 * 2**20):
            for length_bytes, status in ((7 * 2**20, 503), (8 * 2**20, 413)):
                with pytest.raises(RequestError) as refused:
                    await read("greedy", length_bytes)
                assert refused.value.status == status
            with await read("other", 4 * 2**20):
                pass


# Turns and deadlines at the parser.


async def asking(rig: Rig, tenant: str = "") -> asyncio.Task[ParsedBody]:
    """A body of this tenant's on its way to the parser."""
    content = json.dumps(question(text="x" * 1025)).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content}

    async def parse_it() -> ParsedBody:
        with await rig.bodies.read(receive, len(content), tenant=tenant) as body:
            return await rig.bodies.parse(body)

    task = asyncio.create_task(parse_it())
    await settle()
    return task


@in_loop
async def test_tenants_take_turns_at_the_parser() -> None:
    """However many bodies one has there, another's waits for one of them."""
    async with rigged() as rig:
        parser = await rig.parser()
        many = [await asking(rig, "alice") for _ in range(5)]
        one = await asking(rig, "bob")
        assert len(await parser.hear_all()) == 1, "one job at a time"
        parser.say(ParseFailed(1, bad_request("x", "x").failure()))
        await parser.parse_one()
        assert (await one).request.model == "tiny"
        for _ in range(4):
            await parser.parse_one()
        outcomes = await asyncio.gather(*many, return_exceptions=True)
        assert [isinstance(outcome, RequestError) for outcome in outcomes] == [True] + [False] * 4


@in_loop
async def test_a_burst_of_one_tenant_waits_its_turn() -> None:
    """100 requests at once, while the parser is busy with none of them yet."""
    queue = ParserQueue(Arena([4096]), lambda _: None)
    begun = [asyncio.create_task(queue.ask(lambda: Slot(0, 0, 64, 1), 64, "tenant")) for _ in range(100)]
    await settle()
    assert not any(each.done() for each in begun)
    for each in begun:
        each.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


@in_loop
async def test_a_job_that_takes_too_long_costs_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own request fails; what waits goes to the next parser."""
    monkeypatch.setattr(parser_queue, "JOB_SECONDS", 0.0)
    async with rigged() as rig:
        parser = await rig.parser(incarnation=7)
        slow, other = await asking(rig), await asking(rig)
        await parser.hear()
        await settle()
        assert rig.told == [Replace(0, 7)]
        parser.die()
        with pytest.raises(RequestError) as refused:
            await slow
        assert refused.value.status == 503
        monkeypatch.setattr(parser_queue, "JOB_SECONDS", HANG_S)
        after = await rig.parser(incarnation=8)
        await after.parse_one()
        assert (await other).request.model == "tiny"
        assert rig.told == [Replace(0, 7)]


@in_loop
async def test_a_deadline_ends_with_its_job() -> None:
    async with rigged() as rig:
        parser = await rig.parser()
        asked = await asking(rig)
        job = rig.bodies.parser._job
        await parser.parse_one()
        await asked
        assert job is not None
        assert job.overdue.cancelled()


@in_loop
async def test_a_client_that_leaves_while_it_waits_for_the_parser() -> None:
    async with rigged() as rig:
        parser = await rig.parser()
        first, gone, last = [await asking(rig) for _ in range(3)]
        gone.cancel()
        await settle()
        for _ in range(2):
            await parser.parse_one()
        await asyncio.gather(first, last)
        assert await parser.hear_all() == []
