"""Intake: a request's media parts to bytes, content keys and recipes: all that is known before they are decoded."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pybase64

from mmplane.core.errors import bad_media
from mmplane.core.faults import Fault
from mmplane.core.records import Ask, Recipe
from mmplane.frontend.admission import DEFAULT_TENANT
from mmplane.frontend.fetch import Grow
from mmplane.frontend.names import Names, not_held
from mmplane.frontend.parked import Content, Parked, at, digest_of
from mmplane.frontend.plane import Plane
from mmplane.frontend.schema import AudioPart, ChatRequest, MediaPart
from mmplane.frontend.source import Source, inline_media
from mmplane.observe.journey import Journey
from mmplane.process.delays import pause


@dataclass(frozen=True)
class Media:
    """One item of a request before it is materialised. `content` is None when only a name was sent."""

    content: Content | None
    key: bytes
    recipe: Recipe
    tenant: str = DEFAULT_TENANT
    fault: Fault | None = None
    """A test's."""


class Intake:
    """Takes a request's media in. `frames_max` is the server's ceiling for a clip's frames."""

    def __init__(self, plane: Plane, source: Source, *, frames_max: int) -> None:
        self._plane = plane
        self._source = source
        self._frames_max = frames_max
        self.names = Names()

    async def take(
        self,
        request: ChatRequest,
        grow: Grow,
        parked: Sequence[Parked],
        journey: Journey,
        *,
        tenant: str = DEFAULT_TENANT,
    ) -> list[Media]:
        """The request's media, in order. Raises RequestError."""
        parts = request.media
        fault = request.fault
        for part in parts:
            self._plane.check_taken(part.modality)
        journey.enter("fetch")
        await pause(fault, "fetch")
        contents = [await self._load(part, grow, parked) for part in parts]
        journey.enter("key")
        await pause(fault, "key")
        asks = [self._ask(part, request) for part in parts]
        keys = [await self._key(*each, tenant) for each in zip(parts, asks, contents, strict=True)]
        journey.enter("probe")
        await pause(fault, "probe")
        recipes = await self._recipes(asks, keys, contents, tenant)
        return [Media(*item, tenant, fault) for item in zip(contents, keys, recipes, strict=True)]

    async def _load(self, part: MediaPart, grow: Grow, parked: Sequence[Parked]) -> Content | None:
        source = part.source
        if source is None:
            return None
        here = at(source, parked)
        if here is not None:
            return here
        return decode_base64(source) if isinstance(part, AudioPart) else await self._source.load_json(source, grow)

    def _ask(self, part: MediaPart, request: ChatRequest) -> Ask:
        if part.modality != "video":
            return part.ask
        options = request.mmplane.video if request.mmplane else None
        frames_max = min(self._frames_max, (options and options.frames) or self._frames_max)
        return Ask("video", frames_max=frames_max, fps_max=(options and options.fps) or 0.0)

    async def _key(self, part: MediaPart, ask: Ask, content: Content | None, tenant: str) -> bytes:
        if content is None:
            assert part.uuid is not None
            return self._plane.key(ask, self.names.digest(part.uuid, part.modality, tenant=tenant), tenant=tenant)
        digest = await digest_of(content)
        if part.uuid is not None:
            self.names.remember(part.uuid, part.modality, digest, tenant=tenant)
        return self._plane.key(ask, digest, tenant=tenant)

    async def _recipes(
        self, asks: list[Ask], keys: list[bytes], contents: list[Content | None], tenant: str
    ) -> list[Recipe]:
        """One after the other, but that clips and sounds are looked at together, by as many workers as there are."""
        tasks = [asyncio.ensure_future(self._recipe(*item, tenant)) for item in zip(asks, keys, contents, strict=True)]
        try:
            return [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _recipe(self, ask: Ask, key: bytes, content: Content | None, tenant: str) -> Recipe:
        if content is not None:
            return await self._plane.recipe(ask, key, content, tenant=tenant)
        if (known := self._plane.known_recipe(key)) is None:
            raise not_held()
        return known


def inline(part: MediaPart) -> bytes | None:
    """The bytes that a part brings along; None for an address, or a name alone. Raises RequestError (400)."""
    source = part.source
    if source is None:
        return None
    return decode_base64(source) if isinstance(part, AudioPart) else inline_media(source)


def decode_base64(source: msgspec.Raw) -> bytes:
    """The bytes of a JSON string of base64. Raises RequestError (400)."""
    text = memoryview(source)[1:-1]
    try:
        try:
            content: bytes = pybase64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):  # encoders may escape what they like: / is often seen
            content = pybase64.b64decode(msgspec.json.decode(source, type=str), validate=True)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise bad_media("the sound is not valid base64", "input_audio") from None
    return content
