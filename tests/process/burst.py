"""A burst of requests with many pictures each, some of whose clients go away: what it costs and what is left (R8)."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import psutil
from live import Live
from pictures import noise

SAMPLE_SECONDS = 0.05


def body(seed: int, pictures: int) -> bytes:
    """A request with pictures that no other has."""
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(media).decode()}}
        for media in (noise(seed * pictures + number, 224, 168) for number in range(pictures))
    ]
    return json.dumps({"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": parts}]}).encode()


def post(live: Live, content: bytes) -> httpx.Response:
    return httpx.post(
        f"{live.url}/v1/chat/completions", content=content, headers={"content-type": "application/json"}, timeout=300
    )


def vanish(live: Live, content: bytes, share: float) -> None:
    """Send some of a request, and go."""
    address = urlsplit(live.url)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=300) as client:
        client.sendall(head + content[: int(len(content) * share)])


def burst(live: Live, *, requests: int, pictures: int, clients: int) -> tuple[Counter[int], list[httpx.Response]]:
    """All at once; every fifth client goes away. Counts by status, and the refusals."""
    with ThreadPoolExecutor(clients) as threads:
        sent = []
        for seed in range(requests):
            if seed % 5 == 4:
                threads.submit(vanish, live, body(seed, pictures), 0.6 if seed % 2 else 1.0)
            else:
                sent.append(threads.submit(lambda seed=seed: post(live, body(seed, pictures))))
        answers = [each.result() for each in sent]
    return Counter(answer.status_code for answer in answers), [answer for answer in answers if not answer.is_success]


@contextmanager
def peak_bytes(live: Live) -> Iterator[dict[str, int]]:
    """The most private memory of all processes together, sampled; `peak` is what came on top of the beginning."""
    ended = threading.Event()
    processes = list(live.processes().values())
    found = {"idle": _private_bytes(processes), "peak": 0}

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            found["peak"] = max(found["peak"], _private_bytes(processes) - found["idle"])

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield found
    finally:
        ended.set()
        sampler.join(60)


def _private_bytes(processes: Sequence[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        total += memory.rss - memory.shared
    return total
