"""A follower's loop: receives plans from the leader, sends `Held` and `Position`."""

from __future__ import annotations

import select

from mmplane.core.plan import Plan
from mmplane.process.child import BEAT_SECONDS, Control
from mmplane.ranks.plan.member import Member
from mmplane.ranks.plan.wake import Wake
from mmplane.wire.link import Link


def follow(member: Member, leader: Link[Plan], control: Control, wake: Wake, limit_s: float) -> None:
    """Run a follower: receive plans, send `Held` and `Position`."""
    poller = select.poll()
    poller.register(leader, select.POLLIN)
    poller.register(wake, select.POLLIN)
    while True:
        member.clock.turn()
        control.beat()
        if member.clock.due():
            leader.send(member.clock.report(), limit_s=limit_s)
        received = leader.receive_nowait()
        if received is not None:
            member.take(received[0])
            leader.send(member.position(), limit_s=limit_s)
        if member.preparing:
            if (held := member.advance()) is not None:
                leader.send(held, limit_s=limit_s)
        elif received is None:
            with member.clock.outside():
                poller.poll(BEAT_SECONDS * 1000)
            wake.clear()
