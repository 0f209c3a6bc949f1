"""Signals as something to read; those that were ignored at the start stay so (`nohup`, a script's background job)."""

from __future__ import annotations

import signal

import pytest
from process_programs import program

PROGRAM = """
import select, time
from mmplane.process.signals import BYTES_MAX, heed
number = signal.Signals[sys.argv[2]]
signal.signal(number, {disposition})
wake = heed((number, signal.SIGUSR2))
os.kill(os.getpid(), number)
os.kill(os.getpid(), signal.SIGUSR2)
heard = set()
while signal.SIGUSR2 not in heard:
    select.select([wake], [], [])
    heard |= set(os.read(wake, BYTES_MAX))
report("heeded" if number in heard else "ignored")
"""


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM"])
@pytest.mark.parametrize(("disposition", "what"), [("signal.SIG_DFL", "heeded"), ("signal.SIG_IGN", "ignored")])
def test_what_was_ignored_stays_so(name: str, disposition: str, what: str) -> None:
    with program(PROGRAM.format(disposition=disposition), arguments=(signal.Signals[name].name,)) as one:
        assert one.line() == what


FORKED = """
from mmplane.process.signals import heed, unheed
if {forgets}:
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
before = set(os.listdir("/proc/self/fd"))
wake = heed((signal.SIGCHLD,))
pid = os.fork()
if not pid:
    unheed()
    report(f"{{len(set(os.listdir('/proc/self/fd')) - before)}} {{signal.set_wakeup_fd(-1)}}")
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("forgets", [True, False])
def test_a_child_keeps_nothing_that_would_wake_its_parent(forgets: bool) -> None:
    """From Python 3.12 on, asyncio makes a forked child forget the descriptor. It must be closed all the same."""
    with program(FORKED.format(forgets=forgets)) as one:
        assert one.line() == "1 -1"  # the end that is read
