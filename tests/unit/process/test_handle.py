"""A process by its own handle: a real child, however it ends."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_programs import HANG_S, program

from mmplane.core.control import Beat, FromChild
from mmplane.process.handle import Child, Handle
from mmplane.process.stacks import Stacks
from mmplane.wire.link import Link, PeerGone, pair


def forked(work: Callable[[], object]) -> Handle:
    pid = os.fork()
    if pid == 0:
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            work()
        finally:
            os._exit(0)
    return Handle.of_child(pid)


@pytest.fixture
def sleeper() -> Iterator[Handle]:
    """A child that does nothing until it is told to end."""
    handle = forked(signal.pause)
    yield handle
    handle.kill()
    assert handle.wait(HANG_S)
    handle.reap()
    assert not Path(f"/proc/{handle.pid}").exists(), "not even a zombie is left"


def test_a_child_that_runs_has_not_ended(sleeper: Handle) -> None:
    assert not sleeper.wait(0)
    assert not sleeper.wait(-1)


def test_kill_ends_it(sleeper: Handle) -> None:
    sleeper.kill()
    assert sleeper.wait(HANG_S)
    assert sleeper.wait(0), "and it stays so until it is reaped"


def test_kill_ends_a_stopped_child_too(sleeper: Handle) -> None:
    sleeper.signal(signal.SIGSTOP)
    os.waitid(os.P_PIDFD, sleeper.pidfd, os.WSTOPPED)
    assert not sleeper.wait(0), "stopped is not ended"
    sleeper.kill()
    assert sleeper.wait(HANG_S)


def test_any_signal_can_be_sent(sleeper: Handle) -> None:
    sleeper.signal(signal.SIGTERM)
    assert sleeper.wait(HANG_S)
    status = os.waitid(os.P_PIDFD, sleeper.pidfd, os.WEXITED | os.WNOWAIT)
    assert status is not None
    assert (status.si_code, status.si_status) == (os.CLD_KILLED, signal.SIGTERM)


def test_a_child_that_ends_by_itself_has_ended() -> None:
    handle = forked(lambda: None)
    assert handle.wait(HANG_S)
    handle.kill()
    handle.reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(handle.pid, 0)


def test_a_signal_after_the_end_reaches_nobody() -> None:
    """The number may be another process's by now; the handle cannot be."""
    handle = forked(lambda: None)
    os.waitpid(handle.pid, 0)
    handle.signal(signal.SIGKILL)
    assert handle.wait(0)
    handle.reap()


def test_reaping_does_not_wait() -> None:
    """A process in a driver's sleep does not end by SIGKILL either."""
    handle = forked(signal.pause)
    again = Handle.of_child(handle.pid)
    again.reap()
    handle.kill()
    assert handle.wait(HANG_S)
    handle.reap()


def test_reaping_collects_what_was_adopted() -> None:
    """A nursery that dies leaves its children to the supervisor: none may stay behind as a zombie."""
    with program(
        """
from mmplane.process.death import adopt_orphans
from mmplane.process.handle import Handle

adopt_orphans()
read, write = os.pipe()
pid = os.fork()
if pid == 0:  # the nursery
    orphan = os.fork()
    if orphan == 0:
        signal.pause()
    os.write(write, str(orphan).encode())
    signal.pause()
orphan = Handle.of_child(int(os.read(read, 16)))
nursery = Handle.of_child(pid)
nursery.kill()
nursery.wait(60)
orphan.kill()
orphan.wait(60)
nursery.reap()
orphan.reap()
try:
    os.waitpid(-1, os.WNOHANG)
    report("something is left")
except ChildProcessError:
    report("nothing is left")
"""
    ) as supervisor:
        assert supervisor.line() == "nothing is left"


def test_a_child_and_its_link() -> None:
    ours, theirs = pair()

    def work() -> None:
        Link[FromChild](theirs, FromChild).send(Beat(), limit_s=HANG_S)

    handle = forked(work)
    theirs.close()
    stacks = Stacks()
    stacks.handed_over()
    child = Child("rank", 1, handle, Link(ours, FromChild), stacks)
    assert str(child) == f"rank 1 (pid {handle.pid})"
    assert str(Child("frontend", 0, handle, child.link, stacks)) == f"frontend (pid {handle.pid})"
    assert child.link.receive(limit_s=HANG_S) == (Beat(), [])
    assert handle.wait(HANG_S)
    with pytest.raises(PeerGone):
        child.link.receive(limit_s=HANG_S)
    child.close()
    assert not Path(f"/proc/{handle.pid}").exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle.pidfd)
    assert isinstance(ours, socket.socket)
    assert ours.fileno() == -1
