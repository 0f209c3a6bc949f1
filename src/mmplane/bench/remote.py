"""`mmplane bench --url`: the same workloads against any server with OpenAI's API, as its clients see it.

Only the server's answers are known: no deliveries, no CPU, no digests. Answers are streamed. The time of a token is
that of the piece of text that contained it, so a server that sends several tokens in one piece has fewer, longer gaps.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil
from typing import Any

import httpx
import msgspec

from mmplane.bench.inputs.arrivals import poisson_s
from mmplane.bench.inputs.sources import Source, encoded
from mmplane.bench.inputs.workloads import Workload, render

REQUEST_SECONDS = 600.0
KEY_VARIABLES = ("MMPLANE_API_KEY", "OPENAI_API_KEY")


class Pace(msgspec.Struct, frozen=True):
    """How many requests to send, and how close together. A rate means an open loop."""

    requests: int
    concurrency: int
    rate: float | None
    tokens: int
    seed: int


class Sample(msgspec.Struct, frozen=True):
    """The result of one request, in seconds since it was due."""

    status: int
    latency_s: float
    token_s: tuple[float, ...]
    tokens: int


def measure(url: str, model: str | None, workload: Workload, pace: Pace, tick: Callable[[], object]) -> dict[str, Any]:
    """Measure one row of figures. Raises ValueError if the server names no model, OSError if it cannot be reached."""
    load = workload.make(pace.requests, pace.tokens)
    media = [encoded(source) if isinstance(source, Source) else source for source in load.sources]
    note = secrets.token_hex(8)
    try:
        samples, took_s, model = asyncio.run(
            _send(
                url.rstrip("/").removesuffix("/v1"),
                model,
                lambda index, name: plain(render(load.requests[index], media, f"{note}-{index}".encode()), name),
                pace,
                tick,
            )
        )
    except httpx.TransportError as error:
        raise OSError(f"{url} cannot be reached: {error}") from None
    return row(workload.name, model, pace, samples, took_s)


def plain(body: bytes, model: str) -> bytes:
    """Return the request for this model, without mmplane's own fields, and with usage in the answer."""
    request = json.loads(body)
    request.pop("mmplane", None)
    return json.dumps(request | {"model": model, "stream_options": {"include_usage": True}}).encode()


async def _send(
    url: str, model: str | None, body: Callable[[int, str], bytes], pace: Pace, tick: Callable[[], object]
) -> tuple[list[Sample], float, str]:
    key = next((value for name in KEY_VARIABLES if (value := os.environ.get(name))), "none")
    seats = asyncio.Semaphore(pace.concurrency if pace.rate is None else pace.requests)
    due_s = poisson_s(pace.requests, pace.rate, pace.seed) if pace.rate else [0.0] * pace.requests
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=REQUEST_SECONDS, limits=limits) as client:
        name = model or await _only_model(client)
        began_s = time.perf_counter()

        async def one(index: int) -> Sample:
            await asyncio.sleep(max(0.0, began_s + due_s[index] - time.perf_counter()))
            async with seats:
                content = body(index, name)
                sample = await _ask(client, content, began_s + due_s[index] if pace.rate else time.perf_counter())
            tick()
            return sample

        samples = await asyncio.gather(*map(one, range(pace.requests)))
        return list(samples), time.perf_counter() - began_s, name


async def _only_model(client: httpx.AsyncClient) -> str:
    answer = await client.get("/v1/models")
    if answer.status_code != 200 or not answer.json().get("data"):
        raise ValueError(f"--url: /v1/models answers {answer.status_code} and names no model: give --served-model")
    return str(answer.json()["data"][0]["id"])


async def _ask(client: httpx.AsyncClient, content: bytes, due_s: float) -> Sample:
    token_s: list[float] = []
    tokens = 0
    status = 0
    try:
        async with client.stream("POST", "/v1/chat/completions", content=content) as answer:
            status = answer.status_code
            async for line in answer.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line.removeprefix("data: "))
                status = 500 if "error" in event else status
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
                if any(choice["delta"].get("content") for choice in event.get("choices", ())):
                    token_s.append(time.perf_counter() - due_s)
    except httpx.TransportError:
        status = 0
    return Sample(status, time.perf_counter() - due_s, tuple(token_s), tokens or len(token_s))


def row(workload: str, model: str, pace: Pace, samples: Sequence[Sample], took_s: float) -> dict[str, Any]:
    """Return the figures. Times only cover answered requests."""
    good = [sample for sample in samples if sample.status == 200]
    gaps_s = [later - earlier for sample in good for earlier, later in pairwise(sample.token_s)]
    latencies_s = [sample.latency_s for sample in good]
    return {
        "workload": workload,
        "model": model,
        "requests": len(samples),
        "concurrency": None if pace.rate else pace.concurrency,
        "rate": pace.rate,
        "errors": len(samples) - len(good),
        "qps": len(good) / took_s,
        "tokens_per_s": sum(sample.tokens for sample in good) / took_s,
        "latency_ms": {"mean": sum(latencies_s) * 1000 / len(good) if good else None, **_quantiles_ms(latencies_s)},
        "first_token_ms": _quantiles_ms([sample.token_s[0] for sample in good if sample.token_s]),
        "inter_token_ms": _quantiles_ms(gaps_s),
    }


def _quantiles_ms(seconds: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(seconds)
    return {
        name: ordered[ceil(share * len(ordered)) - 1] * 1000 if ordered else None
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
