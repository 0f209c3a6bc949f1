"""A plugin of SGLang that times what its single threads do with requests, and what the model takes.

It writes a line of JSON for each call into `MMPLANE_LOOPS_FOLDER`: what, wall seconds, CPU seconds of the thread. The
functions are wrapped after every other plugin has wrapped them, so what a plugin does instead is counted too. Calls of
less than `LEAST_S` are left out: an idle scheduler makes thousands.
"""

import functools
import json
import os
import time
from pathlib import Path

LEAST_S = 20e-6


def load():
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    managers = "sglang.srt.managers"
    HookRegistry.register(f"{managers}.tokenizer_manager.TokenizerManager.__init__", tokenizer, HookType.AROUND)
    HookRegistry.register(f"{managers}.scheduler.Scheduler.__init__", scheduler, HookType.AROUND)


def tokenizer(original, self, *args, **kwargs):
    """Around `TokenizerManager.__init__`: what its event loop does to send a request."""
    original(self, *args, **kwargs)
    from sglang.srt.managers import tokenizer_manager

    out = _file("tokenizer")
    _time(out, tokenizer_manager, "wrap_shm_features")
    _time(out, tokenizer_manager.TokenizerManager, "_dispatch_to_scheduler")


def scheduler(original, self, *args, **kwargs):
    """Around `Scheduler.__init__`: what its thread does to receive requests and handle them; and the model."""
    original(self, *args, **kwargs)
    from sglang.srt.managers.mm_utils import ShmPointerMMData
    from sglang.srt.managers.scheduler import Scheduler
    from sglang.srt.managers.scheduler_components.request_receiver import SchedulerRequestReceiver
    from sglang.srt.runtime_context import get_parallel

    out = _file(f"rank{get_parallel().tp_rank}")
    _time(out, ShmPointerMMData, "__setstate__")
    _time(out, SchedulerRequestReceiver, "_finalize_shm_features")
    _time(out, Scheduler, "process_input_requests")
    _time(out, Scheduler, "run_batch")


def _time(out, owner, name):
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args, **kwargs):
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent_s = time.perf_counter() - began_s
            if spent_s >= LEAST_S:
                out.write(json.dumps([name, spent_s, time.thread_time() - began_cpu_s]) + "\n")

    setattr(owner, name, timed)


def _file(role):
    return (Path(os.environ["MMPLANE_LOOPS_FOLDER"]) / f"{role}.jsonl").open("a", buffering=1)
