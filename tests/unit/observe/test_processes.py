"""CPU of processes, against processes whose use is known."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time

from mmplane.core.control import Running
from mmplane.observe.processes import Processes, process_cpu_s


def test_cpu_of_threads_that_have_ended_counts() -> None:
    before_s = process_cpu_s(os.getpid())
    spent_s: list[float] = []

    def spend() -> None:
        while time.thread_time() < 0.05:
            pass
        spent_s.append(time.thread_time())

    thread = threading.Thread(target=spend)
    thread.start()
    thread.join()
    assert process_cpu_s(os.getpid()) - before_s >= spent_s[0]


def test_cpu_is_the_processes_own() -> None:
    began_s = process_cpu_s(os.getpid())
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        assert process_cpu_s(child.pid) >= 0.3
        child.communicate(b"\n")
    assert process_cpu_s(os.getpid()) - began_s < 0.3


def test_each_process_is_read_by_its_role_and_number() -> None:
    processes = Processes()
    assert processes.cpu_s() == {}
    pid = os.getpid()
    processes.replace([Running("supervisor", 0, pid), Running("worker", 1, pid), Running("rank", 0, pid)])
    found = processes.cpu_s()
    assert set(found) == {("supervisor", ""), ("worker", "1"), ("rank", "0")}
    assert all(seconds > 0 for seconds in found.values())


def test_memory_of_its_own_and_memory_that_is_shared_are_told_apart() -> None:
    processes = Processes()
    processes.replace([Running("rank", 1, os.getpid())])

    def resident() -> tuple[float, float]:
        found = processes.resident_bytes()
        assert set(found) == {("rank", "1", "private"), ("rank", "1", "shared")}
        return found["rank", "1", "private"], found["rank", "1", "shared"]

    size_bytes, tolerance_bytes = 64 * 2**20, 8 * 2**20
    private, shared = resident()
    with mmap.mmap(-1, size_bytes) as memory:  # shared, anonymous, as the arena is
        memory.write(b"\1" * size_bytes)
        more_private, more_shared = resident()
    assert abs(more_shared - shared - size_bytes) < tolerance_bytes
    assert abs(more_private - private) < size_bytes


def test_a_process_that_has_ended_is_left_out() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    processes = Processes()
    processes.replace([Running("worker", 1, child.pid), Running("rank", 0, os.getpid())])
    assert set(processes.cpu_s()) == {("rank", "0")}
    assert {labels[0] for labels in processes.resident_bytes()} == {"rank"}
