"""The leader's loop: requests in from the front end, plans out to the followers, tokens back.

It only waits for its peers, inside the collectives of a step.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from mmplane.config import Config
from mmplane.core.control import Attach
from mmplane.core.plan import Abort, Attached, Held, LoopReport, Plan, Position, Submit, ToLeader
from mmplane.delivery.parcels import Parcels
from mmplane.process.child import BEAT_SECONDS, Control
from mmplane.ranks.plan.leader import Leader
from mmplane.ranks.plan.member import Member
from mmplane.ranks.plan.reader import ParcelReader
from mmplane.ranks.plan.wake import Wake
from mmplane.wire.link import Link, LinkError, PeerGone, PeerStalled, encode

REPORT_SECONDS = 1.0
OUTBOX_MAX = 4096
"""The maximum number of records that wait for a front end that does not read. Above it, the front end counts as gone.
"""


class LeaderLoop:
    """Runs the leader: receives requests, sends plans to the followers and tokens to the front end."""

    def __init__(
        self,
        member: Member,
        leader: Leader,
        followers: list[Link[Any]],
        streams: list[socket.socket],
        parcels: Parcels,
        wake: Wake,
        control: Control,
        config: Config,
    ) -> None:
        self._member = member
        self._leader = leader
        self._followers = followers
        self._streams = streams
        self._parcels = parcels
        self._wake = wake
        self._control = control
        self._limit_s = config.stall_seconds
        self._frame_bytes_max = config.budget_bytes
        self._reader: ParcelReader | None = None
        self._frontend: Link[Any] | None = None
        self._epoch = 0
        self._acknowledged_epoch = 0
        self._reported_s = 0.0

    def run(self) -> None:
        """Run until the supervisor ends the process, or a peer is lost (then the whole group is replaced)."""
        while True:
            self._member.clock.turn()
            self._control.beat()
            self._hear()
            plan = self._leader.propose(time.perf_counter())
            if plan is not None:
                self._lead(plan)
            preparing = self._member.preparing
            if preparing and (held := self._member.advance()) is not None:
                self._leader.held(held)
            self._acknowledge()
            self._report()
            self._flush()
            if plan is None and not preparing:
                self._wait()

    def _lead(self, plan: Plan) -> None:
        message = encode(plan)
        for follower in self._followers:
            follower.send_bytes(message, limit_s=self._limit_s)
        step, drawn = self._member.take(plan)
        self._leader.position(self._member.position())
        self._leader.sampled(step.drawn, drawn)

    def _hear(self) -> None:
        while (received := self._control.link.receive_nowait()) is not None:
            attach, (descriptor, stream) = received
            assert isinstance(attach, Attach)
            self._attach(attach.epoch, descriptor, stream)
        for follower in self._followers:
            while (received := follower.receive_nowait()) is not None:
                match received[0]:
                    case Held() as held:
                        self._leader.held(held)
                    case Position() as position:
                        self._leader.position(position)
                    case LoopReport() as report:
                        self._leader.outbox.append(report)
        while self._reader is not None and self._reader.arrived:
            request_id, relayed = self._reader.arrived.popleft()
            self._leader.arrived(request_id, relayed=relayed)
        try:
            while self._frontend is not None and (received := self._frontend.receive_nowait()) is not None:
                match received[0]:
                    case Submit() as submit:
                        self._leader.submit(submit)
                    case Abort() as abort:
                        self._leader.abort(abort)
        except LinkError:
            self._detach()

    def _attach(self, epoch: int, descriptor: int, stream: int) -> None:
        self._detach()
        self._frontend = Link(descriptor, ToLeader)
        self._reader = ParcelReader(
            socket.socket(fileno=stream),
            self._parcels,
            self._wake,
            followers=self._streams,
            limit_s=self._limit_s,
            frame_bytes_max=self._frame_bytes_max,
        )
        self._epoch = epoch

    def _detach(self) -> None:
        """The front end is gone: nobody waits for its requests."""
        if self._frontend is not None:
            self._frontend.close()
            self._frontend = None
        if self._reader is not None:
            self._reader.close()
            for request_id, relayed in self._reader.arrived:
                self._leader.arrived(request_id, relayed=relayed)
            self._reader = None
        self._leader.abort_all()

    def _acknowledge(self) -> None:
        if self._acknowledged_epoch != self._epoch and self._leader.settled:
            self._acknowledged_epoch = self._epoch
            self._leader.outbox.clear()
            self._leader.outbox.append(Attached(self._epoch))

    def _report(self) -> None:
        """Report the current state, about once a second. `_wait` reports it too, before it waits."""
        if self._member.clock.due():
            self._leader.outbox.append(self._member.clock.report())
        now_s = time.monotonic()
        if now_s - self._reported_s >= REPORT_SECONDS:
            self._reported_s = now_s
            self._leader.outbox.append(self._leader.progress())

    def _flush(self) -> None:
        outbox = self._leader.outbox
        if self._frontend is None:
            outbox.clear()
        try:
            while self._frontend is not None and outbox and self._frontend.send_nowait(outbox[0]):
                outbox.popleft()
        except PeerGone:
            self._detach()
        if len(outbox) > OUTBOX_MAX:
            # The link cannot be made again while the front end lives, so the supervisor replaces the group and connects
            # the next.
            raise PeerStalled("the front end does not read its messages")

    def _wait(self) -> None:
        """Wait, when idle, until a message arrives or a heartbeat is due."""
        if self._frontend is not None and not self._leader.outbox:
            self._leader.outbox.append(self._leader.progress())
            self._flush()
        poller = select.poll()
        poller.register(self._control.link, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        for link in (*self._followers, *([self._frontend] if self._frontend else [])):
            poller.register(link, select.POLLIN)
        if self._frontend is not None and self._leader.outbox:
            poller.register(self._frontend, select.POLLIN | select.POLLOUT)
        with self._member.clock.outside():
            poller.poll(BEAT_SECONDS * 1000)
        self._wake.clear()
