"""More requests than may be in flight: the surplus is refused before its body is read."""

from __future__ import annotations

from contextlib import ExitStack

from frontend_client import question, serving
from transformers import PreTrainedTokenizerFast

from frontend_loop import in_loop

RUNNING_MAX, QUEUE_MAX = 4, 256


@in_loop
async def test_a_request_too_many_is_refused_unread(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        with ExitStack() as others:
            for _ in range(RUNNING_MAX + QUEUE_MAX):
                others.enter_context(service.counters.in_flight())
            call = service.call(question(), whole=False)  # its body never comes to an end
            await call.task
            assert call.status == 503
            assert call.error["code"] == "overloaded"
            assert int(call.headers[b"retry-after"]) > 0
            assert service.counters.now == RUNNING_MAX + QUEUE_MAX
        answered = service.call(question())
        service.say(await service.admitted(), "hello")
        await answered.task
        assert answered.status == 200
