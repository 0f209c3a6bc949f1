"""An engine in miniature: one producer, two ranks, and images that reach both without a copy.

    python examples/two_ranks.py

The producer makes features of two images, puts them into the arena, and sends each rank the same records of a hundred
bytes over a pipe. Each rank adds up what it sees. The second image is sent twice and written once.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
from blake3 import blake3

import mmplane

RANKS = 2


def rank(address: str, number: int) -> None:
    """A rank: records in, sums out. The lease ends when the last array over it is gone."""
    inbox = mmplane.Inbox(mmplane.Address.parse(address), number)
    print("ready", flush=True)
    for line in sys.stdin:
        view = inbox.open(mmplane.Leased.decode(msgspec.json.decode(line, type=bytes)))
        features = view.arrays(np)["pixel_values"]
        print(f"rank {number}: {features.shape} {features.dtype}, sum {features.sum():.1f}", flush=True)
        del view, features


def engine() -> None:
    """The producer. Its address goes to the ranks as an argument; they reach the arena through /proc."""
    address = mmplane.Address.create(arena_bytes=64 * 2**20, groups=[RANKS])
    command = [sys.executable, __file__, address.text()]
    ranks = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(RANKS)
    ]
    for process in ranks:
        process.stdout.readline()  # it has mapped the arena
    plane = mmplane.Plane(address)
    for seed in (1, 2, 2):
        with_features = hold(plane, seed)
        record = with_features.lease().encode()
        print(f"image {seed}: a record of {len(record)} bytes")
        for process in ranks:
            print(msgspec.json.encode(record).decode(), file=process.stdin, flush=True)
            print("  " + process.stdout.readline(), end="")
    for process in ranks:
        process.communicate()
    figures = plane.statistics()
    print(f"written: {figures['written_bytes']} bytes, for {figures['arena'].items} items; leases: {figures['leases']}")


def hold(plane: mmplane.Plane, seed: int) -> mmplane.Hold:
    """The features of an image, made once while they are in the arena: this process's claim on them."""
    media = f"image {seed}".encode()
    key = blake3(media).digest()
    held = plane.get(key)
    if held is not None:
        return held
    draft = plane.draft([("pixel_values", "float32", (1024, 1176))])
    pixels = draft.arrays(np)["pixel_values"]
    pixels[:] = np.random.default_rng(seed).random(pixels.shape, np.float32)  # the only write of these bytes
    return draft.publish(key)


if __name__ == "__main__":
    engine() if len(sys.argv) == 1 else rank(sys.argv[1], int(sys.argv[2]))
