"""A chat request from body to answer, and that nothing is left of it when it fails or its client leaves (R14)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from frontend_client import BUDGET_BYTES, Call, Service, picture, question, serving
from frontend_rig import layout_of
from transformers import PreTrainedTokenizerFast

from frontend_loop import in_loop, settle
from mmplane.core.errors import bad_media, internal, unavailable
from mmplane.core.jobs import Measure, Measured
from mmplane.core.plan import Abort
from mmplane.core.records import PROMPT_INLINE_BYTES_MAX
from mmplane.frontend.chat.readiness import Readiness
from mmplane.waiting import lines


async def answered(service: Service, call: Call, text: str = "A cat.") -> Call:
    """Have the worker and the ranks serve one request with one new picture."""
    await service.worker.serve_one()
    service.say(await service.admitted(), text)
    return await call.done()


# Answers.


@in_loop
async def test_a_picture_and_its_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = service.call(question(picture(), temperature=0, seed=5, mmplane={"trace": True}))
        job = await service.worker.serve_one()
        submit = await service.admitted()
        service.say(submit, "A cat.")
        await call.done()
        assert call.status == 200
        (choice,) = call.answer["choices"]
        assert choice["message"] == {"role": "assistant", "content": "A cat.", "refusal": None}
        assert choice["finish_reason"] == "length"
        assert submit.items[0].slot == job.out
        assert submit.prompt_tokens * 4 == len(submit.prompt)
        ((start, length),) = submit.placeholders[0]
        ids = [submit.prompt[4 * at] + 256 * submit.prompt[4 * at + 1] for at in range(submit.prompt_tokens)]
        assert ids[start : start + length] == [268] * 4
        assert call.answer["usage"] == {
            "prompt_tokens": submit.prompt_tokens,
            "completion_tokens": 6,
            "total_tokens": submit.prompt_tokens + 6,
            "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 4, "video_tokens": 0, "audio_tokens": 0},
        }
        (item,) = call.answer["mmplane"]["trace"]["items"]
        assert (item["cache_hit"], item["bytes"]) == (False, 200)
        assert item["digests"] == {"0": b"rank 0".hex(), "1": b"rank 1".hex()}
        assert (submit.sampling.tokens_max, submit.sampling.temperature, submit.sampling.seed) == (8, 0, 5)


@in_loop
async def test_the_same_picture_again_needs_no_worker(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        await answered(service, service.call(question(picture())))
        again = service.call(question(picture(), mmplane={"trace": True}))
        service.say(await service.admitted(), "A cat.")
        assert (await again.done()).answer["mmplane"]["trace"]["items"][0]["cache_hit"]


@in_loop
async def test_text_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = service.call({"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]})
        submit = await service.admitted()
        assert (submit.items, submit.placeholders) == ((), ())
        service.say(submit, "Hi")
        assert (await call.done()).answer["choices"][0]["message"]["content"] == "Hi"


@in_loop
async def test_samples_and_stop_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = service.call(question(n=2, stop="STOP"))
        submit = await service.admitted()
        service.leader.tell(submit, *((0, ord(letter) - 33, None) for letter in "aSTO"))
        await settle()
        service.say(submit, "bSTOx", sample=1)
        service.leader.tell(submit, (0, ord("P") - 33, None), (0, ord("!") - 33, None))
        choices = (await call.done()).answer["choices"]
        assert [choice["message"]["content"] for choice in choices] == ["a", "bSTOx"]
        assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]
        assert await service.leader.hear_all() == [Abort(submit.request_id, 0)]


@in_loop
async def test_a_stream(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = service.call(question(picture(), stream=True, stream_options={"include_usage": True}))
        await answered(service, call, "A €")
        assert (call.status, call.headers[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
        *events, usage, end = call.events
        assert end == "[DONE]"
        assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 5)
        deltas = [event["choices"][0]["delta"] for event in events]
        assert deltas[0] == {"role": "assistant", "content": ""}
        assert "".join(delta.get("content", "") for delta in deltas) == "A €"
        assert [event["choices"][0]["finish_reason"] for event in events] == [None] * (len(events) - 1) + ["length"]
        assert len({event["id"] for event in events}) == 1


@in_loop
async def test_a_long_prompt_travels_in_a_slot(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = service.call(question(text="x" * PROMPT_INLINE_BYTES_MAX, max_tokens=1))
        assert (await call.done()).status == 400, "longer than the model's context"
        text = "x" * (PROMPT_INLINE_BYTES_MAX // 4)
        parser = await service.rig.parser()
        call = service.call(question(text=text))
        await parser.parse_one()
        submit = await service.leader.hear()
        assert (submit.prompt, submit.prompt_tokens > len(text)) == (b"", True)
        slot = submit.prompt_slot
        content = service.rig.media.view(slot.offset_bytes, slot.length_bytes)
        assert bytes(content) == b"".join(
            token.to_bytes(4, "little") for token in tokenizer.encode(rendered(text), add_special_tokens=False)
        )
        service.leader.admit(submit)
        service.say(submit, "x")
        assert (await call.done()).status == 200


def rendered(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


# Refusals: each before any dearer work is done.


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (question(surprise=1), 400, "unsupported_parameter"),
        (question() | {"model": "gpt-4"}, 404, "model_not_found"),
        (question(*[picture()] * 4), 400, "too_many_images"),
        (question("https://example.com/cat.png"), 400, "host_not_allowed"),
        (question("data:image/png;base64,AAAA"), 400, "invalid_media"),
        (question("data:image/png,AAAA"), 400, "invalid_media"),
        (question(picture(width=2000, height=600)), 400, "invalid_media"),
        (question(max_tokens=10_000), 400, "context_length_exceeded"),
        (question(text="x" * 10_001), 400, "context_length_exceeded"),
        (b" " * (BUDGET_BYTES // 4 + 1), 413, "too_large"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, int | str) else "",
)
@in_loop
async def test_what_is_refused_reaches_nobody(
    tokenizer: PreTrainedTokenizerFast, body: Any, status: int, code: str
) -> None:
    async with serving(tokenizer) as service:
        call = await service.call(body).done()
        assert (call.status, call.error["code"]) == (status, code)
        assert call.error["type"] == "invalid_request_error"
        assert len(call.content) < 500
        assert (await service.worker.hear_all(), await service.leader.hear_all()) == ([], [])
        assert service.counters.statuses == {status: 1}


@in_loop
async def test_media_that_a_worker_cannot_decode(tokenizer: PreTrainedTokenizerFast) -> None:
    """One of three: the others are given up, and what they brought stays for the next."""
    async with serving(tokenizer) as service:
        call = service.call(question(*(picture(seed) for seed in range(3))))
        await service.worker.serve_one()
        service.worker.failed(await service.worker.hear(), bad_media("the image cannot be decoded"))
        await call.done()
        assert (call.status, call.error["message"]) == (400, "the image cannot be decoded")
        await service.worker.serve_one()
        assert await service.leader.hear_all() == []


@in_loop
async def test_a_worker_that_dies(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = service.call(question(picture()))
        await service.worker.hear()
        service.worker.die()
        await call.done()
        assert (call.status, call.headers[b"retry-after"]) == (503, b"1")


@in_loop
async def test_a_rank_that_fails_and_a_group_that_dies(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        failed, lost = (service.call(question(text=text)) for text in ("one", "other"))
        service.leader.fail(await service.leader.hear(), internal("out of memory"))
        assert ((await failed.done()).status, failed.error["message"]) == (500, "out of memory")
        await service.admitted()
        service.leader.die()
        assert ((await lost.done()).status, lost.error["code"]) == (503, "unavailable")
        refused = await service.call(question()).done()
        assert (refused.status, refused.headers[b"retry-after"]) == (503, b"1")


@in_loop
async def test_a_stream_that_fails_in_the_middle_says_so(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = service.call(question(stream=True))
        submit = await service.admitted()
        service.leader.tell(submit, (0, 65, None))
        await settle()
        service.leader.die()
        await call.done()
        assert call.status == 200
        assert call.events[-1]["error"]["code"] == "unavailable"


@in_loop
async def test_bodies_are_admitted_by_bytes(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        bodies = [json.dumps(question(picture(seed))).encode().ljust(BUDGET_BYTES // 5) for seed in range(3)]
        with pytest.MonkeyPatch.context() as limits:
            limits.setattr(lines, "STALLED_SECONDS", 0.0)
            calls = [service.call(body) for body in bodies]
            await settle()
            assert [call.status for call in calls] == [None, None, 503], "twice its length each: two fit"
        calls[2] = service.call(bodies[2], headers={})
        for call in calls:
            await service.worker.serve_one()
            service.say(await service.admitted(), "x")
            assert (await call.done()).status == 200


@in_loop
async def test_a_server_that_shuts_down_takes_nothing_new(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        running = service.call(question())
        submit = await service.admitted()
        service.readiness.draining = True
        assert (await service.call(question()).done()).status == 503
        service.say(submit, "x")
        assert (await running.done()).status == 200


# Clients who leave. Each stage brings a request to where it stands, and says what happens there after the client left.

Ask = Callable[..., Call]
Stage = Callable[[Service, Ask], Awaitable[tuple[Call, Callable[[], None]]]]


def nothing() -> None:
    """Happens later."""


async def while_it_sends(service: Service, ask: Ask) -> tuple[Call, Callable[[], None]]:
    return ask(whole=False), nothing


async def while_another_has_the_worker(service: Service, ask: Ask) -> tuple[Call, Callable[[], None]]:
    other = service.rig.asking("another's")
    job = await service.worker.hear()
    other.cancel()
    return ask(), lambda: service.worker.done(job)


async def while_its_size_is_measured(service: Service, ask: Ask) -> tuple[Call, Callable[[], None]]:
    call = ask()
    job = await service.worker.hear()
    assert isinstance(job, Measure)
    return call, lambda: service.worker.say(Measured(job.job_id, layout_of(50)))


async def while_its_item_is_written(service: Service, ask: Ask) -> tuple[Call, Callable[[], None]]:
    call = ask()
    await service.worker.measure_one(layout_of(50))
    job = await service.worker.hear()
    return call, lambda: service.worker.done(job)


async def while_the_ranks_prepare_it(service: Service, ask: Ask) -> tuple[Call, Callable[[], None]]:
    call, write = await while_its_item_is_written(service, ask)
    write()
    submit = await service.leader.hear()
    return call, lambda: service.leader.fail(submit, unavailable("the request was aborted"))


async def while_its_prompt_is_computed(service: Service, ask: Ask) -> tuple[Call, Callable[[], None]]:
    call, write = await while_its_item_is_written(service, ask)
    write()
    await service.admitted()
    return call, nothing


async def while_it_is_answered(service: Service, ask: Ask) -> tuple[Call, Callable[[], None]]:
    call, write = await while_its_item_is_written(service, ask)
    write()
    submit = await service.admitted()
    service.leader.tell(submit, (0, 65, None), (0, 66, None))
    return call, lambda: service.leader.tell(submit, (0, 67, None))


STAGES: list[Stage] = [
    while_it_sends,
    while_another_has_the_worker,
    while_its_size_is_measured,
    while_its_item_is_written,
    while_the_ranks_prepare_it,
    while_its_prompt_is_computed,
    while_it_is_answered,
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
@in_loop
async def test_a_client_leaves(tokenizer: PreTrainedTokenizerFast, stage: Stage, stream: bool) -> None:
    async with serving(tokenizer, cheap=False) as service:
        body = question(picture(), stream=stream)
        call, later = await stage(service, lambda **how: service.call(body, **how))
        await settle()
        assert service.counters.now == 1
        await call.leave()
        assert (service.counters.statuses, service.counters.now) == ({499: 1}, 0)
        assert service.budget.statistics().reserved_bytes == 0
        aborts = await service.leader.hear_all()
        reached_the_ranks = STAGES.index(stage) >= STAGES.index(while_the_ranks_prepare_it)
        assert [type(record) for record in aborts] == [Abort] * reached_the_ranks
        later()


@in_loop
async def test_those_who_share_its_item_go_on(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        leaving, staying = (service.call(question(picture(), text=text)) for text in ("one", "other"))
        job = await service.worker.hear()
        await leaving.leave()
        service.worker.done(job)
        service.say(await service.admitted(), "A cat.")
        assert (await staying.done()).status == 200
        assert service.rig.store.materialisations == 1
        assert service.counters.statuses == {499: 1, 200: 1}


# Readiness (hazard R16).


@in_loop
async def test_ready_is_a_picture_that_passed(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        checks = [asyncio.create_task(service.readiness.check()) for _ in range(3)]
        await service.worker.serve_one()
        service.say(await service.admitted(), "x")
        assert await asyncio.gather(*checks) == [None] * 3, "one probe for all who ask"
        assert await service.readiness.check() is None
        assert (await service.worker.hear_all(), await service.leader.hear_all()) == ([], [])
        statistics = service.rig.arena.statistics()
        assert (statistics.items, statistics.hits, statistics.misses, service.rig.store.materialisations) == (
            0,
            0,
            0,
            0,
        )
        assert service.counters.statuses == {}


@in_loop
async def test_a_request_with_a_picture_is_proof_enough(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        await answered(service, service.call(question(picture())))
        assert await service.readiness.check() is None
        service.readiness.draining = True
        assert await service.readiness.check() is not None


@in_loop
async def test_ranks_that_get_on_are_ready_though_no_seat_is_free(tokenizer: PreTrainedTokenizerFast) -> None:
    """A9, R23: text keeps all seats busy. A probe would wait behind it."""
    async with serving(tokenizer) as service:
        call = service.call(question())
        submit = await service.admitted()
        service.leader.tell(submit, (0, 5, None))
        await settle()
        assert await service.readiness.check() is None
        assert (await service.worker.hear_all(), await service.leader.hear_all()) == ([], []), "no probe was sent"
        service.say(submit, "x")
        await call.done()


@in_loop
async def test_media_that_waits_for_workers_that_do_nothing_is_not_ready(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        readiness = Readiness(service.chat, service.rig.group, service.rig.pool, model="tiny", limit_s=0.0)
        stuck, waiting = service.call(question(picture(1))), service.call(question(picture(2)))
        text = service.call(question())
        service.leader.tell(await service.admitted(), (0, 5, "length"))
        await text.done()
        assert "no worker has finished" in (await readiness.check() or "")
        for call in (stuck, waiting):
            await service.worker.serve_one()
            service.say(await service.admitted(), "x")
            await call.done()
        assert await readiness.check() is None


@in_loop
async def test_a_server_without_a_worker_is_not_ready_because_text_gets_on(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        readiness = Readiness(service.chat, service.rig.group, service.rig.pool, model="tiny", limit_s=0.05)
        text = service.call(question())
        service.say(await service.admitted(), "x")
        await text.done()
        service.worker.die()
        service.rig.pool.remove(1, 1)
        assert await readiness.check() == "a probe picture did not pass in time"


@in_loop
async def test_a_part_that_stands_still_is_not_ready(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        impatient = Readiness(service.chat, service.rig.group, service.rig.pool, model="tiny", limit_s=1.0)
        assert await impatient.check() == "a probe picture did not pass in time"
        await service.worker.serve_one()  # it goes on
        await settle()
        service.rig.pool.answered_s = float("-inf")  # long ago
        check = asyncio.create_task(service.readiness.check())
        await service.worker.serve_one()
        service.say(await service.admitted(), "x")
        assert await check is None
        service.readiness.reset()
        service.leader.die()
        assert await service.readiness.check() is not None


# The time that a request may take until its first token.


@pytest.mark.parametrize("stage", ["body", "budget", "worker", "ranks"])
@in_loop
async def test_a_request_that_cannot_begin_in_time_is_refused(tokenizer: PreTrainedTokenizerFast, stage: str) -> None:
    async with serving(tokenizer) as service:
        service.limit_requests(0.05)
        others = await service.budget.admit(BUDGET_BYTES if stage == "budget" else 0)
        call = service.call(question(picture()) if stage == "worker" else question(), whole=stage != "body")
        if stage == "ranks":
            await service.admitted()
        await call.done()
        assert (call.status, call.error["code"], int(call.headers[b"retry-after"]) > 0) == (503, "overloaded", True)
        others.release()
        if stage == "worker":
            for job in await service.worker.hear_all():  # none when the time was over before that
                service.worker.done(job)  # the item is for the next who asks


@in_loop
async def test_an_answer_that_has_begun_may_take_its_time(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        service.limit_requests(1.0)
        call = service.call(question())
        submit = await service.admitted()
        service.leader.tell(submit, (0, 5, None))
        await asyncio.sleep(1.1)  # longer than the limit: nothing else shows that it has passed
        service.say(submit, "x")
        await call.done()
        assert call.status == 200
