"""The parser: a process that takes long request bodies apart, so that the front end's loop never waits for one.

    slot before:  {"messages": [... "data:image/png;base64,iVBOR..." ...]} | room
    slot after:   file 1 | file 2 | remains of the body                    | {"messages": [... "parked:0" ...]}

Base64 is decoded where it lies: each file is shorter than its text, and files are laid down from the slot's beginning
in the order in which they stand in the body, so none is written over text that is still to be read. This process maps
region 0 writable, as the front end does, and has no network.
"""

from __future__ import annotations

import logging
import select
from contextlib import suppress

import msgspec

from mmplane.arena.segment import RegionMapping
from mmplane.config import Config
from mmplane.core.control import Ready, Spawn, ToRank
from mmplane.core.errors import RequestError, bad_request, too_large
from mmplane.core.keys import media_digest
from mmplane.core.parsing import (
    PARKED_MAX,
    PARSED_BYTES_MAX,
    Extent,
    FromParser,
    Parse,
    Parsed,
    ParseFailed,
    ParserReady,
    ToParser,
)
from mmplane.frontend.request.inline import inline
from mmplane.frontend.request.schema import parse
from mmplane.items.parked import SCHEME
from mmplane.process import sandbox
from mmplane.process.child import BEAT_SECONDS, Control
from mmplane.process.priority import step_back
from mmplane.wire.link import Link, PeerGone

log = logging.getLogger("mmplane")

DATA_FACTOR = 6
"""Private memory that parsing may take, in longest bodies: JSON of many short values grows when it is parsed."""


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Serve until the supervisor ends the process or the front end is gone."""
    step_back()
    sandbox.isolate()
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    control = Control(Link(descriptors["control"], ToRank))
    region = RegionMapping(descriptors["region0"], config.region_bytes()[0], writable=True)
    frontend: Link[ToParser] = Link(descriptors["frontend"], ToParser)
    sandbox.limit(data_bytes=DATA_FACTOR * config.body_bytes_max)
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
            frontend.send(answer(received[0], region), limit_s=config.stall_seconds)


def answer(job: Parse, region: RegionMapping) -> FromParser:
    """Take one body apart; what is wrong with it is a value."""
    body = region.view(job.body.offset_bytes, job.body_bytes)
    room = region.view(job.body.offset_bytes + job.body_bytes, PARSED_BYTES_MAX)
    try:
        rest, media = take_apart(body)
    except RequestError as error:
        return ParseFailed(job.job_id, error.failure())
    except MemoryError:
        return ParseFailed(job.job_id, too_large("the body takes too much memory to parse").failure())
    room[: len(rest)] = rest
    return Parsed(job.job_id, len(rest), media)


def take_apart(body: memoryview) -> tuple[bytes, tuple[Extent, ...]]:
    """Lay the request's media down in `body`, which is overwritten; the rest of the request, and where each item lies.

    Raises RequestError, among others 413 when the rest is longer than `PARSED_BYTES_MAX`.
    """
    request = parse(body)
    parts = request.media
    if len(parts) > PARKED_MAX:
        raise bad_request("too_many_images", f"a request may hold at most {PARKED_MAX} images", "messages")
    places: list[Extent] = []
    end_bytes = 0
    for part in parts:
        content = inline(part)
        if content is None:
            if part.source is not None:
                part.source = msgspec.Raw(bytes(part.source))  # an address: the body under it is overwritten soon
            continue
        body[end_bytes : end_bytes + len(content)] = content
        part.source = msgspec.Raw(f'"{SCHEME}{len(places)}"'.encode())
        places.append(Extent(end_bytes, len(content), media_digest(content)))
        end_bytes += len(content)
    rest = msgspec.json.encode(request)
    if len(rest) > PARSED_BYTES_MAX:
        raise too_large("the request's text is longer than this server takes")
    return rest, tuple(places)
