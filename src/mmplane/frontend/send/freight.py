"""Freight: how the items of one request leave the front end, with one class for each form in which they are sent.

SlotFreight   through the arena: workers write the features, and the record refers to them
Media         the encoded media, inline: ranks materialise it
Features      materialised in this process's threads, then sent inline
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from msgspec.structs import replace

from mmplane.core.errors import RequestError, not_held
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.core.plan import NOTHING, Work
from mmplane.core.records import Enclosed, Item, Recipe
from mmplane.core.stages import Span
from mmplane.delivery.compact import Compactor
from mmplane.delivery.feature_hash import Hashed, hash_features, with_hashes
from mmplane.delivery.tensors import tensors_of
from mmplane.features.choice import Processors
from mmplane.features.contract.arrays import ALIGN_BYTES
from mmplane.frontend.request.intake import Media
from mmplane.frontend.send.parcels import Buffer
from mmplane.items.parked import bytes_of
from mmplane.items.store import Asset, ItemStore
from mmplane.media.materialise import Made, materialise, recode
from mmplane.observe.journey import FRONT_END
from mmplane.waiting.budget import Budget, Reservation


@dataclass
class Load:
    """The items of one request, ready to be sent. `parcel` is sent inline, its parts one after the other."""

    items: tuple[Item | Enclosed, ...]
    hits: tuple[bool, ...]
    """For each item, whether it had been materialised already."""
    parcel: list[Buffer] = field(default_factory=list)
    spans: Sequence[Span] = ()
    """The spans of all processes that made them."""
    work: Work = NOTHING
    """Statistics of materialising in this process or its workers."""
    bytes_written: int = 0
    release: Callable[[], None] = lambda: None
    """Call once the request has been handed over: from then on the ranks' own claims count."""
    reservation: Reservation | None = None
    """Bytes that the parcel occupies here and on the ranks, until the ranks hold the request or have dropped it."""

    def free(self) -> None:
        """Release the items. Idempotent."""
        if self.reservation is not None:
            self.reservation.release()


class Freight(ABC):
    """Creates a `Load` of a request's media."""

    @abstractmethod
    async def load(self, media: Sequence[Media], tag: int, *, probe: bool) -> Load:
        """Return the items, ready to be sent. Raises RequestError, and then holds nothing.

        `tag` names the request. Items of a `probe` are not looked up and not counted anywhere.
        """


class SlotFreight(Freight):
    """Sends items through the arena. With `patient`, items wait for room in it."""

    def __init__(self, store: ItemStore, *, patient: bool = True) -> None:
        self._store = store
        self._patient = patient

    async def load(self, media: Sequence[Media], tag: int, *, probe: bool) -> Load:
        """Prepare all items concurrently. If one fails, the others stop waiting and the first error is raised."""
        self._store.check_together((item.key, item.recipe) for item in media)  # each would wait for the others' memory
        assets: dict[int, Asset] = {}

        async def one(index: int, item: Media) -> None:
            assets[index] = await self._store.acquire(
                item.key, item.content, item.recipe, tag, tenant=item.tenant, probe=probe, patient=self._patient
            )

        def release() -> None:
            while assets:
                self._store.release(assets.popitem()[1].item, tag)

        try:
            if len(media) == 1:  # without a task
                await one(0, media[0])
            else:
                async with asyncio.TaskGroup() as tasks:
                    for index, item in enumerate(media):
                        tasks.create_task(one(index, item))
        except BaseExceptionGroup as errors:
            release()
            raise _first(errors) from None
        except BaseException:
            release()
            raise
        held = [assets[index] for index in range(len(media))]
        spans = [span for asset in held for span in asset.spans]
        made_s = sum(span.seconds for span in spans if span.stage in ("decode", "transform"))
        return Load(
            tuple(asset.item for asset in held),
            tuple(asset.hit for asset in held),
            spans=spans,
            work=Work(sum(not asset.hit for asset in held), made_s * 1000),
            release=release,
        )


class MediaFreight(Freight):
    """Sends encoded media inline. Reserves what the ranks will hold: its copies and the features made of it."""

    def __init__(self, budget: Budget, *, copies: int, ranks: int) -> None:
        self._budget = budget
        self._copies = copies
        self._ranks = ranks

    async def load(self, media: Sequence[Media], tag: int, *, probe: bool) -> Load:  # noqa: ARG002
        """Only determine where each item is in the parcel."""
        features_bytes = sum(item.recipe.layout.length_bytes for item in media)
        contents = [held(item) for item in media]
        media_bytes = sum(map(len, contents))
        length_bytes = media_bytes * self._copies + features_bytes * self._ranks
        reservation = self._budget.reserve(length_bytes, _tenant(media))
        inside = [Inside(item.recipe, media=True) for item in media]
        items, parcel = enclose(media, contents, inside)
        return Load(items, (False,) * len(media), parcel, reservation=reservation)


class FeatureFreight(Freight):
    """Makes features here and sends them inline. Uses `threads` threads; 0 blocks the event loop.

    `compact` are processors with a smaller encoding than that of the layouts, and a packer for further compression.
    """

    def __init__(
        self,
        processors: Processors,
        budget: Budget,
        *,
        copies: int,
        threads: int,
        feature_hash: bool,
        compact: tuple[Processors, Compactor] | None = None,
    ) -> None:
        self._processors = processors
        self._budget = budget
        self._copies = copies
        self._pool = ThreadPoolExecutor(threads, "materialise") if threads else None
        self._feature_hash = feature_hash
        self._compact = compact

    async def load(self, media: Sequence[Media], tag: int, *, probe: bool) -> Load:  # noqa: ARG002
        """Make all items concurrently, each in a thread."""
        length_bytes = sum(item.recipe.layout.length_bytes for item in media) * self._copies
        reservation = self._budget.reserve(length_bytes, _tenant(media))
        try:
            made = await self._make_all(media)
        except BaseException:
            reservation.release()
            raise
        items, parcel = enclose(media, [each.content for each in made], inside=[each.inside for each in made])
        took = [each.took for each in made]
        work = Work(len(took), sum(each.decode_ms + each.transform_ms for each in took))
        return Load(
            items,
            (False,) * len(media),
            parcel,
            [span for each in took for span in each.spans(FRONT_END)],
            work=with_hashes(work, [each.hashed for each in made if each.hashed is not None]),
            bytes_written=sum(each.bytes_written for each in took),
            reservation=reservation,
        )

    async def _make_all(self, media: Sequence[Media]) -> list[_Done]:
        if self._pool is None:
            return [self._make(item) for item in media]
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(self._pool, self._make, item) for item in media))

    def _make(self, item: Media) -> _Done:
        processors, recipe, packed = self._processors, item.recipe, None
        content = held(item)
        if self._compact is not None:
            processors = self._compact[0]
            recipe = recode(processors, item.recipe, content)
        out = bytearray(recipe.layout.length_bytes)
        took = materialise(processors, content, recipe, memoryview(out))
        hashed = hash_features(tensors_of(recipe.layout.tensors, memoryview(out))) if self._feature_hash else None
        if self._compact is not None:
            packed = self._compact[1].pack(memoryview(out))
        inside = Inside(recipe, packed=packed is not None, feature_hash=hashed.value if hashed else None)
        return _Done(took, hashed, out if packed is None else packed, inside)


def held(item: Media) -> bytes:
    """Return the item's encoded bytes. Raises RequestError (404) if the client only sent a name."""
    if item.content is None:
        raise not_held()
    return bytes_of(item.content)


@dataclass(frozen=True)
class Inside:
    """The kind of an item's bytes in a parcel."""

    recipe: Recipe
    media: bool = False
    packed: bool = False
    feature_hash: int | None = None


@dataclass(frozen=True)
class _Done:
    took: Made
    hashed: Hashed | None
    content: Buffer
    inside: Inside


def enclose(
    media: Sequence[Media], contents: Sequence[Buffer], inside: Sequence[Inside]
) -> tuple[tuple[Enclosed, ...], list[Buffer]]:
    """Return the items and the parcel with their bytes, each on an `ALIGN_BYTES` boundary."""
    items: list[Enclosed] = []
    parcel: list[Buffer] = []
    end_bytes = 0
    for item, content, what in zip(media, contents, inside, strict=True):
        padding_bytes = -end_bytes % ALIGN_BYTES
        start_bytes = end_bytes + padding_bytes
        # The prompt is already expanded, so ranks only need the layout's tensors.
        recipe = replace(what.recipe, layout=replace(what.recipe.layout, expansion=()))
        items.append(Enclosed(item.key, recipe, start_bytes, len(content), what.media, what.packed, what.feature_hash))
        parcel += [bytes(padding_bytes), content] if padding_bytes else [content]
        end_bytes = start_bytes + len(content)
    return tuple(items), parcel


def _tenant(media: Sequence[Media]) -> str:
    return media[0].tenant if media else DEFAULT_TENANT


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the group's first RequestError, or else its first error."""
    found: BaseException = errors.subgroup(RequestError) or errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
