"""Where a process stands: its own stacks by a signal, even from C with the GIL held; the kernel's side when stopped."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest
from process_programs import HANG_S, Program, program

from mmplane.process.stacks import CRASHED, SIGNAL, STACKS_BYTES_MAX, STOPPED, Stacks, kernel_side, state_of

STANDING = """
from mmplane.process.stacks import answer_with_stacks
answer_with_stacks(int(sys.argv[2]))
def stand_here():
    report("standing")
    {what}
stand_here()
"""


def standing(what: str, stacks: Stacks) -> Program:
    return program(STANDING.format(what=what), pass_fds=(stacks.write,), arguments=(str(stacks.write),))


def dumped(stacks: Stacks) -> str:
    """What was written until there is the function that we wait for."""
    text = ""
    while "<module>" not in text:
        assert select.select([stacks._read], [], [], HANG_S)[0], text
        text += stacks.written()
    return text


@pytest.mark.parametrize("what", ["signal.pause()", "sum(range(10**12))"])
def test_a_process_says_where_it_stands(what: str) -> None:
    stacks = Stacks()
    with standing(what, stacks) as one:
        assert one.line() == "standing"
        assert stacks.written() == ""
        one.process.send_signal(SIGNAL)
        assert "in stand_here" in dumped(stacks)
    stacks.handed_over()
    stacks.close()


def test_a_crash_is_remembered_whoever_reads_of_it_first() -> None:
    """The watchdog may have read it before the supervisor hears of the end."""
    stacks = Stacks()
    with standing("os.kill(os.getpid(), signal.SIGSEGV)", stacks) as one:
        assert not stacks.crashed
        one.process.wait(HANG_S)  # then all that it writes is there
        assert CRASHED in stacks.written()
        assert (stacks.written(), stacks.crashed) == ("", True)
    stacks.handed_over()
    stacks.close()


def test_a_full_pipe_holds_nobody_up() -> None:
    stacks = Stacks()
    with standing(
        """
    for _ in range(2000):
        os.kill(os.getpid(), signal.SIGUSR1)
    report("not held up")
    signal.pause()""",
        stacks,
    ) as one:
        assert [one.line(), one.line()] == ["standing", "not held up"]
        assert 0 < len(stacks.written()) <= STACKS_BYTES_MAX
    stacks.handed_over()
    stacks.close()


def test_what_the_kernel_says_of_one_that_is_stopped() -> None:
    stacks = Stacks()
    with standing("signal.pause()", stacks) as one:
        one.line()
        pid = one.process.pid
        assert state_of(pid) not in STOPPED
        one.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        assert state_of(pid) in STOPPED
        assert "State: T (stopped)" in kernel_side(pid)
    assert state_of(pid) == ""
    assert kernel_side(pid) == ""
    stacks.handed_over()
    stacks.close()


def test_a_name_with_brackets_hides_nothing() -> None:
    with program("""
import setproctitle
setproctitle.setproctitle("x) R (")
setproctitle.setthreadtitle("x) T 1")
report("named")
signal.pause()""") as one:
        one.line()
        assert ") T" in Path(f"/proc/{one.process.pid}/stat").read_text()
        assert state_of(one.process.pid) not in STOPPED
