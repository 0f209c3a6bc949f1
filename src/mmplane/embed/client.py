"""A producer that uses a sidecar: media in, features for every rank out, made once for all attached processes.

    client = connect("/run/mmplane.sock")
    with client.materialise(jpeg) as hold:
        message = hold.lease(0).encode()                   # for the ranks of group 0
        pixels = hold.arrays(numpy)["pixel_values"]        # in place

Each call has a blocking form and one for asyncio, which begins with `a` and never blocks the event loop for long.
Several threads may make calls.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import msgspec

from mmplane.arena.arrays import dtype_name
from mmplane.core.records import Item, Modality, Record, Tensor
from mmplane.embed.attachment import Attachment, Plane
from mmplane.embed.awaited import awaited
from mmplane.embed.draft import Draft
from mmplane.embed.errors import BadMedia, Lost, SidecarError
from mmplane.embed.hold import SidecarHold
from mmplane.embed.janitor import revoke
from mmplane.embed.layout import pack
from mmplane.embed.media import Layout, MediaSource
from mmplane.embed.records import Leased
from mmplane.embed.series import AHEAD, AHEAD_PER_WORKER, in_order
from mmplane.embed.wanted import Asked, Read, Wanted
from mmplane.sidecar.records import (
    VERSION,
    Abandon,
    Await,
    Describe,
    Described,
    Figures,
    Find,
    Hello,
    Holding,
    Lease,
    Leasing,
    Obtain,
    Publish,
    Report,
    Reserve,
    Reserved,
)

ResultT = TypeVar("ResultT")
ALONG_BYTES_MAX = 512 * 1024
"""Longer media waits for its turn in this process; until then it takes no memory of the sidecar."""
LATELY_MAX = 4096


class Client:
    """Attached as a producer. `arena_bytes` is for `put` and `draft`; `limit_s` limits a blocking call.

    A sidecar that is starting may take `wait_s` until it listens. With several `groups` of ranks, numbered from 0, a
    lease without a group leaves open which of them gets its message.

    Raises Lost if no sidecar listens at `path`, NotAttached if it refuses this process or has another `fingerprint`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        arena_bytes: int = 0,
        fingerprint: bytes = b"",
        limit_s: float = 120.0,
        wait_s: float = 0.0,
        groups: int = 1,
    ) -> None:
        self._limit_s = limit_s
        self._groups = groups
        hello = Hello(VERSION, "producer", fingerprint=fingerprint, region_bytes=arena_bytes)
        self._attachment = Attachment(path, hello, wait_s=wait_s)
        self._lately: OrderedDict[bytes, None] = OrderedDict()

    # Media.

    def layout(self, media: MediaSource, **asked: Unpack[Asked]) -> Layout:
        """What media becomes. Reads only an image's header; a worker examines clips and sounds once.

        Raises BadMedia, TooLarge, Full, Lost.
        """
        return self._wait(self._describe(Wanted(media, **asked).read()))

    async def alayout(self, media: MediaSource, **asked: Unpack[Asked]) -> Layout:
        """`layout`, for asyncio."""
        return await awaited(self._describe(await Wanted(media, **asked).aread()))

    def materialise(self, media: MediaSource, **asked: Unpack[Asked]) -> SidecarHold:
        """Return a hold on the media's features, which are made once as long as they are resident.

        `mmplane.embed.wanted.Asked` lists the options. Raises BadMedia, TooLarge, Full, Lost.
        """
        return self._wait(self._obtain(Wanted(media, **asked).read()))

    async def amaterialise(self, media: MediaSource, **asked: Unpack[Asked]) -> SidecarHold:
        """`materialise`, for asyncio. Cancelling it cancels the request."""
        return await awaited(self._obtain(await Wanted(media, **asked).aread()))

    def map(
        self, medias: Iterable[MediaSource], *, ahead: int | None = None, failures: bool = False, **asked: Unpack[Asked]
    ) -> Iterator[SidecarHold | SidecarError]:
        """Return holds on the features of all media, in order. At most `ahead` items are read and requested at a time.

        The default is enough to keep all workers busy. Release each hold when you are done with it. If there is no room
        for that many, fewer are made ahead. With `failures`, an item's error is returned in its place instead of
        raised.
        """
        if ahead is None:
            workers = self.statistics()["workers"]["states"]
            ahead = max(AHEAD, AHEAD_PER_WORKER * sum(workers.values()))
        wanted = (Wanted(media, **asked) for media in medias)
        return in_order(wanted, self._begin, self._wait, ahead=ahead, failures=failures)

    def _begin(self, wanted: Wanted) -> Future[SidecarHold]:
        return self._obtain(wanted.read())

    # Features that exist already.

    def get(self, key: bytes) -> SidecarHold | None:
        """The features that a producer has put under this key, or the item with this `Hold.key`; None if not resident.

        Raises Lost.
        """
        with suppress(BadMedia):
            return self._wait(self._found(key))
        return None

    def put(self, key: bytes, arrays: Mapping[str, Any], *, modality: Modality = "image") -> SidecarHold:
        """Put features by name (NumPy arrays or CPU tensors), which are written once for each key while resident.

        `key` (up to 64 bytes) must identify their content completely. Raises Full, TooLarge, Lost.
        """
        held = self.get(key)
        if held is not None:
            return held
        draft = self.draft([(name, dtype_name(one), tuple(one.shape)) for name, one in arrays.items()])
        draft.fill_all(arrays)
        hold = draft.publish(key, modality=modality)
        assert isinstance(hold, SidecarHold)
        return hold

    def draft(self, arrays: Sequence[tuple[str, str, tuple[int, ...]]]) -> Draft:
        """A slot of this producer's region to write in place: (name, dtype, shape) of each array.

        Raises Full, TooLarge, Lost, and ValueError if the client was created without `arena_bytes`.
        """
        if not self._attachment.plane.welcome.own:
            raise ValueError("this client has no region to write to: use connect(path, arena_bytes=...)")
        tensors, length_bytes = pack(arrays)
        then = partial(self._drafted, tensors)
        draft: Draft = self._wait(self._attachment.call(lambda request: Reserve(request, length_bytes), then))
        return draft

    # Ranks and the sidecar itself.

    def wait_ranks(self, group: int = 0) -> None:
        """Wait until every rank of the group is attached. Raises Lost if that takes longer than `limit_s`."""
        self._wait(self._attachment.call(lambda request: Await(request, group), _nothing))

    def revoke(self, *leased: Leased) -> None:
        """These records were never sent and never will be. May be called from a finalizer."""
        revoke(self._attachment, leased)

    def wait(self) -> None:
        """Wait until a sidecar is attached; after Lost, its successor. Raises Lost if that takes too long."""
        if not self._attachment.attached.wait(self._limit_s):
            raise Lost(f"no sidecar listens at {self._attachment.path}")

    @property
    def is_attached(self) -> bool:
        """Whether a sidecar is attached now; false from its end until this process has attached to its successor."""
        return self._attachment.attached.is_set()

    @property
    def fingerprint(self) -> bytes:
        """The fingerprint of the sidecar's processors: equal fingerprints mean equal features."""
        return self._attachment.plane.welcome.fingerprint

    def statistics(self) -> dict[str, Any]:
        """The sidecar's figures: sessions, leases, materialisations, memory. Raises Lost."""
        figures: dict[str, Any] = self._wait(self._attachment.call(Report, _figures))
        return figures

    def close(self) -> None:
        """Detach: now, or if arrays of holds are alive, as soon as the last of them is gone."""
        self._attachment.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Shared by all calls.

    def _found(self, key: bytes) -> Future[SidecarHold]:
        return self._attachment.call(lambda request: Find(request, key), self._held)

    def _describe(self, read: Read) -> Future[Layout]:
        return self._ask_about(read, lambda request: Describe(request, read.media), _layout)

    def _obtain(self, read: Read) -> Future[SidecarHold]:
        return self._ask_about(read, lambda request: Obtain(request, read.media), self._held)

    def _ask_about(
        self, read: Read, ask: Callable[[int], Record], then: Callable[[Any, Plane], ResultT]
    ) -> Future[ResultT]:
        """Send the bytes along for media that this client has not asked for lately; a repeat most likely needs none."""
        content, digest = read.content, read.media.digest
        along = len(content) <= ALONG_BYTES_MAX and digest not in self._lately
        self._lately[digest] = None
        if len(self._lately) > LATELY_MAX:
            self._lately.popitem(last=False)
        future: Future[ResultT] = self._attachment.call(ask, then, media=content, along=along)
        return future

    def _held(self, answer: Holding, plane: Plane) -> SidecarHold:
        window = plane.windows.open(answer.hold, answer.item.slot)
        lease = partial(self._lease, plane, answer.hold)
        return SidecarHold(answer.item, window, lease, wait=self._wait, hit=answer.hit)

    def _drafted(self, tensors: tuple[Tensor, ...], answer: Reserved, plane: Plane) -> Draft:
        window = plane.windows.window(plane.welcome.own)
        abandon = partial(self._attachment.tell, plane, Abandon(answer.slot))
        return Draft(answer.slot, tensors, window, publish=partial(self._publish, plane), abandon=abandon)

    def _publish(self, plane: Plane, item: Item) -> SidecarHold:
        self._check(plane)
        hold: SidecarHold = self._wait(self._attachment.call(lambda request: Publish(request, item), self._held))
        return hold

    def _lease(self, plane: Plane, hold: int, item: Item, group: int | None) -> Future[Leased]:
        self._check(plane)

        def then(answer: Leasing, plane: Plane) -> Leased:
            return Leased(answer.lease, item, plane.windows.plane, answer.life)

        groups = self._groups if group is None and self._groups > 1 else 0
        return self._attachment.call(lambda request: Lease(request, hold, group or 0, groups), then)

    def _check(self, plane: Plane) -> None:
        if plane.ended or plane is not self._attachment.plane:
            raise Lost("the sidecar that made this item has ended")

    def _wait(self, future: Future[ResultT]) -> ResultT:
        try:
            return future.result(self._limit_s)
        except TimeoutError:
            future.cancel()
            raise Lost(f"no answer from the sidecar within {self._limit_s:g} s") from None
        finally:
            # The future has the error, whose traceback has this frame and those of all callers. A name for it here
            # would make a cycle, and callers' objects would stay until the next garbage collection.
            del future


def connect(
    path: str | os.PathLike[str],
    *,
    arena_bytes: int = 0,
    fingerprint: bytes = b"",
    limit_s: float = 120.0,
    wait_s: float = 0.0,
    groups: int = 1,
) -> Client:
    """Attach to the sidecar at this socket, as a producer: see `Client`."""
    return Client(path, arena_bytes=arena_bytes, fingerprint=fingerprint, limit_s=limit_s, wait_s=wait_s, groups=groups)


def _layout(answer: Described, _: Plane) -> Layout:
    return Layout(answer.modality, answer.key, answer.layout.tensors, answer.layout.expansion)


def _figures(answer: Figures, _: Plane) -> Any:
    return msgspec.json.decode(answer.json)


def _nothing(*_: object) -> None:
    """A Done has no content."""
