"""A process's connection to a sidecar: a socket, a thread that reads it, and the reconnection to a successor.

Only the thread reads. Any thread may send: a record is one message, which is sent completely or not at all. When the
sidecar ends, open calls fail with `Lost`, and the thread attaches to the next sidecar that listens at the same path.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from threading import Event, Thread
from typing import Any
from weakref import finalize

from mmplane.arena.errors import ArenaError
from mmplane.core.records import Record
from mmplane.embed.errors import Lost, NotAttached, error_of
from mmplane.embed.media import sealed
from mmplane.embed.windows import Register, Windows
from mmplane.sidecar.records import (
    CLAIMS_MAX,
    VERSION,
    Abandon,
    Bye,
    Bytes,
    Ended,
    Failed,
    Forget,
    FromKeeper,
    Hello,
    Holding,
    Leasing,
    Mapped,
    NeedBytes,
    Refused,
    Region,
    RegionUp,
    Release,
    Reserved,
    Revoke,
    Welcome,
)
from mmplane.wire.link import SEND_BUFFER_BYTES, Link, LinkError

HELLO_SECONDS = 30.0
"""How long a sidecar that is starting may take to answer."""
RETRY_SECONDS = 0.1
"""The time between two attempts to attach to a successor."""
SEND_SECONDS = 5.0
_UNUSABLE = (ArenaError, OSError, ValueError)
"""What mapping a region may raise; then this process attaches again."""


@dataclass
class Call:
    """An open request, and the media that the answer may need. `then` turns the answer into the result."""

    future: Future[Any]
    then: Callable[[Any, Plane], Any]
    media: bytes | memoryview = b""


@dataclass
class Plane:
    """The plane of one sidecar, as this process is attached to it."""

    link: Link[Any]
    windows: Windows
    welcome: Welcome
    calls: dict[int, Call] = field(default_factory=dict)
    ended: bool = False


class Attachment:
    """Attached to the sidecar at `path` from now on. Raises Lost if there is none, NotAttached if it refuses.

    A sidecar that is starting may take `wait_s` until it listens.

    In a process that was forked later, every call raises Lost.
    """

    def __init__(
        self, path: str | os.PathLike[str], hello: Hello, *, register: Register | None = None, wait_s: float = 0.0
    ) -> None:
        self.path = os.fspath(path)
        self._hello = hello
        self._register = register
        self._pid = os.getpid()
        self._requests = count(1)
        self._untold: deque[tuple[Plane, Record]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Not in `close`: a finalizer in another thread may be about to write to it.
        finalize(self, os.close, self._wake).atexit = False
        self._closed = Event()
        self.attached = Event()
        """Set while there is a sidecar."""
        self._unsettled = False
        """Whether claims have ended here that will be reported soon."""
        self.former: Plane | None = None
        """The plane of the previous sidecar. Its memory exists as long as a process maps it, and nobody writes to it.
        """
        self._plane = self._attach_within(wait_s)
        self._say_mapped()
        self.attached.set()
        self._thread = Thread(target=self._run, name="mmplane: sidecar", daemon=True)
        self._thread.start()

    @property
    def plane(self) -> Plane:
        """The present plane, or the last one. Raises Lost in a forked process."""
        if os.getpid() != self._pid:
            raise Lost("this process was forked from the one that attached: attach again")
        return self._plane

    def call(
        self,
        ask: Callable[[int], Record],
        then: Callable[[Any, Plane], Any],
        *,
        media: bytes | memoryview = b"",
        along: bool = False,
    ) -> Future[Any]:
        """Send a request. The future's result is what `then` makes of the answer, in the thread; its error is typed.

        `media` is sent when the sidecar asks for it, or immediately with `along`. Cancelling the future cancels the
        request.
        """
        plane, request = self.plane, next(self._requests)
        future: Future[Any] = Future()
        plane.calls[request] = Call(future, then, media)
        try:
            if self._unsettled:
                self._settle()  # what has ended may be the room that this needs
            if not (along and _send_with_media(plane.link, ask(request), media)):
                plane.link.send(ask(request), limit_s=SEND_SECONDS)
        except LinkError as error:
            plane.calls.pop(request, None)
            raise Lost("the sidecar has ended, or does not read") from error
        if plane.ended:  # it has ended in the meantime, so nobody will answer
            self._fail_all(plane)
        future.add_done_callback(partial(self._called_off, plane, request))
        return future

    def tell(self, plane: Plane, record: Record) -> None:
        """Send a record without an answer. May be called from a finalizer; it does not wait."""
        if plane.ended or os.getpid() != self._pid:
            return
        with suppress(LinkError):
            if self._untold or not plane.link.send_nowait(record):
                self._untold.append((plane, record))
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Detach: now, or if arrays are alive, as soon as the last of them is gone."""
        if self._closed.is_set() or os.getpid() != self._pid:
            return
        self._closed.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._settle()
        self.former = None
        self._leave(self._plane)

    def _leave(self, plane: Plane) -> None:
        """Say goodbye, which ends all holds and leases, if none is in use here."""
        if plane.windows.is_idle and not plane.ended:
            with suppress(LinkError):
                plane.link.send_nowait(Bye())
            plane.ended = True
            plane.link.close()
            plane.windows.unmap()

    # The thread.

    def _run(self) -> None:
        while not self._closed.is_set():
            plane = self._plane
            with suppress(LinkError, *_UNUSABLE):
                self._read(plane)
            if self._closed.is_set():
                return
            plane.ended = True
            self.attached.clear()
            self._fail_all(plane)
            plane.link.close()
            while not self._closed.is_set() and plane is self._plane:
                try:
                    successor = self._attach()
                except (Lost, NotAttached, *_UNUSABLE):
                    self._closed.wait(RETRY_SECONDS)
                    continue
                self.former, self._plane = plane, successor
                self._say_mapped()
                self.attached.set()

    def _read(self, plane: Plane) -> None:
        poller = select.poll()
        poller.register(plane.link, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while not self._closed.is_set():
            poller.modify(plane.link, select.POLLIN | (select.POLLOUT if self._untold else 0))
            for ready, _ in poller.poll():
                if ready == self._wake:
                    os.eventfd_read(self._wake)
            self._settle()
            if (received := plane.link.receive_nowait()) is not None:
                self._heard(plane, *received)
            self._tell_untold()

    def _tell_untold(self) -> None:
        while self._untold:
            plane, record = self._untold[0]
            if not plane.ended and not plane.link.send_nowait(record):
                return
            self._untold.popleft()

    def _heard(self, plane: Plane, record: FromKeeper, descriptors: list[int]) -> None:
        match record:
            case RegionUp():
                self._map(plane.windows, (record.region,), descriptors)
                if self._hello.role == "rank":
                    plane.link.send(Mapped((record.region.region,)), limit_s=SEND_SECONDS)
            case NeedBytes():
                self._send_bytes(plane, record.request)
            case Failed():
                self._fail(plane, record.request, error_of(record.failure))
            case Welcome() | Refused():
                pass
            case _:
                self._answered(plane, record)

    def _send_bytes(self, plane: Plane, request: int) -> None:
        call = plane.calls.get(request)
        if call is None:
            return
        if _send_with_media(plane.link, Bytes(request), call.media):
            return
        self._fail(plane, request, Lost("there is no memory to send media to the sidecar"))
        plane.link.send(Forget(request), limit_s=SEND_SECONDS)

    def _answered(self, plane: Plane, answer: Any) -> None:
        call = plane.calls.pop(answer.request, None)
        if call is None or not call.future.set_running_or_notify_cancel():
            self._undo(plane, answer)
            return
        try:
            call.future.set_result(call.then(answer, plane))
        except Exception as error:  # noqa: BLE001 - it is for whoever waits; the thread goes on
            self._undo(plane, answer)
            call.future.set_exception(error)

    def _undo(self, plane: Plane, answer: Any) -> None:
        """Nobody waits for this answer any more, so return what it gave."""
        match answer:
            case Holding():
                self.tell(plane, Release((answer.hold,)))
            case Reserved():
                self.tell(plane, Abandon(answer.slot))
            case Leasing():
                self.tell(plane, Revoke((answer.lease,)))

    def _fail(self, plane: Plane, request: int, error: Exception) -> None:
        call = plane.calls.pop(request, None)
        if call is not None and call.future.set_running_or_notify_cancel():
            call.future.set_exception(error)

    def _fail_all(self, plane: Plane) -> None:
        for request in list(plane.calls):
            self._fail(plane, request, Lost("the sidecar has ended"))

    def _called_off(self, plane: Plane, request: int, future: Future[Any]) -> None:
        if future.cancelled() and plane.calls.pop(request, None) is not None:
            self.tell(plane, Forget(request))

    def _attach_within(self, wait_s: float) -> Plane:
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                return self._attach()
            except Lost:
                if time.monotonic() >= deadline_s:
                    raise
                time.sleep(RETRY_SECONDS)

    def _attach(self) -> Plane:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            end.settimeout(HELLO_SECONDS)
            end.connect(self.path)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        except OSError as error:
            end.close()
            raise Lost(f"there is no sidecar at {self.path}: {error.strerror}") from error
        link: Link[FromKeeper] = Link(end, FromKeeper)
        try:
            return self._greet(link)
        except BaseException:
            link.close()
            raise

    def _greet(self, link: Link[FromKeeper]) -> Plane:
        try:
            link.send(self._hello, limit_s=SEND_SECONDS)
            received = link.receive(limit_s=HELLO_SECONDS)
        except LinkError as error:
            raise Lost("the sidecar ended while this process was attaching") from error
        match received:
            case (Refused() as refused, _):
                raise NotAttached(refused.reason)
            case (Welcome() as welcome, descriptors) if welcome.version == VERSION:
                windows = Windows(
                    welcome.plane,
                    lambda claims: self._claims_ended(plane, claims),
                    self._register,
                    later=self._settle_later,
                )
                plane = Plane(link, windows, welcome)
                self._map(windows, welcome.regions, descriptors, own=welcome.own)
                return plane
        raise Lost("the sidecar does not answer")

    def _say_mapped(self) -> None:
        """Report the mapped regions. From now on records of this plane may reach a rank, so it must know the plane."""
        if self._hello.role == "rank":
            regions = tuple(each.region for each in self._plane.welcome.regions)
            with suppress(LinkError):  # it has ended in the meantime; the thread will notice
                self._plane.link.send(Mapped(regions), limit_s=SEND_SECONDS)

    def _map(self, windows: Windows, regions: Sequence[Region], descriptors: Sequence[int], *, own: int = 0) -> None:
        rank = self._hello.role == "rank"
        try:
            for each, descriptor in zip(regions, descriptors, strict=True):
                access = "writable" if own and each.region == own else self._hello.access
                windows.map(each.region, descriptor, each.length_bytes, access, populate=rank)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _settle_later(self) -> None:
        """A claim has ended. Of a rank's, the thread takes care, and not the one that computes.

        A producer's holds that end in one turn of an event loop are reported in the next, by one message.
        """
        if self._closed.is_set():
            self._settle()
        elif self._unsettled:
            return
        elif self._hello.role == "rank":
            self._unsettled = True
            os.eventfd_write(self._wake, 1)
        elif (loop := _running_loop()) is not None:
            self._unsettled = True
            loop.call_soon(self._settle)
        else:
            self._settle()

    def _settle(self) -> None:
        self._unsettled = False
        for plane in filter(None, (self.former, self._plane)):
            plane.windows.settle()

    def _claims_ended(self, plane: Plane, claims: Sequence[int]) -> None:
        record = Ended if self._hello.role == "rank" else Release
        for start in range(0, len(claims), CLAIMS_MAX):
            self.tell(plane, record(tuple(claims[start : start + CLAIMS_MAX])))
        if self._closed.is_set():
            self._leave(plane)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _send_with_media(link: Link[Any], record: Record, media: bytes | memoryview) -> bool:
    """Send a record with media in sealed memory. False if there is no memory for it. Raises LinkError."""
    try:
        memory = sealed(media)
    except OSError:
        return False
    try:
        link.send(record, [memory], limit_s=SEND_SECONDS)
    finally:
        os.close(memory)
    return True
