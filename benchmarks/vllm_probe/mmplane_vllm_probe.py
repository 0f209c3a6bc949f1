"""A plugin of vLLM that times what new requests cost on the main threads of the engine core and of each worker.

It writes a line of JSON for each step that brings new requests into `MMPLANE_PROBE_FOLDER`: CPU milliseconds of the
thread, and how many requests. And one for each message to the engine: its bytes beside the prompt's token ids. Other
plugins are counted with what they wrap.
"""

import contextlib
import functools
import json
import os
import threading
import time
from pathlib import Path

import msgspec

_now = threading.local()


def load():
    from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.serial_utils import MsgpackEncoder
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    _wrap(Scheduler, "schedule", schedule)
    _wrap(MessageQueue, "enqueue", enqueue)
    _wrap(MessageQueue, "acquire_read", acquire_read)
    _wrap(MessageQueue, "dequeue", dequeue)
    _wrap(MsgpackEncoder, "encode", encode)
    _wrap(WorkerWrapperBase, "init_device", init_device)


def schedule(original, self, *arguments, **options):
    """In the engine core: what to run next."""
    began_s = time.thread_time()
    output = original(self, *arguments, **options)
    _tell("core", "schedule", began_s, _new(output))
    return output


def enqueue(original, self, obj, timeout=None):
    """In the engine core: a step to all workers. Workers answer by the same class, with no requests."""
    began_s = time.thread_time()
    original(self, obj, timeout)
    _tell("core", "enqueue", began_s, _new_of_call(obj))


@contextlib.contextmanager
def acquire_read(original, self, *arguments, **options):
    """In a worker: waiting is not counted, what follows it is."""
    with original(self, *arguments, **options) as buffer:
        _now.began_s = time.thread_time()
        yield buffer


def dequeue(original, self, *arguments, **options):
    """In a worker: a step from the engine core."""
    obj = original(self, *arguments, **options)
    _tell("worker", "dequeue", _now.began_s, _new_of_call(obj))
    return obj


def init_device(original, self):
    """In a worker, when all plugins have wrapped what they wrap: features of the requests of a step."""
    original(self)
    _wrap(type(self), "_apply_mm_cache", apply_mm_cache)


def apply_mm_cache(original, self, output):
    count = _new(output)
    began_s = time.thread_time()
    original(self, output)
    _tell("worker", "apply", began_s, count)


def encode(original, self, obj):
    """In an API server: a message to an engine."""
    frames = original(self, obj)
    if getattr(obj, "prompt_token_ids", None):
        tokens_bytes = len(msgspec.msgpack.encode(obj.prompt_token_ids))
        extra_bytes = sum(memoryview(frame).nbytes for frame in frames) - tokens_bytes
        _write("front", ["message", extra_bytes, 1])
    return frames


def _new(output):
    """New requests in a scheduler's output."""
    return len(output.scheduled_new_reqs)


def _new_of_call(obj):
    arguments = obj[1] if isinstance(obj, tuple) and len(obj) > 1 and isinstance(obj[1], tuple) else ()
    return sum(_new(one) for one in arguments if hasattr(one, "scheduled_new_reqs"))


def _tell(role, name, began_s, count):
    if count:
        _write(role, [name, (time.thread_time() - began_s) * 1000, count])


def _write(role, line):
    with (Path(os.environ["MMPLANE_PROBE_FOLDER"]) / f"{role}.{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _wrap(owner, name, hook):
    original = getattr(owner, name)
    if getattr(original, "_probed", False):
        return

    @functools.wraps(original)
    def wrapped(*arguments, **options):
        return hook(original, *arguments, **options)

    wrapped._probed = True
    setattr(owner, name, wrapped)
