"""The parser: a process that parses request bodies and renders prompts, unless both are sure to be quick.

    slot before: {"messages": [... "data:image/png;base64,iVBOR..." ...]}                    | room
    slot after:  file 1 | file 2 | {"messages": [... "parked:0" ...]} | tokens of the prompt | remains of the body

The front end's loop never waits for it. A process that takes too long can be killed; a thread cannot.

Base64 is decoded in place. Each file is shorter than its text, and files are written from the slot's beginning in the
order of their texts in the body, so no file overwrites text that has not been read yet. Like the front end, this
process maps region 0 writable. It has no network.
"""

from __future__ import annotations

import gc
import logging
import select
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from mmplane.arena.segment import RegionMapping
from mmplane.config import Config
from mmplane.core.control import Ready, Spawn, ToRank
from mmplane.core.errors import RequestError, bad_request, too_large
from mmplane.core.keys import media_digest
from mmplane.core.parsing import (
    PARKED_MAX,
    REST_BYTES_MAX,
    Extent,
    FromParser,
    Kind,
    Parse,
    Parsed,
    ParseFailed,
    ParserReady,
    ToParser,
)
from mmplane.frontend.body.completion import CompletionRequest
from mmplane.frontend.body.parts import AnyPart, MediaPart, TextPart, inline
from mmplane.frontend.body.schema import ChatRequest, UserMessage, parse
from mmplane.frontend.request.renderer import Ids, Renderer
from mmplane.items.parked import SCHEME
from mmplane.process import sandbox
from mmplane.process.child import BEAT_SECONDS, Control
from mmplane.process.priority import step_back
from mmplane.wire.link import Link, PeerGone

log = logging.getLogger("mmplane")

DATA_FACTOR = 6
"""Private memory for parsing, in longest bodies: JSON of many short values grows when it is parsed."""
RENDER_BYTES = 512 * 1024 * 1024
"""Private memory for rendering: some hundreds of bytes for each token of a megabyte of text."""
GARBAGE_OBJECTS = 100_000
"""New objects between two garbage collections: a body may create this many objects, and none of them is garbage."""


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Serve until the supervisor ends the process or the front end is gone."""
    step_back()
    sandbox.isolate()
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    control = Control(Link(descriptors["control"], ToRank))
    region = RegionMapping(descriptors["region0"], config.region_bytes()[0], writable=True)
    frontend: Link[ToParser] = Link(descriptors["frontend"], ToParser)
    renderer = Renderer.load(config)
    renderer.warm()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
    sandbox.limit(data_bytes=DATA_FACTOR * config.body_bytes_max + RENDER_BYTES)
    frontend.send(ParserReady(), limit_s=config.stall_seconds)
    control.tell(Ready())
    poller = select.poll()
    poller.register(frontend, select.POLLIN)
    with suppress(PeerGone):  # a new front end gets a new parser
        while True:
            control.beat()
            received = frontend.receive_nowait()
            if received is None:
                poller.poll(BEAT_SECONDS * 1000)
                continue
            frontend.send(answer(received[0], region, renderer), limit_s=config.stall_seconds)


@dataclass(frozen=True)
class Rendered:
    """The result of parsing: where the media is in the body, the prompt, and the rest of the request."""

    media: tuple[Extent, ...]
    ids: Ids
    rest: bytes


def answer(job: Parse, region: RegionMapping, renderer: Renderer) -> FromParser:
    """Parse one body; errors are returned as a value."""
    slot = region.view(job.body.offset_bytes, job.body.length_bytes)
    try:
        rendered = take_apart(slot[: job.body_bytes], renderer, job.kind)
        start = rendered.media[-1].offset_bytes + rendered.media[-1].length_bytes if rendered.media else 0
        made = rendered.rest + rendered.ids.tobytes()
        if len(rendered.rest) > REST_BYTES_MAX or len(made) > len(slot) - start:
            raise too_large("the request's texts or URLs exceed this server's limit")
    except RequestError as error:
        return ParseFailed(job.job_id, error.failure())
    except MemoryError:
        return ParseFailed(job.job_id, too_large("the body takes too much memory to parse").failure())
    slot[start : start + len(made)] = made
    return Parsed(job.job_id, start, len(rendered.rest), len(rendered.ids), rendered.media)


def take_apart(body: memoryview, renderer: Renderer, kind: Kind = "chat") -> Rendered:
    """Render the prompt and write the media into `body`, which is overwritten. Raises RequestError."""
    request = parse(body, kind=kind)
    parts = request.media
    if len(parts) > PARKED_MAX:
        raise bad_request("too_many_images", f"a request may hold at most {PARKED_MAX} images", "messages")
    ids = renderer.render(request)
    places = _lay_down(parts, body)
    return Rendered(places, ids, msgspec.json.encode(_without_text(request)))


def _lay_down(parts: Sequence[MediaPart], body: memoryview) -> tuple[Extent, ...]:
    places: list[Extent] = []
    end_bytes = 0
    for part in parts:
        content = inline(part)
        if content is None:
            if part.source is not None:
                part.source = msgspec.Raw(bytes(part.source))  # copy the URL: the body is overwritten soon
            continue
        body[end_bytes : end_bytes + len(content)] = content
        part.source = msgspec.Raw(f'"{SCHEME}{len(places)}"'.encode())
        places.append(Extent(end_bytes, len(content), media_digest(content)))
        end_bytes += len(content)
    return tuple(places)


def _without_text(request: ChatRequest | CompletionRequest) -> ChatRequest | CompletionRequest:
    """Return what the front end needs after the prompt has been rendered."""
    if isinstance(request, CompletionRequest):
        request.let_go()
        return request
    media: list[AnyPart] = [part for part in request.parts if not isinstance(part, TextPart)]
    return msgspec.structs.replace(request, messages=[UserMessage(media)], user=None, metadata=None)
