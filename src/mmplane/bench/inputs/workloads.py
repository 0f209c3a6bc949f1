"""Workloads: the items to make and the requests about them. Pure: sources and bodies, no pixels yet.

A body is an OpenAI request with a marker in place of each item's media; `render` inserts the media.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mmplane.bench.inputs.sources import FRAMES_MAX, Kind, Source
from mmplane.bench.inputs.stamps import stamped
from mmplane.core.plan import EVERY_RANK
from mmplane.core.simulation import Simulation

MIME = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/wav"}
TEXT = "What is to be seen or heard here?"
STORY = "Tell a long story about a data plane."
REQUESTS_MAX = 100_000
EXTENSION = {"trace": True, "ignore_eos": True, "video": {"frames": FRAMES_MAX}, "digest_rank": EVERY_RANK}
"""mmplane's options in every request."""

_DIGEST_RANK = b'"digest_rank":%d' % EVERY_RANK
_URI = re.compile(rb'"mmplane-bench-uri:(\d+)"')
_BASE64 = re.compile(rb'"mmplane-bench-base64:(\d+)"')


class Request(msgspec.Struct, frozen=True):
    """One request: its JSON body with markers, and the items that it shows, in order."""

    body: bytes
    items: tuple[int, ...]


class Load(msgspec.Struct, frozen=True):
    """The load of a workload: items to make, requests to measure, and background streams."""

    sources: tuple[Source | bytes, ...]
    """The source of each item, or the media itself."""
    requests: tuple[Request, ...]
    background: tuple[Request, ...] = ()


class Workload(msgspec.Struct, frozen=True):
    """A kind of load by name. `make(count, tokens)` creates the load; `flags` are the server flags that it needs."""

    name: str
    text: str
    requests: int
    concurrency: int
    tokens: int
    make: Callable[[int, int], Load]
    flags: tuple[str, ...] = ()
    rate: float | None = None
    """An open loop with this many requests per second, unless another pace is requested."""
    control: str | None = None
    """A workload that alternates with it, for comparison."""
    pixels_max: int | None = None
    """If set, allow larger pictures than the model's processor does."""
    period: int = 1
    """A turn has whole runs of this many consecutive requests, so that items shared within a run stay in one turn."""
    simulation: Simulation | None = None
    """A simulated decoder, which waits instead of decoding."""
    workers: int | None = None
    """The server's workers, unless another number is requested; None: as many as the machine suggests."""


def body(parts: list[dict[str, Any]], tokens: int) -> bytes:
    """A streamed request for exactly this many tokens, with a trace."""
    request = {
        "model": "tiny",
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "messages": [{"role": "user", "content": parts}],
        "mmplane": EXTENSION,
    }
    return json.dumps(request, separators=(",", ":")).encode()


def part(kind: Kind, index: int) -> dict[str, Any]:
    """The content part of one item, with its marker."""
    uri = f"mmplane-bench-uri:{index}"
    if kind in ("image", "simulated"):
        return {"type": "image_url", "image_url": {"url": uri}}
    if kind == "video":
        return {"type": "video_url", "video_url": {"url": uri}}
    return {"type": "input_audio", "input_audio": {"data": f"mmplane-bench-base64:{index}", "format": "wav"}}


def render(request: Request, media: list[bytes], note: bytes, digest_rank: int = EVERY_RANK) -> bytes:
    """Return the request's body with its items' stamped media; digests are requested from one rank, or from all."""

    def encoded(index: int) -> bytes:
        return base64.b64encode(stamped(media[index], note))

    def uri(found: re.Match[bytes]) -> bytes:
        index = int(found[1])
        return b'"data:' + _mime(media[index]) + b";base64," + encoded(index) + b'"'

    whole = _URI.sub(uri, request.body.replace(_DIGEST_RANK, b'"digest_rank":%d' % digest_rank))
    return _BASE64.sub(lambda found: b'"' + encoded(int(found[1])) + b'"', whole)


def _mime(media: bytes) -> bytes:
    if media.startswith(b"\x89PNG"):
        return b"image/png"
    if media.startswith(b"\xff\xd8"):
        return b"image/jpeg"
    return b"video/mp4" if media[4:8] == b"ftyp" else b"audio/wav"


def _ask(kinds: list[Kind], first: int, tokens: int) -> Request:
    indices = tuple(range(first, first + len(kinds)))
    parts = [part(kind, index) for kind, index in zip(kinds, indices, strict=True)]
    return Request(body([*parts, {"type": "text", "text": TEXT}], tokens), indices)


def showing(
    kind: Kind, width: int = 0, height: int = 0, *, items: int = 1, features_bytes: int = 0
) -> Callable[[int, int], Load]:
    """Requests with `items` items each, none of which was sent before."""

    def make(count: int, tokens: int) -> Load:
        sources = tuple(Source(kind, seed, width, height, features_bytes) for seed in range(count * items))
        return Load(sources, tuple(_ask([kind] * items, at * items, tokens) for at in range(count)))

    return make


REPEATS_PERCENT = (0, 50, 80, 95)
REPEAT_CACHE_BYTES = 1024**3
"""For each rank, so that A2's cache has room for all new photographs of a turn."""


def repeated(percent: int) -> Workload:
    """Photographs of which this percentage was sent before in the same turn."""

    def make(count: int, tokens: int) -> Load:
        shown = repeats(count, percent)
        sources = tuple(Source("image", seed, 1120, 700) for seed in range(max(shown) + 1))
        return Load(sources, tuple(_ask(["image"], index, tokens) for index in shown))

    return Workload(
        f"repeat:{percent}",
        f"{percent} of a hundred photographs are known",
        300,
        10,
        1,
        make,
        ("--cache-bytes", str(REPEAT_CACHE_BYTES)),
        period=100,
    )


def repeats(count: int, percent: int) -> list[int]:
    """Return which photograph each of `count` requests shows. In each hundred exactly `percent` are repeats.

    New ones are evenly spaced; each repeat is chosen among the earlier ones in its hundred.
    """
    rng = random.Random(percent)  # noqa: S311 - load, not secrets
    shown: list[int] = []
    first = end = 0
    for at in range(count):
        place = at % 100
        if place == 0:
            first = end
        is_new = (place * (100 - percent)) % 100 < 100 - percent
        shown.append(end if is_new else rng.randrange(first, end))
        end += is_new
    return shown


def _text(tokens: int) -> Request:
    return Request(body([{"type": "text", "text": STORY}], tokens), ())


STREAMS = 4
STREAM_TOKENS = 64
MIXED_RATE = 5.0


def _mixed(count: int, tokens: int) -> Load:
    photographs = showing("image", 1120, 700)(count, tokens)
    return Load(photographs.sources, photographs.requests, (_text(STREAM_TOKENS),) * STREAMS)


def _streams(count: int, _: int) -> Load:
    return Load((), (_text(STREAM_TOKENS),) * count)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("photo", "a 1120x700 JPEG in each request", 512, 96, 1, showing("image", 1120, 700)),
        Workload("video-2mb", "two megabytes of H.264 in each request", 24, 10, 1, showing("video")),
        Workload("4k", "a 3840x2160 JPEG in each request", 64, 16, 1, showing("image", 3840, 2160)),
        Workload("many-small", "a 224x224 JPEG in each request", 512, 64, 1, showing("image", 224, 224)),
        Workload(
            "many-images",
            "28 JPEGs of 392x392 in each request",
            24,
            4,
            1,
            showing("image", 392, 392, items=28),
            ("--images-max", "28"),
        ),
        *(repeated(percent) for percent in REPEATS_PERCENT),
        Workload(
            "mixed", "four streams of text, photographs arriving", 96, 4, 1, _mixed, rate=MIXED_RATE, control="text"
        ),
        Workload("text", "four streams of text and nothing else", 24, STREAMS, STREAM_TOKENS, _streams),
        Workload("audio", "five seconds of sound in each request", 96, 16, 1, showing("audio")),
    )
}


SIZES_MB = (1, 4, 16, 64, 256)
BYTES_PER_PIXEL = 24
"""Bytes of features in the Qwen2-VL family: three channels of float32, each frame twice."""


def sized(megabytes: int) -> Workload:
    """Photographs whose features have about this many megabytes."""
    side = 28
    pixels = megabytes * 1_000_000 / BYTES_PER_PIXEL
    width, height = (max(1, round((pixels * ratio) ** 0.5 / side)) * side for ratio in (4 / 3, 3 / 4))
    return Workload(
        f"bytes:{megabytes:03}MB",
        f"a {width}x{height} JPEG in each request: {megabytes} MB of features",
        6,
        2,
        1,
        showing("image", width, height),
        ("--context-tokens-max", "65536"),
        pixels_max=2 * width * height,
    )


SEVERAL = {
    "repeat": [WORKLOADS[f"repeat:{percent}"] for percent in REPEATS_PERCENT],
    "bytes": [sized(megabytes) for megabytes in SIZES_MB],
}
"""Names that stand for several workloads."""


def from_file(path: Path) -> Workload:
    """Read a workload of OpenAI requests, one JSON object per line. Raises ValueError with the line's number."""
    bodies = [_parsed(line, number) for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
    if not 0 < len(bodies) <= REQUESTS_MAX:
        raise ValueError(f"{path.name}: between 1 and {REQUESTS_MAX} requests are needed")

    def make(count: int, _: int) -> Load:
        media: list[Source | bytes] = []
        requests = tuple(_taken(bodies[at % len(bodies)], media) for at in range(count))
        return Load(tuple(media), requests)

    return Workload(path.stem, f"the requests of {path.name}", len(bodies), 8, 1, make)


def _parsed(line: str, number: int) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is not JSON: {error.msg}") from None
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
        raise ValueError(f"line {number} is not a chat request: it has no messages")
    return request | {"stream": True, "mmplane": EXTENSION}


def _taken(request: dict[str, Any], media: list[Source | bytes]) -> Request:
    """Return the request with its data URIs moved to `media`."""
    first = len(media)

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(each) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each) for each in value]
        if isinstance(value, str) and value.startswith("data:"):
            try:
                media.append(base64.b64decode(value.partition(",")[2], validate=True))
            except binascii.Error:
                raise ValueError("a data URI is not valid base64") from None
            return f"mmplane-bench-uri:{len(media) - 1}"
        return value

    whole = json.dumps(walk(request), separators=(",", ":")).encode()
    return Request(whole, tuple(range(first, len(media))))
