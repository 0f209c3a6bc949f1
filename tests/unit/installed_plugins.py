"""Runs with the base package alone: loads every plugin as its engine would, and sends bytes through a sidecar.

Prints what was loaded, and what a rank has read.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from typing import Any

import mmplane

LENGTH_BYTES = 4096


def loaded() -> list[str]:
    """The groups whose plugin `mmplane` could be loaded; an exception would end some engines."""
    groups = []
    for group in ("sglang.srt.plugins", "vllm.general_plugins"):
        for point in entry_points(group=group, name="mmplane"):
            point.load()()
            groups.append(group)
    return groups


def carried() -> list[Any]:
    """Leases while a rank has a slot open, and its length in bytes."""
    with mmplane.Sidecar.start(model=None, producers_bytes=2**20) as sidecar:
        with sidecar.connect(arena_bytes=2**20) as client:
            rank = mmplane.Inbox(sidecar.socket)
            client.wait_ranks()
            with client.draft([("f", "uint8", (LENGTH_BYTES,))]).publish(bytes(32)) as hold:
                leased = hold.lease()
            view = rank.open(leased)
            held = client.statistics()["leases"]
            length_bytes = view.leased.item.tensors[0].shape[0]
            del view
            rank.close()
        return [held, length_bytes]


if __name__ == "__main__":
    print(json.dumps({"loaded": loaded(), "carried": carried(), "modules": sorted(sys.modules)}))
