"""Measures how vLLM hands features over: `python -m mmplane.bench.micro.vllm_carriers BYTES READERS ROUNDS`.

It runs in an environment that has vLLM (`--vllm-python`) and only the source of this package, and prints the
rows as JSON. It measures vLLM's own classes with their defaults: `MessageQueue`, which carries requests
from the engine to its workers, the same with its tensor arena, and the object storage of its `shm` cache.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import torch

from mmplane.bench.micro.carriers import Carrier, Features, InPlace, InPlaceEveryPage
from mmplane.bench.micro.team import DEADLINE_S, Row, Team
from mmplane.core.records import MESSAGE_BYTES_MAX

RUN_LIMIT_S = 600.0
WARM_UP = 9
"""Warm-up rounds: vLLM's arena has eight slots, each of which is slow once."""


class Queue(Carrier):
    """`vllm.distributed.device_communicators.shm_broadcast.MessageQueue`: pickled, through a ring of chunks."""

    name = "vLLM MessageQueue"
    arena: ClassVar[bool] = False

    def __init__(self, shape: tuple[int, ...], readers: int) -> None:
        super().__init__(shape, readers)
        from vllm.distributed.device_communicators.shm_broadcast import MessageQueue

        self._kind = MessageQueue
        # A reader keeps it too, as long as it lives, because its destructor removes the segments in any process.
        self._writer = self._queue = MessageQueue(readers, readers, enable_shm_tensor_arena=self.arena)

    def open(self, rank: int) -> None:
        super().open(rank)
        if rank:
            self._queue = self._kind.create_from_handle(self._queue.export_handle(), rank - 1)
        self._queue.wait_until_ready()

    def send(self, team: Team) -> None:
        self._queue.enqueue(torch.from_numpy(self.private), timeout=DEADLINE_S)

    def receive(self, control: socket.socket) -> Features:
        features: Features = self._queue.dequeue(timeout=DEADLINE_S).numpy()
        return features


class TensorArena(Queue):
    """The same with `--enable-shm-tensor-arena`: one copy into a slot, views over it on the readers."""

    name = "vLLM MessageQueue, tensor arena"
    arena = True


class ObjectStorage(Carrier):
    """`SingleWriterShmObjectStorage`, of `--mm-processor-cache-type shm`: encoded in, decoded out by every reader."""

    name = "vLLM object storage"

    def __init__(self, shape: tuple[int, ...], readers: int) -> None:
        super().__init__(shape, readers)
        from vllm.distributed.device_communicators import shm_object_storage

        self._module = shm_object_storage
        self._object_bytes = int(np.prod(shape)) * 4 + (1 << 20)
        self._ring = shm_object_storage.SingleWriterShmRingBuffer(4 * self._object_bytes, create=True)
        self._writer = self._storage = self._storage_over(self._ring, None)
        self._lock = multiprocessing.get_context("fork").Lock()
        self._turn = 0

    def _storage_over(self, ring: Any, lock: Any) -> Any:
        kind = self._module.SingleWriterShmObjectStorage
        return kind(self._object_bytes, self.readers, ring, reader_lock=lock)

    def open(self, rank: int) -> None:
        super().open(rank)
        if rank:
            ring = self._module.SingleWriterShmRingBuffer(*self._ring.handle())
            self._storage = self._storage_over(ring, self._lock)

    def send(self, team: Team) -> None:
        self._turn += 1
        key = f"turn {self._turn}"
        address, number = self._storage.put(key, torch.from_numpy(self.private))
        team.tell(msgspec.msgpack.encode((address, number, self._storage.get_signature(key), key)))

    def receive(self, control: socket.socket) -> Features:
        features: Features = self._storage.get(*msgspec.msgpack.decode(control.recv(MESSAGE_BYTES_MAX))).numpy()
        return features


CARRIERS: tuple[type[Carrier], ...] = (InPlace, InPlaceEveryPage, TensorArena, ObjectStorage, Queue)


def vllm_peers(python: Path, features_bytes: int, readers: Sequence[int], rounds: int) -> list[Row]:
    """Run this file in vLLM's environment. Raises ValueError with the end of its output if it fails."""
    command = [str(python), "-m", __name__, str(features_bytes), ",".join(map(str, readers)), str(rounds)]
    source = str(Path(__file__).parents[3])
    try:
        ran = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": source, "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"--vllm-python: {error}") from None
    if ran.returncode:
        raise ValueError(f"--vllm-python: vLLM's ways could not be measured:\n{ran.stderr[-2000:]}")
    rows: list[Row] = json.loads(ran.stdout.splitlines()[-1])
    return rows


def main(arguments: Sequence[str]) -> None:
    """Print the rows."""
    import vllm

    from mmplane.bench.micro.handover import peers

    features_bytes, readers, rounds = arguments
    counts = [int(count) for count in readers.split(",")]
    rows = peers(int(features_bytes), counts, rounds=int(rounds), warm_up=WARM_UP, carriers=CARRIERS, tick=lambda: None)
    print(json.dumps([row | {"environment": f"vLLM {vllm.__version__}"} for row in rows]))


if __name__ == "__main__":
    main(sys.argv[1:])
