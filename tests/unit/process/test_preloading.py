"""What the nursery imports, and how: nothing needless, without collections, which find nothing."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import gc, importlib, json, sys
from mmplane.process import nursery

collections = []
gc.callbacks.append(lambda phase, _: collections.append(phase))
before = len(collections)
nursery.preload("server")
during, frozen = len(collections) - before, gc.get_freeze_count()
missing = "numpy.ma" not in sys.modules
needless = sorted({name.partition(".")[0] for name in sys.modules} & set(nursery.NEEDLESS))
found = [importlib.util.find_spec(name) is not None for name in nursery.NEEDLESS]
print(json.dumps([during, frozen > 100_000, gc.isenabled(), needless, missing, found]))
"""


def test_a_server_is_preloaded_without_collections_and_without_what_is_for_training() -> None:
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    during, frozen, enabled, needless, missing, found = json.loads(ended.stdout.splitlines()[-1])
    assert during == 0
    assert frozen
    assert enabled
    assert needless == []
    assert not missing, "numba imports it at a loop's first call, in every worker"
    assert all(found), "a child that needs one finds it"
