"""The functions of vLLM that are wrapped, and their wrappers.

Each wrapper calls the original unchanged if the plugin is off in this server, which the launcher decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmplane.engines.kit.hooks import Hook
from mmplane.engines.vllm import core, gpu, launcher, process
from mmplane.engines.vllm.settings import CARRY


def create_engine_config(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """In the launcher, before any process is started; may be called more than once."""
    config = original(self, *args, **kwargs)
    launcher.prepare(config)
    return config


def processor_cache(original: Callable[..., Any], vllm_config: Any) -> Any:
    """In an API server: the cache of processed items."""
    frontend = process.begin_frontend()
    return original(vllm_config) if frontend is None else frontend.cache


def add_request(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """In an API server with an event loop: a request becomes one or several messages."""
    frontend = process.here().frontend
    added = original(self, *args, **kwargs)
    return added if frontend is None else frontend.add(added)


def send_input(
    original: Callable[..., Any], self: Any, request_type: Any, request: Any, *args: Any, **kwargs: Any
) -> Any:
    """In an API server with an event loop: a message to one of the engines."""
    frontend = process.here().frontend
    if frontend is None:
        return original(self, request_type, request, *args, **kwargs)
    engine = kwargs.get("engine", args[0] if args else None) or self.core_engine
    return frontend.send(
        lambda message: original(self, request_type, message, engine), request, self.core_engines.index(engine)
    )


def send_input_now(original: Callable[..., Any], self: Any, request_type: Any, request: Any) -> Any:
    """The same without an event loop."""
    frontend = process.here().frontend
    if frontend is None:
        return original(self, request_type, request)
    return frontend.send_now(lambda message: original(self, request_type, message), request, 0)


def engine_cache(original: Callable[..., Any], vllm_config: Any) -> Any:
    """In an engine core: it keeps no features."""
    return original(vllm_config) if process.begin_waiting() is None else None


def preprocess_add_request(original: Callable[..., Any], self: Any, request: Any) -> Any:
    """In an engine core: a message becomes a request."""
    waiting = process.here().waiting
    if waiting is None:
        return original(self, request)
    return waiting.take(lambda message: original(self, message), request)


def from_request(original: Callable[..., Any], cls: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
    """In an engine core: workers are about to get this request, for the first time or again."""
    data = original(cls, request, *args, **kwargs)
    core.scheduled(request)
    return data


def worker_cache(original: Callable[..., Any], vllm_config: Any, shared_worker_lock: Any) -> Any:
    """In a worker: it copies no features."""
    return None if process.does(CARRY) else original(vllm_config, shared_worker_lock)


def init_device(original: Callable[..., Any], self: Any) -> Any:
    """In a worker. `init_worker` is too early: a spawned worker loads plugins in the middle of it."""
    result = original(self)
    parallel = self.vllm_config.parallel_config
    # In each engine of a dense model `data_parallel_size` is 1 and `data_parallel_rank` 0.
    process.begin_rank(parallel.data_parallel_index, self.global_rank, parallel.world_size)
    return result


def apply_mm_cache(original: Callable[..., Any], self: Any, scheduler_output: Any) -> Any:
    """In a worker: provides the features of new requests."""
    gpu.drain()
    rank = process.here().rank
    if rank is not None:
        rank.apply(scheduler_output)
    return original(self, scheduler_output)


_CLIENT = "vllm.v1.engine.core_client"
_WORKER = "vllm.v1.worker.worker_base"

HOOKS = (
    Hook("vllm.engine.arg_utils.EngineArgs.create_engine_config", create_engine_config),
    Hook("vllm.renderers.base.processor_cache_from_config", processor_cache),
    Hook("vllm.v1.engine.async_llm.AsyncLLM.add_request", add_request),
    Hook(f"{_CLIENT}.AsyncMPClient._send_input", send_input, needs=("engine",)),
    Hook(f"{_CLIENT}.SyncMPClient._send_input", send_input_now),
    Hook("vllm.v1.engine.core.engine_receiver_cache_from_config", engine_cache),
    Hook("vllm.v1.engine.core.EngineCore.preprocess_add_request", preprocess_add_request),
    Hook("vllm.v1.core.sched.output.NewRequestData.from_request", from_request),
    Hook(f"{_WORKER}.worker_receiver_cache_from_config", worker_cache),
    Hook(f"{_WORKER}.WorkerWrapperBase.init_device", init_device),
    Hook(f"{_WORKER}.WorkerWrapperBase._apply_mm_cache", apply_mm_cache),
    Hook("vllm.multimodal.inputs._nested_tensors_h2d", gpu.copy),
)
