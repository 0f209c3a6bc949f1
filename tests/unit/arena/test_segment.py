"""Real regions: sealed, nameless, shared by descriptor, and read-only where they should be (invariant 7)."""

from __future__ import annotations

import errno
import faulthandler
import fcntl
import mmap
import os
import resource
import signal
import socket
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mmplane.arena import segment
from mmplane.arena.errors import OutOfMemory
from mmplane.arena.segment import RegionMapping, WindowMapping, check_memory, create_region, reopen_read_only

LENGTH_BYTES = 4 * mmap.PAGESIZE


@pytest.fixture
def region() -> Iterator[int]:
    fd = create_region("test", LENGTH_BYTES)
    yield fd
    os.close(fd)


@pytest.fixture
def read_only(region: int) -> Iterator[int]:
    fd = reopen_read_only(region)
    yield fd
    os.close(fd)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; what waitpid says of it."""
    pid = os.fork()
    if pid == 0:
        try:
            faulthandler.disable()  # pytest's, which would report the expected SIGSEGV at length
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_region_cannot_change_its_size(region: int, read_only: int) -> None:
    for length_bytes in (0, LENGTH_BYTES - 1, LENGTH_BYTES + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(region, length_bytes)
    with pytest.raises(PermissionError):
        os.pwrite(region, b"beyond", LENGTH_BYTES)
    with pytest.raises(PermissionError):
        fcntl.fcntl(region, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert os.fstat(read_only).st_size == LENGTH_BYTES


def test_without_the_seals_it_could(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the test above: it is the seals that hold, not something else."""
    monkeypatch.setattr(segment, "SEALS", 0)
    fd = create_region("test", LENGTH_BYTES)
    os.ftruncate(fd, 0)
    assert os.fstat(fd).st_size == 0
    os.close(fd)


def test_its_pages_are_reserved_before_anyone_touches_them(region: int) -> None:
    assert os.fstat(region).st_blocks * 512 >= LENGTH_BYTES


def test_it_has_no_name_and_is_not_inherited_by_exec(region: int, read_only: int) -> None:
    before = set(Path("/dev/shm").iterdir())
    fd = create_region("a_name_that_would_be_seen", LENGTH_BYTES)
    try:
        assert set(Path("/dev/shm").iterdir()) == before
        assert os.fstat(fd).st_nlink == 0
        assert not any(os.get_inheritable(each) for each in (fd, region, read_only))
    finally:
        os.close(fd)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_pages_that_cannot_be_had_are_an_error_and_leak_nothing(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    before = open_files()
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OutOfMemory, match="--arena-bytes"):
        create_region("test", LENGTH_BYTES)
    assert open_files() == before


def test_other_errors_stay_themselves_and_leak_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    before = open_files()
    monkeypatch.setattr(os, "posix_fallocate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        create_region("test", LENGTH_BYTES)
    assert open_files() == before


def test_both_mappings_show_the_same_bytes(region: int, read_only: int) -> None:
    with (
        RegionMapping(region, LENGTH_BYTES, writable=True) as ours,
        RegionMapping(read_only, LENGTH_BYTES, writable=False) as theirs,
    ):
        ours.view(100, 5)[:] = b"bytes"
        assert bytes(theirs.view(99, 7)) == b"\0bytes\0"
        assert (ours.view(0, 1).readonly, theirs.view(0, 1).readonly) == (False, True)
        array = np.frombuffer(theirs.view(100, 5), np.uint8)
        assert not array.flags.writeable
        ours.view(100, 1)[0] = ord("B")
        assert array.tobytes() == b"Bytes", "a view, not a copy"
        del array


def test_a_mapping_is_populated(region: int) -> None:
    with RegionMapping(region, LENGTH_BYTES, writable=True) as mapping:
        address = np.frombuffer(mapping.view(0, 1), np.uint8).ctypes.data
        rows = Path("/proc/self/smaps").read_text().split(f"{address:x}-", 1)[1].splitlines()
        resident = next(row for row in rows if row.startswith("Rss:"))
        assert int(resident.split()[1]) * 1024 == LENGTH_BYTES


def test_a_read_only_descriptor_is_never_mapped_writable(read_only: int) -> None:
    with pytest.raises(PermissionError):
        RegionMapping(read_only, LENGTH_BYTES, writable=True)
    with pytest.raises(OSError, match=r"Bad file descriptor|not permitted"):
        os.pwrite(read_only, b"x", 0)


def test_writing_through_a_read_only_view_is_a_type_error(read_only: int) -> None:
    with RegionMapping(read_only, LENGTH_BYTES, writable=False) as mapping:
        with pytest.raises(TypeError):
            mapping.view(0, 1)[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            np.frombuffer(mapping.view(0, 1), np.uint8)[0] = 1


def test_writing_behind_pythons_back_is_a_sigsegv(region: int, read_only: int) -> None:
    import ctypes

    with RegionMapping(read_only, LENGTH_BYTES, writable=False) as mapping:
        address = np.frombuffer(mapping.view(64, 1), np.uint8).ctypes.data
        status = in_child(lambda: ctypes.memset(address, 1, 1) and None)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGSEGV
        assert mapping.view(64, 1)[0] == 0
    with RegionMapping(region, LENGTH_BYTES, writable=True) as mapping:  # and the test can fail
        address = np.frombuffer(mapping.view(64, 1), np.uint8).ctypes.data
        assert in_child(lambda: ctypes.memset(address, 1, 1) and None) == 0
        assert mapping.view(64, 1)[0] == 1


@pytest.mark.parametrize(
    ("offset_bytes", "length_bytes"), [(-1, 1), (0, -1), (0, LENGTH_BYTES + 1), (LENGTH_BYTES, 1), (1 << 62, 1 << 62)]
)
def test_a_view_outside_of_the_region_is_refused(region: int, offset_bytes: int, length_bytes: int) -> None:
    with RegionMapping(region, LENGTH_BYTES, writable=True) as mapping:
        with pytest.raises(ValueError, match="outside"):
            mapping.view(offset_bytes, length_bytes)
        assert len(mapping.view(0, LENGTH_BYTES)) == LENGTH_BYTES
        assert len(mapping.view(LENGTH_BYTES, 0)) == 0


def test_a_mapping_longer_than_the_region_is_refused(region: int) -> None:
    with pytest.raises(ValueError, match="length"):
        RegionMapping(region, LENGTH_BYTES + 1, writable=False)


def test_it_does_not_unmap_under_a_view(region: int) -> None:
    mapping = RegionMapping(region, LENGTH_BYTES, writable=True)
    view = mapping.view(0, 1)
    with pytest.raises(BufferError):
        mapping.close()
    assert view[0] == 0
    view.release()
    mapping.close()
    mapping.close()
    with pytest.raises(ValueError, match="released"):
        mapping.view(0, 1)


def test_two_processes_see_each_others_bytes_through_passed_descriptors() -> None:
    """The child is forked first, so it has the regions by message alone; it may write only one of them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def child() -> None:
        _, fds, _, _ = socket.recv_fds(theirs, 1, 2)
        with (
            RegionMapping(fds[0], LENGTH_BYTES, writable=False) as asked,
            RegionMapping(fds[1], LENGTH_BYTES, writable=True) as answered,
        ):
            answered.view(0, 8)[:] = bytes(asked.view(0, 8))[::-1]
            theirs.send(b"done")

    pid = os.fork()
    if pid == 0:
        try:
            child()
            os._exit(0)
        finally:
            os._exit(1)
    fds = [create_region(name, LENGTH_BYTES) for name in ("asked", "answered")]
    fds.append(reopen_read_only(fds[0]))
    with (
        RegionMapping(fds[0], LENGTH_BYTES, writable=True) as asked,
        RegionMapping(fds[1], LENGTH_BYTES, writable=False) as answered,
    ):
        asked.view(0, 8)[:] = b"question"
        socket.send_fds(ours, [b"2"], [fds[2], fds[1]])
        ours.settimeout(30)
        assert ours.recv(16) == b"done"
        assert bytes(answered.view(0, 8)) == b"noitseuq"
    assert os.waitpid(pid, 0)[1] == 0
    for fd in fds:
        os.close(fd)
    ours.close()
    theirs.close()


def test_too_little_memory_names_both_figures_and_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "memory_available_bytes", lambda: 1000)
    check_memory(1000)
    with pytest.raises(ValueError, match=r"1001 bytes.*1000 .*--arena-bytes"):
        check_memory(1001)


PAGES = 8


def bytes_of(memory: WindowMapping) -> memoryview:
    return memoryview(memory.window()).cast("B")


def test_a_private_mapping_shows_what_is_written_to_the_region() -> None:
    fd = create_region("test", PAGES * mmap.PAGESIZE)
    private = WindowMapping(fd, PAGES * mmap.PAGESIZE)
    with RegionMapping(fd, PAGES * mmap.PAGESIZE, writable=True) as shared:
        shared.view(mmap.PAGESIZE, 5)[:] = b"hello"
    assert bytes(bytes_of(private)[mmap.PAGESIZE : mmap.PAGESIZE + 5]) == b"hello"
    os.close(fd)


def test_what_is_written_privately_stays_until_it_is_restored() -> None:
    fd = create_region("test", PAGES * mmap.PAGESIZE)
    private, other = (WindowMapping(fd, PAGES * mmap.PAGESIZE) for _ in range(2))
    bytes_of(private)[5000] = 1
    assert bytes_of(other)[5000] == 0
    with RegionMapping(fd, PAGES * mmap.PAGESIZE, writable=True) as shared:
        shared.view(5001, 1)[:] = b"\2"
    assert bytes(bytes_of(private)[5000:5002]) == b"\1\0", "a page that was written is this process's own"
    assert not private.restore(0, mmap.PAGESIZE), "only the pages that are named"
    assert bytes_of(private)[5000] == 1
    assert private.restore(mmap.PAGESIZE, 10)
    assert bytes(bytes_of(private)[5000:5002]) == b"\0\2"
    assert not private.restore(mmap.PAGESIZE, 10)
    os.close(fd)


def test_restoring_keeps_pages_that_were_only_read() -> None:
    """Dropping them would cost a fault for each: milliseconds for an image."""
    fd = create_region("test", PAGES * mmap.PAGESIZE)
    private = WindowMapping(fd, PAGES * mmap.PAGESIZE)
    assert sum(bytes_of(private)) == 0
    assert not private.restore(0, PAGES * mmap.PAGESIZE)
    os.close(fd)


def test_a_window_is_seen_to_go() -> None:
    fd = create_region("test", mmap.PAGESIZE)
    private = WindowMapping(fd, mmap.PAGESIZE)
    window, gone = private.window(), []
    weakref.finalize(window, gone.append, True)
    view = memoryview(window)[3:5]
    del window
    assert not gone
    del view
    assert gone
    os.close(fd)


def test_a_shared_window_shows_the_region_and_takes_no_writes() -> None:
    fd = create_region("test", PAGES * mmap.PAGESIZE)
    read_only = reopen_read_only(fd)
    reader = WindowMapping(read_only, PAGES * mmap.PAGESIZE, "shared")
    with RegionMapping(fd, PAGES * mmap.PAGESIZE, writable=True) as writer:
        for content in (b"hello", b"again"):
            writer.view(0, 5)[:] = content
            assert bytes(bytes_of(reader)[:5]) == content

    def write() -> None:
        bytes_of(reader)[0] = 1

    assert os.WTERMSIG(in_child(write)) == signal.SIGSEGV
    os.close(fd)
    os.close(read_only)


def test_a_writable_window_needs_a_descriptor_for_writing() -> None:
    fd = create_region("test", mmap.PAGESIZE)
    read_only = reopen_read_only(fd)
    with pytest.raises(PermissionError):
        WindowMapping(read_only, mmap.PAGESIZE, "writable")
    bytes_of(WindowMapping(fd, mmap.PAGESIZE, "writable"))[0] = 7
    assert os.pread(read_only, 1, 0) == b"\7"
    os.close(fd)
    os.close(read_only)
