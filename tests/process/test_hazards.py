"""Hazards of the project's list that need a whole server and have no better place. The list: `docs/security.md`."""

from __future__ import annotations

import base64
import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from live import Live, serving
from pictures import noise, part, png, text

from clips import clip_part, real
from polling import until

GOOD = 24
REPLY_BYTES_MAX = 1000
LOG_BYTES_MAX = 1000
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def live(tiny_folder: Path) -> Iterator[Live]:
    with serving(tiny_folder, "--fetch-host", "127.0.0.1", "--workers", "2", tp=1) as server:
        yield server


def tokens(live: Live, seed: int) -> str:
    answer = live.chat([part(noise(seed)), text("What?")], max_tokens=4, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["mmplane"]["trace"]["token_ids"])


def left_alone(live: Live) -> bool:
    """Nothing is in flight, held or waiting."""
    now = live.statistics()
    return not any(
        (
            now["requests"]["in_flight"],
            now["budget"]["reserved_bytes"],
            now["arena"]["leases"],
            now["workers"]["waiting"],
            now["arena"]["total"]["writing_bytes"],
        )
    )


@contextmanager
def stopped(*processes: psutil.Process) -> Iterator[None]:
    """None of these runs inside the block."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def workers(live: Live) -> list[psutil.Process]:
    return [process for title, process in live.processes().items() if title.startswith("worker")]


def writing(live: Live, count: int) -> list[int]:
    """The workers that have an item to write, once there are so many."""

    def found() -> list[int] | None:
        regions = live.statistics()["arena"]["regions"]
        busy = [index for index, region in enumerate(regions) if index and region["writing_bytes"]]
        return busy if len(busy) == count else None

    busy: list[int] = until(found, LIMIT_S, f"{count} workers are to write")
    return busy


# R3: a strange picture beside good requests.

STRANGE = {
    "one pixel": (part(png(np.zeros((1, 1, 3), np.uint8))), text("?"), 200),
    "grey": (part(png(np.zeros((40, 40), np.uint8))), text("?"), 200),
    "transparent": (part(png(np.zeros((40, 40, 4), np.uint8))), text("?"), 200),
    "one placeholder more than pictures": (part(noise(699)), text("<|image_pad|><|vision_end|>"), 200),
    "no picture": (part(b"\xff\xd8\xff" + bytes(1000)), text("?"), 400),
}


@pytest.fixture(scope="module")
def good(live: Live) -> list[str]:
    """The answers as they are when nobody disturbs."""
    return [tokens(live, 700 + seed) for seed in range(8)] * (GOOD // 8)


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_picture_beside_24_good_ones(name: str, live: Live, good: list[str]) -> None:
    *content, status = STRANGE[name]
    pids = live.pids()
    with ThreadPoolExecutor(GOOD + 1) as threads:
        answers = [threads.submit(tokens, live, 700 + seed % 8) for seed in range(GOOD)]
        strange = threads.submit(live.chat, content).result()
        assert [answer.result() for answer in answers] == good
    assert strange.status_code == status, strange.text
    assert live.pids() == pids


# R13: the way of an error costs no more than the way of success.


@pytest.mark.parametrize("at", ["first", "last"])
def test_megabytes_of_corrupt_base64(at: str, live: Live) -> None:
    content = bytearray(base64.b64encode(np.random.default_rng(6).bytes(6_000_000)))
    content[0 if at == "first" else -1] = ord("!")
    said = len("".join(live.log))
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + content.decode()}}
    answer = live.chat([url, text("?")])
    assert answer.status_code == 400
    assert len(answer.content) < REPLY_BYTES_MAX
    assert len("".join(live.log)) - said < LOG_BYTES_MAX


# R14: a client goes away in a stage of its media (the others are in test_leaving).


@contextmanager
def asking(live: Live, *content: Any) -> Iterator[socket.socket]:
    """A client that has sent its request and does not read."""
    host, port = live.url.removeprefix("http://").split(":")
    body = {"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": [*content, text("?")]}]}
    sent = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(sent)}\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=LIMIT_S) as client:
        client.sendall(head + sent)
        yield client


def test_a_client_leaves_while_its_picture_is_fetched(live: Live) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        host.settimeout(LIMIT_S)
        url = f"http://127.0.0.1:{host.getsockname()[1]}/never"
        with asking(live, {"type": "image_url", "image_url": {"url": url}}):
            connection, _ = host.accept()
        with connection:
            connection.settimeout(LIMIT_S)
            while connection.recv(65536):
                pass  # the request; then the server hangs up, because nobody wants the answer
    until(lambda: left_alone(live), LIMIT_S, "nothing of it is left")


def test_clients_leave_while_their_pictures_are_decoded_or_wait_for_a_worker(live: Live) -> None:
    pids = live.pids()
    with ExitStack() as clients:
        with stopped(*workers(live)):
            for seed in (720, 721):
                clients.enter_context(asking(live, part(noise(seed))))
            writing(live, 2)
            clients.enter_context(asking(live, part(noise(722))))
            until(lambda: live.statistics()["workers"]["waiting"] == 1, LIMIT_S, "the third waits")
            clients.close()
            until(lambda: live.statistics()["requests"]["in_flight"] == 0, LIMIT_S, "they have gone")
        until(lambda: left_alone(live), LIMIT_S, "nothing of it is left")
    assert live.pids() == pids


# R16: readiness is progress.


@pytest.fixture(scope="module")
def impatient(tiny_folder: Path) -> Iterator[Live]:
    with serving(tiny_folder, "--stall-seconds", "2", tp=1) as server:
        yield server


@pytest.mark.parametrize("role", ["worker", "rank"])
def test_not_ready_while_nothing_passes(role: str, impatient: Live) -> None:
    def ready() -> int:
        return impatient.http.get("/ready").status_code

    until(lambda: ready() == 200, LIMIT_S, "ready")
    stuck = [process for title, process in impatient.processes().items() if title.startswith(role)]
    with stopped(impatient.supervisor):  # or it would replace them
        with stopped(*stuck):
            until(lambda: ready() == 503, LIMIT_S, "not ready")
            assert impatient.http.get("/health").status_code == 200
        until(lambda: ready() == 200, LIMIT_S, "ready again")


# R17: a clip does not hold up pictures.


def test_what_is_here_needs_no_worker(live: Live) -> None:
    before = tokens(live, 730)
    with stopped(*workers(live)):
        assert tokens(live, 730) == before


def test_pictures_beside_a_clip_that_does_not_end(tiny_folder: Path) -> None:
    """Without a cache clips are made anew each time, but were looked into before: they go straight to a worker."""
    media = real("bigbuckbunny")
    clips = [[clip_part(media + end), text("?")] for end in (b"", b"\0\0\0\x08free")]
    flags = ("--cache", "off", "--workers", "2", "--runner", "null")
    with serving(tiny_folder, *flags, tp=1) as live, ThreadPoolExecutor(2) as threads:
        few = {"max_tokens": 1, "mmplane": {"video": {"frames": 4}}}
        for clip in clips:
            assert live.chat(clip, **few).status_code == 200
        with stopped(*workers(live)):
            answers = [threads.submit(live.chat, clip, **few) for clip in clips]
            until(lambda: live.statistics()["workers"]["waiting"] == 1, LIMIT_S, "one clip waits for the other")
            (busy,) = writing(live, 1)
            live.processes()[f"worker {3 - busy}"].resume()
            for seed in range(731, 735):
                tokens(live, seed)
            assert live.statistics()["workers"]["waiting"] == 1
            assert not any(answer.done() for answer in answers)
        assert [answer.result().status_code for answer in answers] == [200, 200]


# S4: a decoder dies.


def test_a_decoder_that_dies_of_a_file(live: Live) -> None:
    """The first death may be anybody's doing; after the second the file is refused, and ends no third worker."""
    statuses = []
    for _ in range(2):
        with ThreadPoolExecutor(1) as threads, stopped(*workers(live)):
            answer = threads.submit(live.chat, [part(noise(740)), text("?")])
            (busy,) = writing(live, 1)
            doomed = live.processes()[f"worker {busy}"]
            doomed.send_signal(signal.SIGSEGV)
            doomed.resume()
            statuses.append(answer.result().status_code)
        until(lambda: live.statistics()["workers"]["states"]["idle"] == 2, LIMIT_S, "the pool is full again")
        tokens(live, 741)
    pids = live.pids()
    statuses.append(live.chat([part(noise(740)), text("?")]).status_code)
    assert statuses == [503, 400, 400]
    assert live.pids() == pids
