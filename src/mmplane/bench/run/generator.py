"""The load generator: a separate process, so that its CPU is counted separately, which sends prepared requests.

    python -m mmplane.bench.run.generator JOB   (JOB: a file of msgpack; the results go to the file that it names)

Closed loop: `concurrency` connections, each of which sends its next request when its last one is answered. Open loop:
each request is sent at its time, however many are in flight. Background requests are sent again and again, each on its
own connection, until the others are done. Bodies are whole HTTP requests in one mapped file. Answers are stored as they
arrive and parsed after the clock has stopped. It imports no torch, no HTTP client and no server.
"""

from __future__ import annotations

import asyncio
import mmap
import resource
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import httptools
import msgspec
import uvloop

CONNECTIONS_MAX = 2048
LAG_SECONDS = 0.01


class Shot(msgspec.Struct, frozen=True):
    """One request: where its bytes are, and when to send it (open loop)."""

    index: int
    offset: int
    length: int
    at_s: float | None = None


class Job(msgspec.Struct, frozen=True):
    """The requests to send, and where to."""

    host: str
    port: int
    bodies: str
    results: str
    shots: tuple[Shot, ...]
    background: tuple[Shot, ...]
    concurrency: int
    timeout_s: float


class Sample(msgspec.Struct, frozen=True):
    """The result of one request. Times are in seconds since the start of the load; `token_s` has the time of each text.

    In an open loop, `due_s` is when the request should have been sent. Latency counts from there, so that a delay of
    the generator is counted as waiting time.
    """

    index: int
    status: int
    code: str | None
    sent_s: float
    done_s: float
    token_s: tuple[float, ...]
    trace: dict[str, Any] | None
    background: bool = False
    due_s: float | None = None

    @property
    def latency_ms(self) -> float:
        """From when the request was due (in a closed loop: sent) to its end."""
        return (self.done_s - (self.sent_s if self.due_s is None else self.due_s)) * 1000


class Results(msgspec.Struct, frozen=True):
    """All samples, and the generator's own CPU. `lag_ms_max` is its longest delay."""

    samples: tuple[Sample, ...]
    wall_s: float
    cpu_s: float
    lag_ms_max: float


class Connection(asyncio.Protocol):
    """One keep-alive connection: sends a request and records the arrival times of chunks."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._parser: Any = None
        self.chunks: list[tuple[float, bytes]] = []
        self.status = 0
        self._kept = True
        """Whether the connection stays open after the last answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in flight."""
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._done is not None and not self._done.done():
                self._done.set_exception(ConnectionError(f"not HTTP: {error}"))

    def on_body(self, data: bytes) -> None:
        """Called by the parser: a piece of the body."""
        self.chunks.append((time.perf_counter(), data))

    def on_message_complete(self) -> None:
        """Called by the parser: the body is complete."""
        self.status = self._parser.get_status_code()
        self._kept = self._parser.should_keep_alive()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    @property
    def open(self) -> bool:
        """Whether the connection can be used again."""
        return self._kept and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, content: memoryview) -> None:
        """Send a whole HTTP request and wait for the whole answer. Raises OSError."""
        assert self._transport is not None
        self.chunks, self.status = [], 0
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        await self._done

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()


class Generator:
    """Runs one job."""

    def __init__(self, job: Job, bodies: memoryview) -> None:
        self._job = job
        self._bodies = bodies
        self._idle: deque[Connection] = deque()
        self._open = 0
        self._raw: list[tuple[Shot, int, str | None, float, float, list[tuple[float, bytes]], bool]] = []
        self._started_s = 0.0
        self._lag_ms_max = 0.0

    async def run(self) -> Results:
        """Send everything and return the results."""
        # Connect before the clock starts, because a server's clients are usually connected.
        wanted = min(len(self._job.shots), self._job.concurrency) + len(self._job.background)
        self._idle.extend([await self._connect() for _ in range(wanted)])
        cpu_s = time.process_time()
        self._started_s = time.perf_counter()
        lag = asyncio.create_task(self._watch())
        background = [asyncio.create_task(self._again(shot)) for shot in self._job.background]
        if any(shot.at_s is not None for shot in self._job.shots):
            await asyncio.gather(*(self._at(shot) for shot in self._job.shots))
        else:
            left = deque(self._job.shots)
            await asyncio.gather(*(self._work(left) for _ in range(self._job.concurrency)))
        wall_s = time.perf_counter() - self._started_s
        for task in (lag, *background):
            task.cancel()
        await asyncio.gather(lag, *background, return_exceptions=True)
        cpu_s = time.process_time() - cpu_s
        return Results(tuple(_sample(*raw, self._started_s) for raw in self._raw), wall_s, cpu_s, self._lag_ms_max)

    async def _work(self, left: deque[Shot]) -> None:
        while left:
            await self._send(left.popleft())

    async def _at(self, shot: Shot) -> None:
        assert shot.at_s is not None
        await asyncio.sleep(max(0.0, self._started_s + shot.at_s - time.perf_counter()))
        await self._send(shot)

    async def _again(self, shot: Shot) -> None:
        while True:
            await self._send(shot, background=True)

    async def _send(self, shot: Shot, *, background: bool = False) -> None:
        sent_s = time.perf_counter()
        connection: Connection | None = None
        code = None
        try:
            async with asyncio.timeout(self._job.timeout_s):
                connection = await self._connection()
                await connection.exchange(self._bodies[shot.offset : shot.offset + shot.length])
        except TimeoutError:
            code = "timeout"
        except OSError as error:
            code = type(error).__name__
        except asyncio.CancelledError:
            code = "cancelled"
            raise
        finally:
            done_s = time.perf_counter()
            status = connection.status if connection and code is None else 0
            chunks = connection.chunks if connection else []
            self._raw.append((shot, status, code, sent_s, done_s, chunks, background))
            if connection is not None:
                self._give_back(connection, code)
        if not background:
            print(shot.index, flush=True)

    async def _connection(self) -> Connection:
        while self._idle:
            if (connection := self._idle.popleft()).open:
                return connection
            self._open -= 1
        if self._open >= CONNECTIONS_MAX:
            raise ConnectionRefusedError("the load generator has no more connections")
        return await self._connect()

    async def _connect(self) -> Connection:
        self._open += 1
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self._job.host, self._job.port)
        return connection

    def _give_back(self, connection: Connection, code: str | None) -> None:
        if code is None and connection.open:
            self._idle.append(connection)
        else:
            connection.close()
            self._open -= 1

    async def _watch(self) -> None:
        """Measures how late this process is. If it is late, it is the bottleneck."""
        while True:
            due_s = time.perf_counter() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._lag_ms_max = max(self._lag_ms_max, (time.perf_counter() - due_s) * 1000)


def _sample(
    shot: Shot,
    status: int,
    code: str | None,
    sent_s: float,
    done_s: float,
    chunks: list[tuple[float, bytes]],
    background: bool,
    started_s: float,
) -> Sample:
    """Parse the chunks: arrival times of text, the trace, and the code of an error."""
    token_s: list[float] = []
    trace = None
    rest = b""
    if status == 200 or code == "cancelled":
        for at_s, chunk in chunks:
            *events, rest = (rest + chunk).split(b"\n\n")
            for event in events:
                if not event.startswith(b"data: {"):
                    continue
                found = msgspec.json.decode(event.removeprefix(b"data: "))
                if "error" in found:
                    code = found["error"]["code"]
                if any(choice["delta"].get("content") for choice in found.get("choices", ())):
                    token_s.append(at_s - started_s)
                trace = found.get("mmplane", {}).get("trace", trace)
        code = code or (None if trace is not None else "no_trace")
    elif code is None:
        code = _code(b"".join(chunk for _, chunk in chunks))
    return Sample(
        index=shot.index,
        status=status,
        code=code,
        sent_s=sent_s - started_s,
        done_s=done_s - started_s,
        token_s=tuple(token_s),
        trace=trace,
        background=background,
        due_s=shot.at_s,
    )


def _code(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer)["error"]["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "unknown"


def main(path: str) -> None:
    """Run the job in this file."""
    job = msgspec.msgpack.decode(Path(path).read_bytes(), type=Job)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with open(job.bodies, "rb") as file:
        bodies = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(Generator(job, bodies).run())
    Path(job.results).write_bytes(msgspec.msgpack.encode(results))


if __name__ == "__main__":
    main(sys.argv[1])
