"""Intake: turns a request's media parts into bytes, content keys and recipes, which are known before decoding."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from msgspec.structs import replace

from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.core.records import Ask, Recipe
from mmplane.frontend.body.parts import MediaPart, inline
from mmplane.frontend.body.request import Request
from mmplane.frontend.request.looks import Looks
from mmplane.frontend.sources.fetch import Grow, too_slow
from mmplane.frontend.sources.source import Source
from mmplane.items.parked import MediaBytes, Parked, at
from mmplane.observe.journey import Journey

FETCHES_MAX = 8
"""Concurrent fetches of one request."""
FETCHES_SECONDS = 60.0
"""Time limit for everything that one request fetches."""
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Media:
    """One item of a request before it is materialised. `content` is None if only a name was sent."""

    content: MediaBytes | None
    key: bytes
    recipe: Recipe
    tenant: str = DEFAULT_TENANT
    uuid: str | None = None
    """The client's own name for the item."""


class Away(Enum):
    """Loads media that is not part of the request."""

    ELSEWHERE = auto()


class Intake:
    """Reads the media of requests.

    `frames_max` is the server's limit on a clip's frames, and `several` are the arguments for requests with several
    images.
    """

    def __init__(self, looks: Looks, source: Source, *, frames_max: int, several: str = "") -> None:
        self._looks = looks
        self._source = source
        self._frames_max = frames_max
        self._several = several

    async def take(
        self,
        request: Request,
        grow: Grow,
        parked: Sequence[Parked],
        journey: Journey,
        *,
        tenant: str = DEFAULT_TENANT,
    ) -> list[Media]:
        """Return the request's media, in order. Raises RequestError."""
        parts = request.media
        for part in parts:
            self._looks.check_taken(part.ask)
        journey.enter("fetch")
        contents = await self._contents(parts, grow, parked, tenant)
        journey.enter("key")
        asks = self._asks(parts, request)
        keys = [await self._key(*each, tenant) for each in zip(parts, asks, contents, strict=True)]
        journey.enter("probe")
        recipes = await self._recipes(asks, keys, contents, tenant)
        taken = zip(contents, keys, recipes, parts, strict=True)
        return [Media(content, key, recipe, tenant, part.uuid) for content, key, recipe, part in taken]

    async def _contents(
        self, parts: Sequence[MediaPart], grow: Grow, parked: Sequence[Parked], tenant: str
    ) -> list[MediaBytes | None]:
        """Return the bytes of all parts, in order; those that are not in the request are fetched concurrently."""
        brought = [_brought(part, parked) for part in parts]
        here = [each for each in brought if not isinstance(each, Away)]
        if len(here) == len(parts):
            return here
        turns = asyncio.Semaphore(FETCHES_MAX)

        async def load(part: MediaPart, known: MediaBytes | Away | None) -> MediaBytes | None:
            if not isinstance(known, Away):
                return known
            assert part.source is not None
            async with turns:
                return await self._source.load_json(part.source, grow, tenant=tenant)

        try:
            async with asyncio.timeout(FETCHES_SECONDS):
                return await _together(list(map(load, parts, brought)))
        except TimeoutError:
            raise too_slow() from None

    def _asks(self, parts: Sequence[MediaPart], request: Request) -> list[Ask]:
        asks = [self._ask(part, request) for part in parts]
        images = [ask.modality == "image" for ask in asks]
        if not self._several or sum(images) <= 1:
            return asks
        return [
            replace(ask, arguments=self._several) if image and not ask.embedded else ask
            for ask, image in zip(asks, images, strict=True)
        ]

    def _ask(self, part: MediaPart, request: Request) -> Ask:
        if part.modality != "video":
            return part.ask
        options = request.mmplane.video if request.mmplane else None
        frames_max = min(self._frames_max, (options and options.frames) or self._frames_max)
        return Ask("video", frames_max=frames_max, fps_max=(options and options.fps) or 0.0)

    async def _key(self, part: MediaPart, ask: Ask, content: MediaBytes | None, tenant: str) -> bytes:
        return await self._looks.key(ask, content, uuid=part.uuid, tenant=tenant)

    async def _recipes(
        self, asks: list[Ask], keys: list[bytes], contents: list[MediaBytes | None], tenant: str
    ) -> list[Recipe]:
        """Examine clips and sounds concurrently, by as many workers as there are."""
        return await _together([self._recipe(*item, tenant) for item in zip(asks, keys, contents, strict=True)])

    async def _recipe(self, ask: Ask, key: bytes, content: MediaBytes | None, tenant: str) -> Recipe:
        return await self._looks.recipe(ask, key, content, tenant=tenant)


def _brought(part: MediaPart, parked: Sequence[Parked]) -> MediaBytes | Away | None:
    """Return the bytes in the request, or None if it has only a name. Raises RequestError (400)."""
    if part.source is None:
        return None
    if (found := at(part.source, parked)) is not None:
        return found
    content = inline(part)
    return Away.ELSEWHERE if content is None else content


async def _together(calls: Sequence[Coroutine[None, None, ResultT]]) -> list[ResultT]:
    """Return all results, in order. If one fails, cancel the others and raise its error."""
    if len(calls) == 1:  # without a task
        return [await calls[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
