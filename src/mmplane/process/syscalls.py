"""Drops system calls permanently with libseccomp, which knows their numbers on each machine.

libseccomp is on every Debian and Fedora (apt and systemd need it). Its Python bindings come only with distributions,
for their own Python. Five functions are needed, so they are called here directly.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterable

LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF0000
_FAIL = 0x00050000
_UNKNOWN = -1
"""The library's answer for an unknown name: a call that this machine does not have."""


def forbid(names: Iterable[str]) -> bool:
    """Make these calls fail with EPERM in this process and its children from now on. Returns whether they do.

    The process must have given up new privileges before, and must have only one thread.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    if not rules:
        return False
    try:
        numbers = [library.seccomp_syscall_resolve_name(name.encode()) for name in names]
        fail = ctypes.c_uint32(_FAIL | errno.EPERM)
        added = [
            library.seccomp_rule_add_array(rules, fail, number, 0, None) for number in numbers if number != _UNKNOWN
        ]
        return not any(added) and library.seccomp_load(rules) == 0
    finally:
        library.seccomp_release(rules)
