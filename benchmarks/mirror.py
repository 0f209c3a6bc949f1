"""What do features for ranks on another machine cost the producer, and what crosses the network?

    PYTHONPATH=tests/process:tests/shared python benchmarks/mirror.py [--items 40] [--ranks 2]

Two machines in network namespaces (needs root), with `--ranks` ranks on the second. Each item is put into a plane of
the library and opened by every rank, through a mirror. In turns with this, the same array is pickled once and sent to a
process for each rank, over TCP, which unpickles it: what an engine does without shared memory. Counted are the CPU of
this process, that of all processes on the second machine, and the bytes that arrive there.

Bias: both machines share the same cores here, the receivers of pickles do nothing else, and hashing of keys is not
counted. TLS is off.
"""

from __future__ import annotations

import argparse
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from machines import SERVER, Network
from two_machines import Away, away

from embed_rig import Remote, key
from polling import until

HANG_S = 120.0
SHAPES = {"picture, uint8": ((6256, 588), np.uint8), "picture, float32": ((6256, 588), np.float32)}
RECEIVER = """
import pickle, socket, struct, sys
from pathlib import Path
end = socket.create_connection((sys.argv[1], int(sys.argv[2])))
stream = end.makefile("rb")
while length := stream.read(8):
    found = pickle.loads(stream.read(struct.unpack("<Q", length)[0]))
    end.sendall(b"+")
"""


class Pickled:
    """A receiver for each rank, on the second machine."""

    def __init__(self, network: Network, ranks: int) -> None:
        with network.inside(0):
            listener = socket.create_server((SERVER, 0))
        port = str(listener.getsockname()[1])
        with network.inside(1):
            self.processes = [subprocess.Popen([sys.executable, "-c", RECEIVER, SERVER, port]) for _ in range(ranks)]
        self._ends = [listener.accept()[0] for _ in range(ranks)]
        listener.close()

    def send(self, features: Any) -> None:
        message = pickle.dumps(features, protocol=5)
        for end in self._ends:
            end.sendall(len(message).to_bytes(8, "little"))
            end.sendall(message)
        for end in self._ends:
            assert end.recv(1) == b"+"

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for process in self.processes:
            process.wait()


class Mirrored:
    """A plane, its mirror, and its ranks on the second machine."""

    def __init__(self, two: Away, ranks: int) -> None:
        self._plane = two.plane
        mirror = two.mirror()
        self._ranks: list[Remote] = [two.rank(rank, mirror) for rank in range(ranks)]
        until(self._plane.is_ready, HANG_S, "all ranks have joined")
        self.processes = [mirror.process, *(rank.process for rank in self._ranks)]
        self._sent = 0

    def send(self, features: Any) -> None:
        self._sent += 1
        hold = self._plane.put(key(self._sent), {"f": features})
        assert self._plane.wait(hold, limit_s=HANG_S)
        leased = hold.lease()
        for rank in self._ranks:
            rank.tell("glance", leased)


def cpu_s(processes: list[Any]) -> float:
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def measured(network: Network, send: Callable[[Any], None], processes: list[Any], arrays: list[Any]) -> list[float]:
    """Milliseconds of CPU per item here and there, milliseconds of time, and bytes per item's bytes."""
    before = network.received_bytes(1)
    here, there, began_s = time.process_time(), cpu_s(processes), time.perf_counter()
    for array in arrays:
        send(array)
    passed_s = time.perf_counter() - began_s
    cpu = [time.process_time() - here, cpu_s(processes) - there]
    crossed = (network.received_bytes(1) - before) / sum(array.nbytes for array in arrays)
    return [*(seconds / len(arrays) * 1000 for seconds in (*cpu, passed_s)), crossed]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--ranks", type=int, default=2)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {options.ranks} ranks on the second machine, {options.items} items each")
    print("| item | how | CPU here, ms | CPU there, ms | time, ms | bytes crossed / features |")
    print("|---|---|---|---|---|---|")
    network = Network(1)
    try:
        with away(network, options.ranks) as two:
            mirrored, pickled = Mirrored(two, options.ranks), Pickled(network, options.ranks)
            ways: dict[str, Any] = {"mirror": mirrored, "pickled to each rank": pickled}
            for name, (shape, dtype) in SHAPES.items():
                arrays = [np.random.default_rng(number).integers(0, 255, shape).astype(dtype) for number in range(4)]
                rows: dict[str, list[list[float]]] = {how: [] for how in ways}
                for _ in range(options.items // len(arrays)):
                    for how, way in ways.items():
                        rows[how].append(measured(network, way.send, way.processes, arrays))
                for how, found in rows.items():
                    medians = np.median(np.array(found), axis=0)
                    print(f"| {name} | {how} | " + " | ".join(f"{figure:.2f}" for figure in medians) + " |")
            pickled.close()
    finally:
        network.close()


if __name__ == "__main__":
    main()
