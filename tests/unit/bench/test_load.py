"""The load generator against an HTTP server of the test's own: what it sends, when, what it makes of answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mmplane.bench.run.generator import Generator, Job, Results, Shot

TRACE = {"items": [], "stages_ms": {"fetch": 1.0}}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def text(content: str) -> dict[str, object]:
    return {"choices": [{"delta": {"content": content}}]}


STREAM = (
    event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    + event(text("a"))
    + event(text("b"))
    + event({"choices": [], "mmplane": {"trace": TRACE}})
    + b"data: [DONE]\n\n"
)


def answered(content: bytes = STREAM) -> bytes:
    """The whole answer, its events split where no event ends."""
    return HEAD + chunk(content[:100]) + chunk(content[100:]) + chunk(b"")


def refused(status: int, code: str) -> bytes:
    body = json.dumps({"error": {"code": code}}).encode()
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Stub:
    """Answers each request with what `answer` gives, and keeps count of those under way."""

    answer: Callable[[bytes], Awaitable[bytes]]
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    now: int = 0
    most: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.bodies.append(body)
                self.now += 1
                self.most = max(self.most, self.now)
                content = await self.answer(body)
                self.now -= 1
                if not content:
                    break
                writer.write(content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def stub(answer: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[tuple[Stub, int]]:
    found = Stub(answer)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    try:
        yield found, server.sockets[0].getsockname()[1]
    finally:
        server.close()


def request(body: bytes) -> bytes:
    return f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def sent(port: int, bodies: list[bytes], **more: object) -> Results:
    """What the generator makes of these bodies; the last `background` of them are streams beside."""
    wholes = [request(body) for body in bodies]
    background = int(str(more.pop("background", 0)))
    at_s = more.pop("at_s", None)
    shots, offset = [], 0
    for index, whole in enumerate(wholes):
        shots.append(Shot(index, offset, len(whole), at_s[index] if isinstance(at_s, list) else None))
        offset += len(whole)
    fields = {"concurrency": 2, "timeout_s": 30.0} | more
    split = len(shots) - background
    job = Job("127.0.0.1", port, "", "", tuple(shots[:split]), tuple(shots[split:]), **fields)  # type: ignore[arg-type]
    return await Generator(job, memoryview(b"".join(wholes))).run()


async def at_once(_: bytes) -> bytes:
    return answered()


def test_every_request_is_sent_once_and_its_answer_is_understood() -> None:
    async def check() -> None:
        async with stub(at_once) as (server, port):
            results = await sent(port, [b"one", b"two", b"three"])
            assert sorted(server.bodies) == [b"one", b"three", b"two"]
            assert server.connections == 2
            for sample in results.samples:
                assert (sample.status, sample.code, sample.trace) == (200, None, TRACE)
                assert len(sample.token_s) == 2
                assert 0 <= sample.sent_s <= sample.token_s[0] <= sample.done_s <= results.wall_s
            assert results.cpu_s > 0

    asyncio.run(check())


def test_a_closed_loop_has_as_many_under_way_as_asked() -> None:
    async def check() -> None:
        together = asyncio.Barrier(3)

        async def answer(_: bytes) -> bytes:
            await together.wait()  # passes only when three requests are here at once
            return answered()

        async with stub(answer) as (server, port):
            results = await sent(port, [b"x"] * 6, concurrency=3)
            assert len(results.samples) == 6
            assert server.most == 3

    asyncio.run(check())


def test_an_open_loop_sends_at_its_times_whatever_is_under_way() -> None:
    async def check() -> None:
        everybody = asyncio.Barrier(4)

        async def answer(_: bytes) -> bytes:
            await everybody.wait()  # nobody is answered before the last has been sent
            return answered()

        at_s = [0.0, 0.01, 0.02, 0.05]
        async with stub(answer) as (_, port):
            results = await sent(port, [b"x"] * 4, concurrency=1, at_s=at_s)
            by_index = sorted(results.samples, key=lambda sample: sample.index)
            assert all(sample.sent_s >= due for sample, due in zip(by_index, at_s, strict=True))
            assert all(sample.code is None for sample in by_index)

    asyncio.run(check())


def test_a_connection_that_the_server_will_close_is_not_used_again() -> None:
    async def answer(_: bytes) -> bytes:
        return HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + chunk(STREAM) + chunk(b"")

    async def check() -> None:
        async with stub(answer) as (server, port):
            results = await sent(port, [b"x"] * 3, concurrency=1)
            assert [sample.code for sample in results.samples] == [None] * 3
            assert server.connections == 3

    asyncio.run(check())


def test_what_the_generator_was_late_for_is_known() -> None:
    async def check() -> None:
        async with stub(at_once) as (_, port):
            # Due 300 ms before it can be sent, as by a generator that was held up.
            (found,) = (await sent(port, [b"x"], at_s=[-0.3])).samples
            assert (found.due_s, found.code) == (-0.3, None)
            assert found.sent_s >= 0
            assert found.latency_ms == (found.done_s + 0.3) * 1000

    asyncio.run(check())


def test_errors_have_their_codes() -> None:
    async def answer(body: bytes) -> bytes:
        return {
            b"full": refused(503, "overloaded"),
            b"strange": b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno",
            b"broken": answered(event({"error": {"code": "unavailable"}})),
            b"bare": answered(event(text("a"))),
            b"gone": b"",
            b"foreign": b"not HTTP at all\r\n\r\n",
        }[body]

    async def check() -> None:
        async with stub(answer) as (_, port):
            bodies = [b"full", b"strange", b"broken", b"bare", b"gone", b"foreign"]
            results = await sent(port, bodies, concurrency=1)
            codes = {bodies[sample.index]: sample.code for sample in results.samples}
            assert codes == {
                b"full": "overloaded",
                b"strange": "unknown",
                b"broken": "unavailable",
                b"bare": "no_trace",
                b"gone": "ConnectionResetError",
                b"foreign": "ConnectionError",
            }

    asyncio.run(check())


def test_a_request_that_is_not_answered_ends_by_its_limit() -> None:
    async def check() -> None:
        async def answer(_: bytes) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

        async with stub(answer) as (_, port):
            results = await sent(port, [b"x"], timeout_s=0.05)
            assert [sample.code for sample in results.samples] == ["timeout"]

    asyncio.run(check())


def test_streams_beside_the_load_go_on_until_it_is_done() -> None:
    async def check() -> None:
        streamed = asyncio.Semaphore(0)

        async def answer(body: bytes) -> bytes:
            if body == b"stream":
                streamed.release()
            else:
                for _ in range(3):  # the load waits for three answers to the stream
                    await streamed.acquire()
            return answered()

        async with stub(answer) as (_, port):
            results = await sent(port, [b"media", b"stream"], background=1)
            beside = [sample for sample in results.samples if sample.background]
            assert len(beside) >= 3
            assert all(sample.code in (None, "cancelled") for sample in beside)
            assert [sample.code for sample in results.samples if not sample.background] == [None]

    asyncio.run(check())
