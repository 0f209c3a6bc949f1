"""How many files this server may have open, and how many of them connections may take.

A process without descriptors cannot accept, fetch, or hear of a new worker, and each of these fails in its own way. So
the limit is raised as far as it may be, a start with too few is refused, and connections are refused while there are
still descriptors for everything else.
"""

from __future__ import annotations

import resource

WANTED = 65_536
FIXED = 256
"""Libraries, files being loaded, fetches, and what a front end has whatever its configuration is."""
PER_CHILD = 8


def kept(children: int) -> int:
    """Descriptors that no connection may take."""
    return FIXED + PER_CHILD * children


def provide(children: int) -> None:
    """Raise the limit for this process and those to come. Raises ValueError when too few may be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    needed = 2 * kept(children)
    if max(soft, most) < needed:
        raise ValueError(
            f"a process may open {max(soft, most)} files here, and this server needs {needed}: "
            f"raise the limit (ulimit -n, LimitNOFILE= in systemd)"
        )


def connections_max(children: int) -> int:
    """How many connections the front end may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - kept(children)
