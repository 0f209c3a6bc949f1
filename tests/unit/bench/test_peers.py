"""Every carrier gets the same bytes to every reader, and leaves nothing behind; pickling is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mmplane.bench.micro.pickles import Size, pickled

PROGRAM = """
import json
from mmplane.bench.micro.handover import peers
print(json.dumps(peers(400_000, [1, 2], rounds=1, tick=lambda: None)))
"""


def test_all_carriers_hand_over() -> None:
    before = {path.name for path in Path("/dev/shm").iterdir()}
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    rows = json.loads(run.stdout)
    assert {(row["carrier"], row["readers"]) for row in rows} == {
        (name, readers)
        for readers in (1, 2)
        for name in (
            "arena in place",
            "arena in place, every page touched",
            "arena, one copy",
            "named segment per message",
            "torch.multiprocessing",
            "ZMQ + pickle",
            "broadcast_object_list (gloo)",
        )
    }
    assert all(row["hand_over_ms"]["median"] > 0 for row in rows)
    left = {path.name for path in Path("/dev/shm").iterdir()} - before
    assert not [name for name in left if name.startswith("mmplane-handoff")]


def test_both_forms_of_a_request_are_pickled() -> None:
    found = pickled({"image": Size(1000, 4_000_000), "video": Size(2000, 8_000_000)})
    for forms, media_bytes, features_bytes in ((found["image"], 1000, 4_000_000), (found["video"], 2000, 8_000_000)):
        assert features_bytes < forms["finished"]["bytes"] < features_bytes + 10_000
        assert media_bytes < forms["raw"]["bytes"] < media_bytes + 10_000
        assert forms["finished"]["dumps_ms"] > 0
    assert (found["raw"], found["finished"]) == (found["image"]["raw"], found["image"]["finished"])
