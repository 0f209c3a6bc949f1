"""A plugin of SGLang that times what media costs on its two single threads, the tokenizer's loop and each scheduler.

It writes a line of JSON for each call into `MMPLANE_PROBE_FOLDER`: what, milliseconds, how many media requests. A call
inside another is part of that one. The functions are wrapped after every other plugin has wrapped them, so that what a
plugin does instead is counted too.
"""

import functools
import json
import os
import threading
import time
from pathlib import Path

_inside = threading.local()


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
    _time(out, tokenizer_manager, "wrap_shm_features", _of_one)
    _time(out, tokenizer_manager.TokenizerManager, "_dispatch_to_scheduler", _of_one)


def scheduler(original, self, *args, **kwargs):
    """Around `Scheduler.__init__`: what its thread does to receive one and to build its inputs."""
    original(self, *args, **kwargs)
    from sglang.srt.managers.mm_utils import ShmPointerMMData
    from sglang.srt.managers.scheduler import Scheduler
    from sglang.srt.managers.scheduler_components.request_receiver import SchedulerRequestReceiver
    from sglang.srt.runtime_context import get_parallel

    out = _file(f"rank{get_parallel().tp_rank}")
    _time(out, ShmPointerMMData, "__setstate__", _always)
    _time(out, SchedulerRequestReceiver, "_finalize_shm_features", _of_many)
    _time(out, Scheduler, "_get_multimodal_inputs", _always)


def _time(out, owner, name, media):
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args, **kwargs):
        if getattr(_inside, "call", False):
            return function(*args, **kwargs)
        _inside.call = True
        count = media(args)
        began_s = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent_ms = (time.perf_counter() - began_s) * 1000
            _inside.call = False
            if count:
                out.write(json.dumps([name, spent_ms, count]) + "\n")

    setattr(owner, name, timed)


def _always(_arguments):
    return 1


def _of_one(arguments):
    return getattr(arguments[-1], "mm_inputs", None) is not None


def _of_many(arguments):
    return sum(getattr(request, "mm_inputs", None) is not None for request in arguments[-1] or ())


def _file(role):
    return (Path(os.environ["MMPLANE_PROBE_FOLDER"]) / f"{role}.jsonl").open("a", buffering=1)
