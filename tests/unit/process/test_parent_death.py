"""No process outlives its parent, whichever way and at whatever moment the parent dies (invariant 7, hazard R4)."""

from __future__ import annotations

import os
import signal

import pytest
from process_programs import has_ended, program

PARENT = """
from mmplane.process.death import die_with_parent

parent = os.getpid()
pid = os.fork()
if pid == 0:
    die_with_parent(parent)
    if "ignoring" in sys.argv:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    report(os.getpid())
    while True:
        signal.pause()
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_the_child_of_a_dead_parent_dies(number: signal.Signals) -> None:
    with program(PARENT, arguments=("ignoring",)) as parent:
        pidfd = os.pidfd_open(int(parent.line()))
        parent.process.send_signal(number)
        assert parent.ended_by() == -number
        assert has_ended(pidfd)
        os.close(pidfd)


def test_a_stopped_child_dies_too() -> None:
    with program(PARENT) as parent:
        pid = int(parent.line())
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGSTOP)
        parent.process.kill()
        assert has_ended(pidfd)
        os.close(pidfd)


def test_and_so_do_grandchildren() -> None:
    """The setting is not inherited, so each generation makes its own."""
    with program(
        """
from mmplane.process.death import die_with_parent

for generation in range(3):
    parent = os.getpid()
    if os.fork():
        break
    die_with_parent(parent)
    report(os.getpid())
signal.pause()
"""
    ) as first:
        pidfds = [os.pidfd_open(int(first.line())) for _ in range(3)]
        first.process.kill()
        assert all(has_ended(pidfd) for pidfd in pidfds)
        for pidfd in pidfds:
            os.close(pidfd)


def test_a_parent_that_died_before_the_setting_is_noticed() -> None:
    """The kernel sends nothing for a parent that is dead already."""
    with program(
        """
from mmplane.process.death import die_with_parent

parent = os.getpid()
started, start = os.pipe()
ended, end = os.pipe()
if os.fork() == 0:
    os.close(end)
    os.read(ended, 1)  # end of file: the parent is dead
    child = os.fork()
    if child == 0:
        die_with_parent(parent)
        report("it lives")
        os._exit(0)
    report(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)
"""
    ) as first:
        assert first.line() == str(-signal.SIGKILL)


def test_without_it_a_child_lives_on() -> None:
    """The mutant of the tests above: it is the setting that kills, not something else."""
    with program(PARENT.replace("die_with_parent(parent)", "pass")) as parent:
        pid = int(parent.line())
        pidfd = os.pidfd_open(pid)
        parent.process.kill()
        parent.ended_by()
        os.kill(pid, 0)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert has_ended(pidfd)
        os.close(pidfd)
