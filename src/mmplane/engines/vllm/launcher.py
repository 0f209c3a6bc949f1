"""In the launcher, before any process is started: starts the sidecar, and logs whether the plugin is on."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from mmplane.embed.client import connect
from mmplane.embed.errors import SidecarError
from mmplane.embed.sidecar import Settings, Sidecar
from mmplane.engines.kit import sidecar
from mmplane.engines.vllm import process, settings
from mmplane.engines.vllm.make.begin import begin_making, making

log = logging.getLogger("vllm.mmplane")

_EXECUTORS = ("mp", "uni", None)
PUT_SHARE = 4
"""If most features are made in the arena, this fraction (1 / n) of it is for features that vLLM makes."""


@dataclass
class Begun:
    """The sidecar of the server that this process has started to start."""

    sidecar: Sidecar
    shape: tuple[int, ...]
    pid: int


_begun: Begun | None = None


def prepare(config: Any) -> None:
    """Decide for this configuration. vLLM creates several for one server, and nothing here may end the process."""
    parallel = config.parallel_config
    if parallel._api_process_rank < 0 or parallel._api_process_count <= 1:  # this is a child: its launcher has decided
        _decide(config)
    if process.does(settings.MAKE):
        begin_making(config, process.client)


def _decide(config: Any) -> None:
    parallel = config.parallel_config
    shape = (parallel.world_size, parallel.data_parallel_size, parallel._api_process_count)
    if _is_begun(shape):
        return
    sidecar.forget(process.PLACE_VARIABLE)
    try:
        reason = uncovered(config)
        if reason is None:
            reason = _begin(config, shape)
    except Exception as error:
        log.debug("mmplane: off", exc_info=True)
        reason = f"{type(error).__name__}: {error}"
    if reason is not None:
        log.warning("mmplane: off: %s", reason)


def uncovered(config: Any) -> str | None:
    """Return why this server stays on vLLM's own path, or None."""
    return _unwanted(config) or _unreachable(config.parallel_config) or _otherwise_carried(config)


def _unwanted(config: Any) -> str | None:
    model = config.model_config
    if not settings.modes():
        return f"{settings.MODES_VARIABLE} says so"
    if not model.supports_multimodal_inputs:
        return "the model takes no media"
    if model.get_multimodal_config().mm_processor_cache_gb <= 0:
        return "--mm-processor-cache-gb 0 asks for no cache"
    return None


def _unreachable(parallel: Any) -> str | None:
    """Return why a process of this server would not find the sidecar, or not under its number."""
    if os.environ.get("VLLM_WORKER_MULTIPROC_METHOD") == "forkserver":
        return "forkserver children do not see the sidecar"
    if parallel.nnodes > 1 or parallel.data_parallel_size_local != parallel.data_parallel_size:
        return "several nodes share no memory"
    if parallel.data_parallel_external_lb or parallel.data_parallel_hybrid_lb:
        return "engines behind another load balancer are not covered"
    if parallel.distributed_executor_backend not in _EXECUTORS or parallel.data_parallel_backend != "mp":
        return f"the executor {parallel.distributed_executor_backend} is not covered"
    if parallel.enable_elastic_ep or parallel.enable_fault_tolerance:
        return "engines that come and go are not covered"
    return None


def _otherwise_carried(config: Any) -> str | None:
    """Return why features of this server do not take the hooked path."""
    if os.environ.get("VLLM_USE_RUST_FRONTEND", "0") != "0":
        return "the Rust front end is not covered"
    if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "1") == "0":
        return "everything is in one process"
    if config.ec_transfer_config is not None:
        return "encoder disaggregation is not covered"
    return None


def _begin(config: Any, shape: tuple[int, ...]) -> str | None:
    """Return why the plugin stays off, or None. Raises OSError, and ValueError for settings."""
    global _begun
    ranks, engines, frontends = shape
    modes, wanted_bytes = settings.modes(), settings.arena_bytes()
    made, reason = making(config) if settings.MAKE in modes else (None, None)
    if made is None:
        modes -= {settings.MAKE}
    if not modes:
        return reason
    if reason is not None:
        log.warning("mmplane: make is off: %s", reason)
    region_bytes = _region_bytes(wanted_bytes, modes)
    begun, _ = sidecar.begin(
        process.PLACE_VARIABLE,
        groups=(ranks,) * engines,
        region_bytes=region_bytes // frontends,
        **_settings(made, wanted_bytes - region_bytes, region_bytes),
    )
    _begun = Begun(begun, shape, os.getpid())
    process.decide(modes)
    log.info(
        "mmplane: on (%s): %d MiB of arena, %d API server(s), %d engine(s) of %d rank(s)",
        ", ".join(sorted(modes)),
        wanted_bytes >> 20,
        frontends,
        engines,
        ranks,
    )
    return None


def _region_bytes(wanted_bytes: int, modes: frozenset[str]) -> int:
    """The part of the arena for features that vLLM has made, if features are carried."""
    if settings.CARRY not in modes:
        return 0
    return wanted_bytes // PUT_SHARE if settings.MAKE in modes else wanted_bytes


def _settings(made: Settings | None, arena_bytes: int, producers_bytes: int) -> Settings:
    if made is None:
        return Settings(model=None, producers_bytes=producers_bytes)
    return {**made, "arena_bytes": arena_bytes, "producers_bytes": producers_bytes or None}


def _is_begun(shape: tuple[int, ...]) -> bool:
    """Whether the sidecar is there for this server: no rank of another server is attached to it."""
    if _begun is None or _begun.pid != os.getpid() or _begun.shape != shape or process.PLACE_VARIABLE not in os.environ:
        return False
    try:
        with connect(_begun.sidecar.socket) as client:
            return not client.statistics()["sessions"].get("rank")
    except SidecarError:  # it is starting
        return True
