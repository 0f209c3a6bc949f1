"""How much memory is left, from files as the kernel writes them: version 1, version 2, containers, no limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmplane.arena.memory import memory_available_bytes

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "proc/meminfo", f"MemTotal: {9000 * 1024} kB\nMemAvailable: {8000 * 1024} kB\nHugePages_Total: 0\n")
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def group_v2(root: Path, path: str, limit: str, usage_bytes: int, inactive_bytes: int = 0) -> None:
    write(root, f"sys/fs/cgroup{path}/memory.max", f"{limit}\n")
    write(root, f"sys/fs/cgroup{path}/memory.current", f"{usage_bytes}\n")
    write(root, f"sys/fs/cgroup{path}/memory.stat", f"anon 5\ninactive_file {inactive_bytes}\n")


def group_v1(root: Path, path: str, limit_bytes: int, usage_bytes: int, inactive_bytes: int = 0) -> None:
    write(root, f"sys/fs/cgroup/memory{path}/memory.limit_in_bytes", f"{limit_bytes}\n")
    write(root, f"sys/fs/cgroup/memory{path}/memory.usage_in_bytes", f"{usage_bytes}\n")
    write(root, f"sys/fs/cgroup/memory{path}/memory.stat", f"cache 7\ntotal_inactive_file {inactive_bytes}\n")


def test_without_a_limit_it_is_what_the_system_has(root: Path) -> None:
    assert memory_available_bytes(root) == 8000 * MIB
    group_v2(root, "", "max", 100 * MIB)
    assert memory_available_bytes(root) == 8000 * MIB
    write(root, "proc/self/cgroup", "4:memory:/\n")
    group_v1(root, "", 0x7FFFFFFFFFFFF000, 100 * MIB)
    assert memory_available_bytes(root) == 8000 * MIB


def test_what_a_version_2_group_has_left(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/serve\n")
    group_v2(root, "/serve", str(1000 * MIB), 300 * MIB, inactive_bytes=50 * MIB)
    assert memory_available_bytes(root) == 750 * MIB


def test_every_ancestor_counts(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/slice/serve\n")
    group_v2(root, "/slice/serve", "max", 0)
    group_v2(root, "/slice", str(500 * MIB), 100 * MIB)
    assert memory_available_bytes(root) == 400 * MIB


def test_a_version_1_group_and_a_containers_view_of_it(root: Path) -> None:
    write(root, "proc/self/cgroup", "11:cpu,cpuacct:/\n4:memory:/docker/0123\n0::/\n")
    group_v1(root, "", 2000 * MIB, 500 * MIB)  # inside, the host's path does not exist: the mount is the group
    assert memory_available_bytes(root) == 1500 * MIB
    group_v1(root, "/docker/0123", 900 * MIB, 500 * MIB, inactive_bytes=100 * MIB)
    assert memory_available_bytes(root) == 500 * MIB


def test_a_group_outside_of_this_namespace_is_not_followed(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/../other\n")
    group_v2(root, "", str(600 * MIB), 0)
    write(root, "sys/fs/other/memory.max", "1\n")
    assert memory_available_bytes(root) == 600 * MIB


def test_a_group_over_its_limit_has_nothing_left(root: Path) -> None:
    group_v2(root, "", str(100 * MIB), 200 * MIB)
    assert memory_available_bytes(root) == 0


def test_this_machine_has_some() -> None:
    assert memory_available_bytes() > 0
