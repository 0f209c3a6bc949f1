"""The limit on open files of this server, and how many of them connections may use.

A process without free descriptors cannot accept connections, fetch media, or receive a new worker, and each of these
fails in its own way. So the limit is raised as far as possible, a start with too few is refused, and connections are
refused while there are still descriptors for everything else.
"""

from __future__ import annotations

import resource

WANTED = 65_536
FIXED = 256
"""Libraries, files being loaded, fetches, and everything else that a front end has in any configuration."""
PER_CHILD = 8


def kept(children: int) -> int:
    """The number of descriptors that connections may not use."""
    return FIXED + PER_CHILD * children


def provide(children: int) -> None:
    """Raise the limit for this process and later ones. Raises ValueError if the limit is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    needed = 2 * kept(children)
    if max(soft, most) < needed:
        raise ValueError(
            f"this server needs {needed} open files, but the limit of a process is {max(soft, most)}: "
            f"raise it (ulimit -n, or LimitNOFILE= in systemd)"
        )


def connections_max(children: int) -> int:
    """The number of connections that the front end may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - kept(children)
