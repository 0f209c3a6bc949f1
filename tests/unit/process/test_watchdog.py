"""The watchdog over a real child and a clock of ours: out of service, condemned with its stacks, killed, replaced."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from process_programs import HANG_S, has_ended, program

from mmplane.core.control import FromChild
from mmplane.process.handle import Child, Handle
from mmplane.process.stacks import Stacks, state_of
from mmplane.process.stillness import Stillness
from mmplane.process.watchdog import ANSWER_S, CALM_SECONDS, LOOK_SECONDS, Watchdog
from mmplane.wire.link import Link, pair

CHILD = """
from mmplane.process.stacks import answer_with_stacks
answer_with_stacks(int(sys.argv[2]))
def stands_here():
    report("up")
    while True: signal.pause()
stands_here()
"""
STALL_S, ITEM_S, LOAD_S = 5.0, 30.0, 20.0


class Rig:
    """A watchdog, the clock that it reads, and a child that is ready."""

    def __init__(self, kind: type[Watchdog], child: Child) -> None:
        self.now_s = 0.0
        self.dog = kind(stall_s=STALL_S, item_s=ITEM_S, load_s=LOAD_S, now=lambda: self.now_s)
        self.child = child
        child.ready, child.stillness = True, Stillness(0.0)

    def pass_by(self, seconds: float, *, beating: bool = False) -> None:
        """So much time, a look at a time."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += LOOK_SECONDS
            if beating:
                self.child.stillness.heard(self.now_s)
            self.dog.look([self.child])

    def stop(self, *, told: bool = True) -> None:
        """The nursery tells of it, unless a debugger has stopped it."""
        self.child.handle.signal(signal.SIGSTOP)
        os.waitid(os.P_PIDFD, self.child.handle.pidfd, os.WSTOPPED)
        if told:
            self.child.stillness.seen(self.now_s, stopped=True)


@contextmanager
def rig(kind: type[Watchdog] = Watchdog, role: str = "rank") -> Iterator[Rig]:
    with ExitStack() as closed_later:
        stacks = Stacks()
        closed_later.callback(stacks.close)
        closed_later.callback(stacks.handed_over)
        ours, theirs = pair()
        closed_later.enter_context(theirs)
        link: Link[FromChild] = Link(ours, FromChild)
        closed_later.callback(link.close)
        process = closed_later.enter_context(program(CHILD, pass_fds=(stacks.write,), arguments=(str(stacks.write),)))
        assert process.line() == "up"
        handle = Handle.of_child(process.process.pid)
        closed_later.callback(os.close, handle.pidfd)
        yield Rig(kind, Child(role, 1, handle, link, stacks))


def is_dead(child: Child) -> bool:
    return bool(select.select([child.handle.pidfd], [], [], 0)[0])


def check_stopped(kind: type[Watchdog] = Watchdog) -> None:
    """Whatever its role and whatever its beats say: out of service after a second, dead after the limit."""
    for role in ("worker", "rank"):
        with rig(kind, role) as one:
            one.pass_by(3, beating=True)
            assert one.dog.out_of_service == ()
            one.stop()
            one.pass_by(2)
            assert one.dog.out_of_service == (f"{role} 1",)
            assert one.child.condemned_s is None
            one.pass_by(STALL_S)
            assert has_ended(one.child.handle.pidfd)
            assert one.dog.out_of_service == (f"{role} 1",), "until there is another"


def check_stuck(kind: type[Watchdog] = Watchdog) -> None:
    """Silent, not stopped: a rank after the limit, a worker when its item should be done as well."""
    for role, limit_s in (("rank", STALL_S), ("worker", STALL_S + ITEM_S)):
        with rig(kind, role) as one:
            one.pass_by(limit_s - 1)
            assert one.child.condemned_s is None
            while one.child.condemned_s is None:
                assert one.now_s < limit_s + 1
                one.pass_by(LOOK_SECONDS)
            assert not is_dead(one.child)
            assert select.select([one.child.stacks._read], [], [], HANG_S)[0], "it says where it stands"
            while state_of(one.child.handle.pid) != "S":
                pass  # it is still writing: each line is a write of its own
            one.pass_by(2 * ANSWER_S + LOOK_SECONDS)
            assert has_ended(one.child.handle.pidfd)


def test_stopped() -> None:
    check_stopped()


def test_stuck(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mmplane"):
        check_stuck()
    stacks = [getattr(record, "stacks", "") for record in caplog.records]
    assert any("stands_here" in text for text in stacks)
    assert any("State: " in text for text in stacks), "the kernel's side"


@pytest.mark.parametrize(("state", "hint"), [("computing", "--compute-stall-seconds"), ("loading", "--load-seconds")])
def test_a_slow_model_is_told_of_its_limit(state: str, hint: str, caplog: pytest.LogCaptureFixture) -> None:
    for slow in (True, False):
        with rig() as one, caplog.at_level(logging.WARNING, "mmplane"):
            caplog.clear()
            one.child.computing = slow and state == "computing"
            one.child.ready = not (slow and state == "loading")
            one.pass_by((STALL_S if one.child.ready else LOAD_S) - 1)
            assert one.child.condemned_s is None
            one.pass_by(2)
            assert (hint in caplog.text) == slow


def test_it_goes_on() -> None:
    with rig() as one:
        one.stop()
        one.pass_by(2)
        assert one.dog.out_of_service
        one.child.handle.signal(signal.SIGCONT)
        os.waitid(os.P_PIDFD, one.child.handle.pidfd, os.WCONTINUED)
        one.pass_by(60, beating=True)
        assert one.dog.out_of_service == ()
        assert not is_dead(one.child)


def check_frozen_together(kind: type[Watchdog] = Watchdog) -> None:
    """The watchdog was stopped with the child, and goes on first, in the middle, or last."""
    for stopped_s in (0.0, 0.1, 0.6):
        with rig(kind) as one:
            one.pass_by(3, beating=True)
            one.dog.due_s([one.child])
            one.stop()
            one.now_s += 3600.0
            one.pass_by(stopped_s)
            one.child.handle.signal(signal.SIGCONT)
            os.waitid(os.P_PIDFD, one.child.handle.pidfd, os.WCONTINUED)
            one.pass_by(STALL_S - 1.0)
            one.pass_by(10, beating=True)
            assert one.dog.out_of_service == ()
            assert one.child.condemned_s is None


def test_frozen_together() -> None:
    check_frozen_together()


def check_starving(kind: type[Watchdog] = Watchdog) -> None:
    """It waits for the disk: with memory short it lives, else its silence counts."""
    for short in (True, False):
        with rig(kind) as one, pytest.MonkeyPatch.context() as patched:
            patched.setattr("mmplane.process.watchdog.state_of", lambda _: "D")
            patched.setattr("mmplane.process.watchdog.memory_is_short", lambda short=short: short)
            one.pass_by(3 * STALL_S)
            assert (one.child.condemned_s is None) == short


def test_starving() -> None:
    check_starving()


def test_it_sleeps_while_all_is_well() -> None:
    with rig() as one:
        one.pass_by(1, beating=True)
        assert one.dog.due_s([one.child]) - one.dog._looked_s > LOOK_SECONDS * 2
        one.stop()
        one.pass_by(CALM_SECONDS)
        assert one.dog.due_s([one.child]) - one.dog._looked_s < LOOK_SECONDS * 2


def test_only_the_doubtful_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle server's supervisor opens no file of its children (A39); a silent child is looked at by itself."""
    looks: list[int] = []
    monkeypatch.setattr("mmplane.process.watchdog.state_of", lambda pid: looks.append(pid) or state_of(pid))
    with rig() as one:
        one.pass_by(60, beating=True)
        assert not looks
        one.stop(told=False)
        one.pass_by(STALL_S / 2 + 2)
        assert looks
        assert one.dog.out_of_service == ("rank 1",)


def test_it_is_condemned_once(caplog: pytest.LogCaptureFixture) -> None:
    with rig() as one, caplog.at_level(logging.WARNING, "mmplane"):
        one.dog.condemn(one.child, "missed an item's deadline")
        one.dog.condemn(one.child, "missed an item's deadline")
    assert sum("missed" in record.getMessage() for record in caplog.records) == 1


class TrustsBeats(Watchdog):
    def _judge(self, child: Child, now_s: float) -> None:
        child.stillness.seen(now_s, stopped=False)
        super()._judge(child, now_s)


class NoticesNobody(Watchdog):
    def _note(self, child: Child, now_s: float) -> None:
        pass


class ForgetsTheDead(Watchdog):
    def _judge(self, child: Child, now_s: float) -> None:
        super()._judge(child, now_s)
        if child.condemned_s is not None:
            self._still.clear()


class DoesNotAsk(Watchdog):
    def condemn(self, child: Child, why: str) -> None:
        child.handle.kill()
        child.condemned_s = self._now()


class NeverKills(Watchdog):
    def _judge(self, child: Child, now_s: float) -> None:
        if child.condemned_s is None:
            super()._judge(child, now_s)


class CountsItsOwnSleep(Watchdog):
    def due_s(self, children: Iterable[Child]) -> float:
        return float("inf")


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (CountsItsOwnSleep, check_frozen_together),
        (TrustsBeats, check_stopped),
        (NoticesNobody, check_stopped),
        (ForgetsTheDead, check_stopped),
        (DoesNotAsk, check_stuck),
        (NeverKills, check_stuck),
    ],
)
def test_mutants(mutant: type[Watchdog], check: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_programs.HANG_S", 1.0)
    monkeypatch.setattr(f"{__name__}.HANG_S", 1.0)
    assert callable(check)
    with pytest.raises(AssertionError):
        check(mutant)
