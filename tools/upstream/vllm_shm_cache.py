"""vLLM's `--mm-processor-cache-type shm` stops caching for ever after one client leaves while its request waits.

    VLLM/bin/python tools/upstream/vllm_shm_cache.py

The storage frees objects in order, each once its readers have got it as often as it was handed out. A request that is
aborted before it is scheduled is never got, so the ring's oldest object stays, and nothing behind it is freed again.
Exits with 1 when upstream has changed.
"""

from __future__ import annotations

import sys
from multiprocessing import Lock

import torch
from vllm.distributed.device_communicators.shm_object_storage import (
    SingleWriterShmObjectStorage,
    SingleWriterShmRingBuffer,
)

MIB = 2**20
PICTURE = torch.zeros(4 * MIB, dtype=torch.uint8)


def hits(*, one_leaves: bool) -> int:
    """Of ten repeats, after more pictures than the cache holds; before them one client leaves, or none."""
    ring = SingleWriterShmRingBuffer(64 * MIB, create=True)
    sender = SingleWriterShmObjectStorage(8 * MIB, n_readers=1, ring_buffer=ring)
    name = ring.handle()[1]
    seen = SingleWriterShmRingBuffer(64 * MIB, name=name, create=False)
    worker = SingleWriterShmObjectStorage(8 * MIB, n_readers=1, ring_buffer=seen, reader_lock=Lock())
    found = 0
    try:
        if one_leaves:
            sender.put("of a client that left", PICTURE)
        for at in range(60):
            key = f"picture {at // 2}"
            found += sender.is_cached(key) and at >= 40
            try:
                handle = sender.get_cached(key) if sender.is_cached(key) else sender.put(key, PICTURE)
            except MemoryError:
                continue  # vLLM sends the item's bytes instead
            worker.get(*handle, sender.get_signature(key), key)
    finally:
        seen.close()
        ring.close()
    return found


if __name__ == "__main__":
    without, after = hits(one_leaves=False), hits(one_leaves=True)
    print(f"hits of 10 repeats: {without}; after one client has left: {after}")
    sys.exit(not without > after == 0)
