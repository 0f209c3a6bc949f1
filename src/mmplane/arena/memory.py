"""How much memory this process may still use before the kernel kills something.

Pages of a memfd are charged when they are reserved and stay charged. A control group that exceeds its limit gets no
error: it is killed. So the check comes first. Control groups nest, and every ancestor's limit counts. In a container
the path in /proc/self/cgroup may be the host's, which does not exist inside; then the mount's root is the container's
group.

A weakness: files in the page cache count as used although the kernel would drop them. So the inactive ones count as
available here, as in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V1_UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of the page size."""


def memory_available_bytes(root: Path = Path("/")) -> int:
    """The smallest of MemAvailable and the free memory of each enclosing control group. `root` is for tests."""
    return max(0, min(_system_bytes(root), *_groups_bytes(root)))


def _system_bytes(root: Path) -> int:
    return _table(root / "proc/meminfo")["MemAvailable:"] * 1024


def _groups_bytes(root: Path) -> Iterator[int]:
    """The free memory of each control group with a limit; 1 << 60 if there is none."""
    yield _V1_UNLIMITED
    for folder in group_folders(root, "memory"):
        yield from _left(folder, "memory.max", "memory.current", "inactive_file")
        yield from _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def group_folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of each enclosing control group of this process, for version 2 and version 1."""
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _folders(root / "sys/fs/cgroup", path)
        elif controller in controllers.split(","):
            yield from _folders(root / "sys/fs/cgroup" / controller, path)


def _folders(mount: Path, path: str) -> Iterator[Path]:
    inside = PurePosixPath(path.lstrip("/"))
    for part in (inside, *inside.parents):
        if ".." not in part.parts:  # a group outside this namespace, whose limit we may not read
            yield mount / part


def _left(folder: Path, limit_name: str, usage_name: str, reclaimable_name: str) -> Iterator[int]:
    try:
        limit = (folder / limit_name).read_text().strip()
        usage_bytes = int((folder / usage_name).read_text())
        reclaimable_bytes = _table(folder / "memory.stat").get(reclaimable_name, 0)
    except OSError:  # the root group has no limit file, and a host's path does not exist in here
        return
    if limit != "max" and int(limit) < _V1_UNLIMITED:
        yield int(limit) - usage_bytes + reclaimable_bytes


def _table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit()}
