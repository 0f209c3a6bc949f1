"""What a worker may still do, tried in processes of their own by the system's own calls."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from process_programs import program

from mmplane.process.sandbox import Network, network_here

CONFINED = """
import socket, resource, errno
from mmplane.process import sandbox
network = sandbox.isolate()
def attempt(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    except MemoryError:
        return "MemoryError"
    return "done"
"""


def test_the_network_is_out_of_reach_where_it_is_said_to_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = CONFINED + f"report(attempt(lambda: socket.create_connection(('127.0.0.1', {port}), 5)))"
        text += "\nreport(network.name)"
        with program(text) as confined:
            reached = confined.line() == "done"
            assert confined.line() == network_here().name
        assert reached == (network_here() is Network.NONE)
        listener.setblocking(False)
        if not reached:
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_an_inherited_socket_still_works() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        text = CONFINED + "socket.socket(fileno=int(sys.argv[2])).send(b'here')"
        with program(text, pass_fds=(theirs.fileno(),), arguments=(str(theirs.fileno()),)):
            assert ours.recv(10) == b"here"


WITHOUT_NAMESPACES = CONFINED.replace("network =", "sandbox._leave_the_network = lambda: False\nnetwork =")


def test_no_new_sockets_where_there_is_no_namespace() -> None:
    """What is inherited goes on working; the decision is for good, for children too."""
    ours, theirs = socket.socketpair()
    text = (
        WITHOUT_NAMESPACES
        + """
report(network.name)
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    report(attempt(lambda: socket.socket(family)))
socket.socket(fileno=int(sys.argv[2])).send(b"here")
if os.fork() == 0:
    report(attempt(lambda: socket.socket(socket.AF_INET)))
    os._exit(0)
os.wait()
"""
    )
    with ours, theirs, program(text, pass_fds=(theirs.fileno(),), arguments=(str(theirs.fileno()),)) as confined:
        assert [confined.line() for _ in range(5)] == ["FILTER", *["EPERM"] * 4]
        assert ours.recv(10) == b"here"


def test_without_namespaces_and_libseccomp_it_says_so() -> None:
    missing = "\nfrom mmplane.process import syscalls\nsyscalls.LIBRARY = 'no'\nnetwork ="
    text = WITHOUT_NAMESPACES.replace("\nnetwork =", missing)
    with program(text + "report(network.name)\nreport(attempt(lambda: socket.socket()))") as confined:
        assert [confined.line() for _ in range(2)] == ["NONE", "done"]


BROKEN = {
    "memory": ("sandbox._lower", "RLIMIT_DATA", "test_memory_beyond_the_limit_is_an_error_and_not_the_end"),
    "files that grow": ("sandbox._lower", "RLIMIT_FSIZE", "test_no_file_grows_and_few_are_open"),
    "descriptors": ("sandbox._lower", "RLIMIT_NOFILE", "test_no_file_grows_and_few_are_open"),
    "cores": ("sandbox._lower", "RLIMIT_CORE", "test_no_file_grows_and_few_are_open"),
    "processor time": ("resource.setrlimit", "RLIMIT_CPU", "test_processor_time_is_bounded_and_given_anew"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_limit_that_is_not_set_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants, in the program that each test runs."""
    function, kind, killer = BROKEN[what]
    broken = f"right = {function}\n{function} = lambda kind, wanted: kind == resource.{kind} or right(kind, wanted)\n"
    monkeypatch.setitem(globals(), "CONFINED", CONFINED + broken)
    monkeypatch.setattr("process_programs.HANG_S", 5.0)
    with pytest.raises((AssertionError, subprocess.TimeoutExpired)):
        globals()[killer]()


def test_no_new_privileges_and_it_still_dies_with_its_parent() -> None:
    text = (
        CONFINED
        + """
import ctypes
libc = ctypes.CDLL(None)
number = ctypes.c_int()
sandbox.die_with_parent(os.getppid())
sandbox.isolate()
libc.prctl(2, ctypes.byref(number), 0, 0, 0)
report(number.value)
report([line.split()[1] for line in open("/proc/self/status") if line.startswith("NoNewPrivs")][0])
"""
    )
    with program(text) as confined:
        assert confined.line() == "9"
        assert confined.line() == "1"


def test_memory_beyond_the_limit_is_an_error_and_not_the_end() -> None:
    text = (
        CONFINED
        + """
import mmap
before = mmap.mmap(-1, 256 << 20)  # shared: does not count
sandbox.limit(data_bytes=64 << 20)
report(attempt(lambda: bytes(32 << 20)))
report(attempt(lambda: bytes(128 << 20)))
mmap.mmap(-1, 256 << 20)
report("alive")
"""
    )
    with program(text) as confined:
        assert [confined.line() for _ in range(3)] == ["done", "MemoryError", "alive"]


def test_no_file_grows_and_few_are_open() -> None:
    text = (
        CONFINED
        + """
import tempfile
file = tempfile.TemporaryFile()
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where it is a file, the log may grow
sandbox.limit(data_bytes=64 << 20)
report(attempt(lambda: os.write(file.fileno(), b"x")))
report(attempt(lambda: [os.dup(0) for _ in range(300)]))
report(resource.getrlimit(resource.RLIMIT_CORE))
"""
    )
    with program(text) as confined:
        assert [confined.line() for _ in range(3)] == ["EFBIG", "EMFILE", "(0, 0)"]


def test_processor_time_is_bounded_and_given_anew() -> None:
    text = (
        CONFINED
        + """
sandbox.allow_cpu(0)
first = resource.getrlimit(resource.RLIMIT_CPU)[0]
sandbox.allow_cpu(1000)
report(resource.getrlimit(resource.RLIMIT_CPU)[0] >= first + 1000)
sandbox.allow_cpu(0)
report("spinning")
while True: pass
"""
    )
    with program(text) as confined:
        assert [confined.line() for _ in range(2)] == ["True", "spinning"]
        assert confined.ended_by() == -24  # SIGXCPU


def test_finding_out_leaves_this_process_alone() -> None:
    before = Path("/proc/self/ns/net").readlink()
    network_here()
    assert Path("/proc/self/ns/net").readlink() == before
