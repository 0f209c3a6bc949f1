"""The sandbox of a process that decodes hostile files: no network, no new privileges, limited memory and files.

    isolate()   first thing in the process, while it has one thread: no new privileges, and a new network namespace
                without any interface except a dead loopback. If the kernel refuses, no new sockets at all
    limit()     once everything is loaded, mapped and compiled: no file can be opened, grown or dumped any more
    allow_cpu() before each item

The limits are a safety net below the front end's deadlines and budgets. They contain a broken decoder, but not code
that has taken over the process: it still runs as the same user, with that user's files.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import sys
from enum import Enum

from mmplane.process.death import die_with_parent
from mmplane.process.syscalls import forbid

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

DESCRIPTORS_MAX = 256
_libc = ctypes.CDLL(None, use_errno=True)


class Network(Enum):
    """How the network is blocked."""

    NAMESPACE = "a network namespace of its own"
    FILTER = "no new sockets, by a filter on system calls (this kernel allows no network namespace)"
    NONE = "not isolated"


SOCKET_CALLS = ("socket", "socketcall", "io_uring_setup")
"""The system calls that create a socket. Inherited sockets keep working."""


def isolate() -> Network:
    """Give up privileges and the network permanently. Never fails: the result says what the kernel allowed."""
    parent_pid = os.getppid()
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _leave_the_network():
        die_with_parent(parent_pid)  # new credentials may have cleared it
        return Network.NAMESPACE
    return Network.FILTER if forbid(SOCKET_CALLS) else Network.NONE


def _leave_the_network() -> bool:
    """Unshare the network. An unprivileged process needs a user namespace for that."""
    return any(_libc.unshare(flags) == 0 for flags in (_CLONE_NEWUSER | _CLONE_NEWNET, _CLONE_NEWNET))


def limit(*, data_bytes: int) -> None:
    """Limit this process from now on: `data_bytes` of additional private memory, no core dump, few descriptors.

    It uses RLIMIT_DATA and not RLIMIT_AS, because the arena is mapped and shared, and must not count.
    """
    _lower(resource.RLIMIT_DATA, _data_bytes() + data_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, DESCRIPTORS_MAX)
    if not stat.S_ISREG(os.fstat(sys.stderr.fileno()).st_mode):  # otherwise the log could not grow
        _lower(resource.RLIMIT_FSIZE, 0)


def allow_cpu(seconds: float) -> None:
    """Allow this process this many more CPU seconds. After that the kernel ends it (SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cores = len(os.sched_getaffinity(0))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(used.ru_utime + used.ru_stime + seconds * cores) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def network_here() -> Network:
    """What `isolate` would achieve on this machine, tried in a child that ends at once."""
    pid = os.fork()
    if pid == 0:
        os._exit(list(Network).index(isolate()))
    _, status = os.waitpid(pid, 0)
    return list(Network)[os.waitstatus_to_exitcode(status)]


def _lower(kind: int, wanted: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(kind, (wanted, wanted))


def _data_bytes() -> int:
    """The private writable memory that is mapped now, as RLIMIT_DATA counts it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[5]) * resource.getpagesize()
