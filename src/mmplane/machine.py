"""The abilities and problems of this machine, each problem with its fix: the first part of `mmplane doctor`.

Features of the kernel are tried, not derived from its version: containers and hardened kernels remove them one by one.
Facts about the system come through `Facts`, so that every verdict can be tested on any machine.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from mmplane.arena.errors import OutOfMemory
from mmplane.arena.memory import group_folders, memory_available_bytes
from mmplane.arena.segment import create_region
from mmplane.config import GIB, MIB, Config
from mmplane.core.findings import Finding, Verdict
from mmplane.models.cached import cache_folder
from mmplane.process.descriptors import kept
from mmplane.process.sandbox import Network, network_here
from mmplane.route.program import find

_OPENAT2 = 437  # the same on every architecture
_MADV_POPULATE_WRITE = 23
_DEFAULTS = Config(model="tiny", model_folder="", served_name="tiny")
CACHE_FREE_BYTES = 256 * MIB
_libc = ctypes.CDLL(None, use_errno=True)


OPTIONAL = frozenset({"MADV_POPULATE", "openat2"})
"""Kernel features that a server can do without."""
KERNEL_FIX = "use Linux 5.4 or newer, and a seccomp profile that allows these"


@dataclass(frozen=True)
class Facts:
    """Facts read from the system. Sizes in bytes; a limit of None means that there is none."""

    memory_bytes: int = field(default_factory=memory_available_bytes)
    descriptors: int = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    file_bytes: int = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_FSIZE)[0])
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    quota_cores: float | None = field(default_factory=lambda: cores_granted())
    libc: str = field(default_factory=lambda: _libc_version())
    preloaded: str = field(default_factory=lambda: os.environ.get("LD_PRELOAD", ""))
    seccomp: str = field(default_factory=lambda: _status("Seccomp"))
    network: Network = field(default_factory=network_here)
    missing: tuple[str, ...] = field(default_factory=lambda: tuple(_kernel_lacks()))
    outdated: tuple[str, ...] = field(default_factory=lambda: tuple(outdated_packages(requires, version)))
    gpus: int = field(default_factory=lambda: len(list(Path("/dev").glob("nvidia[0-9]*"))))
    torch_gpus: int = field(default_factory=lambda: _torch_gpus())
    torchvision: str = field(default_factory=lambda: _torchvision())
    haproxy: str = field(default_factory=lambda: haproxy_here())
    port_taken: bool = field(default_factory=lambda: _taken(_DEFAULTS.port))
    cache_folder: Path = field(default_factory=cache_folder)
    cache_free_bytes: int = field(default_factory=lambda: free_bytes(cache_folder()))


def findings(facts: Facts) -> Iterator[Finding]:
    """Everything that was checked, in the order in which a start would meet it."""
    checks: tuple[Callable[[Facts], Finding], ...] = (
        _kernel, _network, _seccomp, _memory, _descriptors, _file_size, _cores, _malloc, _versions, _torchvision_found,
        _gpu, _port, _router, _cache,
    )  # fmt: skip
    return (check(facts) for check in checks)


def _kernel(facts: Facts) -> Finding:
    found = f"Linux {os.uname().release}: " + (
        f"no {', '.join(facts.missing)}" if facts.missing else "all there is to use"
    )
    if not facts.missing:
        return Finding("kernel", found)
    if set(facts.missing) - OPTIONAL:
        return Finding("kernel", found, Verdict.WRONG, KERNEL_FIX)
    fix = "Linux 5.14 or newer, or another seccomp profile: without them --media-root and warm mappings do not work"
    return Finding("kernel", found, Verdict.COULD_BE_BETTER, fix)


def check_kernel() -> None:
    """Raise ValueError, in doctor's words, if this kernel lacks something that every server needs."""
    if missing := [name for name in _kernel_lacks() if name not in OPTIONAL]:
        raise ValueError(f"this system does not allow {' and '.join(missing)}: {KERNEL_FIX} (see mmplane doctor)")


def check_temporary_folder() -> None:
    """Raise ValueError if no temporary folder is writable: torch needs one as soon as it is imported."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise ValueError("no temporary folder is writable: set TMPDIR to one that is") from None


def _network(facts: Facts) -> Finding:
    subject = "workers and the network"
    if facts.network is not Network.NONE:
        return Finding(subject, facts.network.value)
    fix = (
        "a decoder that is taken over could reach the network: allow unprivileged user namespaces "
        "(sysctl user.max_user_namespaces, and the container's seccomp profile), install libseccomp, "
        "or cut the container's network"
    )
    return Finding(subject, facts.network.value, Verdict.WRONG, fix)


def _seccomp(facts: Facts) -> Finding:
    return Finding(
        "seccomp", {"0": "no filter", "1": "strict", "2": "a filter, as in containers"}.get(facts.seccomp, "-")
    )


def _memory(facts: Facts) -> Finding:
    wanted = _DEFAULTS.arena_bytes + GIB
    found = f"{facts.memory_bytes / GIB:.1f} GiB available (control groups counted)"
    if facts.memory_bytes >= wanted:
        return Finding("memory", found)
    if facts.memory_bytes >= GIB:
        return Finding("memory", found, Verdict.COULD_BE_BETTER, "lower --arena-bytes, --budget-bytes and --kv-bytes")
    return Finding("memory", found, Verdict.WRONG, "give the machine or the control group at least 1 GiB")


def _descriptors(facts: Facts) -> Finding:
    needed = 2 * kept(_DEFAULTS.processes())
    unlimited = facts.descriptors == resource.RLIM_INFINITY
    found = f"{'any number' if unlimited else facts.descriptors} open files for a process"
    if unlimited or facts.descriptors >= 4 * needed:
        return Finding("descriptors", found)
    fix = f"raise the hard limit (ulimit -Hn, LimitNOFILE=): a server needs {needed}, and one for each connection"
    return Finding("descriptors", found, Verdict.WRONG if facts.descriptors < needed else Verdict.COULD_BE_BETTER, fix)


def _file_size(facts: Facts) -> Finding:
    largest = max(_DEFAULTS.region_bytes())
    if facts.file_bytes == resource.RLIM_INFINITY or facts.file_bytes >= largest:
        return Finding("file size", "large enough for the arena")
    found = f"at most {facts.file_bytes} bytes"
    return Finding(
        "file size", found, Verdict.WRONG, "lift the limit (ulimit -f unlimited): regions of the arena count"
    )


def _cores(facts: Facts) -> Finding:
    quota = "" if facts.quota_cores is None else f", of which the control group grants {facts.quota_cores:g}"
    found = f"{facts.cores}{quota}"
    if min(facts.cores, facts.quota_cores or facts.cores) >= 2:
        return Finding("cores", found)
    return Finding(
        "cores", found, Verdict.COULD_BE_BETTER, "two or more: front end, workers and ranks take turns on one"
    )


def _malloc(facts: Facts) -> Finding:
    if "malloc" in facts.preloaded:
        fix = "unset LD_PRELOAD: the server's MALLOC_... settings are glibc's, and cut the cost of bodies threefold"
        return Finding("malloc", facts.preloaded, Verdict.COULD_BE_BETTER, fix)
    if not facts.libc.startswith("glibc"):
        fix = "the server's MALLOC_... settings are glibc's: use a distribution with glibc"
        return Finding("malloc", facts.libc or "not glibc", Verdict.COULD_BE_BETTER, fix)
    return Finding("malloc", f"{facts.libc}, which the server tunes for its own processes")


def _versions(facts: Facts) -> Finding:
    if not facts.outdated:
        return Finding("packages", "as mmplane wants them")
    return Finding("packages", "; ".join(facts.outdated), Verdict.WRONG, "pip install 'mmplane[serve]'")


def _torchvision_found(facts: Facts) -> Finding:
    return Finding("torchvision", f"{facts.torchvision}; it is not used")


def _gpu(facts: Facts) -> Finding:
    found = f"{facts.gpus} devices, of which torch sees {facts.torch_gpus}"
    if facts.gpus == facts.torch_gpus:
        return Finding("GPUs", found if facts.gpus else "none: ranks compute on the CPU")
    fix = "a torch build for CUDA and a matching driver, or --device cpu"
    return Finding("GPUs", found, Verdict.COULD_BE_BETTER, fix)


def _port(facts: Facts) -> Finding:
    if not facts.port_taken:
        return Finding("port", f"{_DEFAULTS.port} is free")
    return Finding("port", f"{_DEFAULTS.port} is taken", Verdict.COULD_BE_BETTER, "choose another with --port")


def _router(facts: Facts) -> Finding:
    return Finding("mmplane route", facts.haproxy)


def haproxy_here() -> str:
    """The HAProxy that `mmplane route` would run, or why there is none. Nothing else needs it."""
    try:
        program = find()
    except ValueError as error:
        return str(error)
    return f"HAProxy {program.version}, {program.path}"


def _cache(facts: Facts) -> Finding:
    found = f"{facts.cache_free_bytes / MIB:.0f} MiB free for the built-in model and compiled loops"
    if facts.cache_free_bytes >= CACHE_FREE_BYTES:
        return Finding("disk", found)
    return Finding(
        "disk", found, Verdict.COULD_BE_BETTER, f"make room for {CACHE_FREE_BYTES // MIB} MiB, or set XDG_CACHE_HOME"
    )


def free_bytes(folder: Path) -> int:
    """The free space below this folder, whether it exists or not."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(there).free if os.access(there, os.W_OK) else 0


SERVING_EXTRAS = ("serve", "media")
"""The first includes the second."""


def outdated_packages(requires: Callable[[str], list[str] | None], version: Callable[[str], str]) -> Iterator[str]:
    """Packages that are missing, or whose version does not match mmplane's own metadata."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires("mmplane") or []]
    except PackageNotFoundError:
        yield "mmplane itself is not installed, only found"
        return
    for each in wanted:
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in SERVING_EXTRAS):
            try:
                found = version(each.name)
            except PackageNotFoundError:
                yield f"{each.name} is missing"
            else:
                if not each.specifier.contains(found, prereleases=True):
                    yield f"{each.name} is {found}, wanted {each.specifier}"


def quota_cores(group: Path) -> float | None:
    """The CPU time that one control group grants, in cores; None if it sets no limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None


def cores_granted(root: Path = Path("/")) -> float | None:
    """The lowest CPU time that any enclosing control group grants; None if none sets a limit. `root` is for tests."""
    quotas = (quota_cores(group) for group in group_folders(root, "cpu"))
    return min((quota for quota in quotas if quota is not None), default=None)


def cores_usable() -> int:
    """How many cores this process may use, by affinity and by its control groups; at least one."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(cores_granted() or cores)))


def _kernel_lacks() -> Iterator[str]:
    tries: dict[str, Callable[[], None]] = {
        "pidfd": lambda: os.close(os.pidfd_open(os.getpid())),
        "sealed memfd": lambda: os.close(create_region("mmplane-doctor", mmap.PAGESIZE)),
        "MADV_POPULATE": _populate,
        "openat2": _openat2,
    }
    for name, attempt in tries.items():
        try:
            attempt()
        except OutOfMemory:
            continue  # it exists
        except OSError:
            yield name


def _populate() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        memory.madvise(_MADV_POPULATE_WRITE)


def _openat2() -> None:
    _libc.syscall(_OPENAT2, -1, None, None, 0)  # it rejects these arguments; what matters is the error
    if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM):
        raise OSError(ctypes.get_errno(), "openat2")


def _libc_version() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def _status(name: str) -> str:
    rows = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return next((value.strip() for key, _, value in rows if key == name), "")


def _torch_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _torchvision() -> str:
    try:
        return f"{version('torchvision')} is installed"
    except PackageNotFoundError:
        return "not installed"


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_DEFAULTS.host, port))
        except OSError:
            return True
    return False
