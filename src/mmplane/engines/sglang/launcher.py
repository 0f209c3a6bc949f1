"""In the launcher, before any process is started: start the sidecar, and log whether the plugin is on.

Every server has its own sidecar, a child of its launcher. The server's processes find it through an environment
variable that they inherit. It ends with `Engine.shutdown`, or with the launcher. With several nodes, each launcher has
a part of a plane instead (`mmplane.engines.sglang.nodes`).
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable, Mapping
from typing import Any

from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.environ import envs

from mmplane.arena.errors import OutOfMemory
from mmplane.embed.sidecar import Settings, Sidecar
from mmplane.engines.kit import applied
from mmplane.engines.kit import sidecar as sidecars
from mmplane.engines.kit.room import pictures
from mmplane.engines.sglang import nodes
from mmplane.engines.sglang.building.choice import problem
from mmplane.engines.sglang.plugin import known
from mmplane.engines.sglang.processor.launch import Wanted, wanted
from mmplane.engines.sglang.settings import arena_bytes
from mmplane.engines.sglang.topology import Topology, options_of
from mmplane.engines.sglang.versions import has_worker_app

log = logging.getLogger("mmplane")

PLACE_VARIABLE = "MMPLANE_SGLANG_PLACE"
"""The variable through which the launcher's children find the sidecar."""

WORKER_APP = "mmplane.engines.sglang.worker:app"

BROUGHT_SHARE = 4
"""If the sidecar makes pictures, this fraction (1 / n) of the memory is for features that SGLang makes itself."""


def launch(original: Callable[..., Any], cls: type, server_args: Any, *args: Any, **kwargs: Any) -> Any:
    """Wraps `Engine._launch_scheduler_processes`."""
    sidecars.forget(PLACE_VARIABLE)  # another server's, in a process that starts several
    if (wrong := problem()) is not None:
        log.warning("mmplane: %s", wrong)
    options = options_of(server_args)
    reason = uncovered(options)
    sidecar: sidecars.Stoppable | None = None
    if reason is None:
        config = ModelConfig.from_server_args(server_args)
        reason = _unprofitable(config)
    if reason is None:
        try:
            if options["nnodes"] > 1:
                sidecar = nodes.begin(PLACE_VARIABLE, options)
            else:
                sidecar = _begin(options, wanted(options, getattr(config, "hf_config", None)))
        except (ValueError, OSError, OutOfMemory) as error:
            reason = str(error)
    if sidecar is None:
        log.warning("mmplane: off: %s", reason)
        return original(cls, server_args, *args, **kwargs)
    try:
        launched = original(cls, server_args, *args, **kwargs)
    except BaseException:
        sidecars.end(sidecar)
        raise
    launched[0].mmplane_sidecar = sidecar  # SGLang keeps this object as long as the server lives
    return launched


def shutdown(original: Callable[..., Any], self: Any) -> Any:
    """Wraps `Engine.shutdown`: the sidecar ends after the processes that use it."""
    launched = getattr(self, "_scheduler_init_result", None)
    try:
        return original(self)
    finally:
        sidecar = vars(launched).pop("mmplane_sidecar", None) if launched is not None else None
        if sidecar is not None:
            sidecars.end(sidecar)


def uncovered(options: Mapping[str, Any]) -> str | None:
    """Return why a server with these options stays on SGLang's own path, or None."""
    transport, workers = options.get("mm_feature_transport") or "cpu", options.get("tokenizer_worker_num") or 1
    cases = {
        "pipeline parallelism is not covered": options["pp_size"] > 1,
        "encoder disaggregation is not covered": options.get("language_only") or options.get("encoder_only"),
        "the encoder is not loaded (--language-model-only)": options.get("language_model_only"),
        "without a tokenizer SGLang sends features inline": options["skip_tokenizer_init"],
        "elastic EP: a rank that joins later has no place": options.get("elastic_ep_backend") is not None,
        f"features go from GPU to GPU (--mm-feature-transport {transport})": transport != "cpu",
        "features stay on the GPU (--keep-mm-feature-on-device)": options.get("keep_mm_feature_on_device"),
        "several tokenizers load no plugins before SGLang 0.5.23": workers > 1 and not has_worker_app(),
        "the Rust server is not covered": envs.SGLANG_RUST_SERVER.get(),
    }
    return next((reason for reason, holds in cases.items() if holds), None) or nodes.uncovered(options)


def settings_of(wanted: Wanted | str, total_bytes: int) -> Settings:
    """Return the sidecar's options. If it makes pictures, they take most of the `total_bytes` for features."""
    if isinstance(wanted, str):
        return {"model": None, "producers_bytes": total_bytes}
    brought_bytes = total_bytes // BROUGHT_SHARE
    return {
        "model": wanted.model,
        "backend": wanted.backend,
        "profile": "sglang",
        "encoding": "float32",
        "arena_bytes": total_bytes - brought_bytes,
        "producers_bytes": brought_bytes,
    }


def _unprofitable(config: Any) -> str | None:
    """Check conditions that only SGLang itself knows."""
    missing = applied.missing()
    if missing:
        return f"SGLang did not apply the hook on {missing[0]}"
    if not config.is_multimodal:
        return "the model only takes text"
    return None


def _begin(options: Mapping[str, Any], makes: Wanted | str) -> Sidecar:
    """Raises ValueError, OSError."""
    total_bytes, workers = arena_bytes(), options.get("tokenizer_worker_num") or 1
    if workers > 1 and envs.SGLANG_HTTP_SERVER_APP_PATH.get() != WORKER_APP:
        # SGLang loads plugins in all of its processes except these.
        os.environ["SGLANG_HTTP_SERVER_APP_PATH"] = WORKER_APP
    settings = settings_of(makes, total_bytes)
    brought_bytes = settings["producers_bytes"] or 0
    region_bytes = brought_bytes // workers // mmap.PAGESIZE * mmap.PAGESIZE
    groups = Topology.of(options).groups
    sidecar, place = sidecars.begin(PLACE_VARIABLE, groups=groups, region_bytes=region_bytes, **settings)
    if isinstance(makes, str):
        log.info("mmplane: processor: off: %s", makes)
    else:
        sidecar.otherwise(model=None, producers_bytes=brought_bytes)
    log.info(
        "mmplane: on: SGLang %s; %d MiB of arena, room for %d pictures of 1288x966; %d tokenizer process(es), "
        "ranks in groups of %s",
        known(),
        *(total_bytes >> 20, pictures(total_bytes), workers, "+".join(map(str, place.groups))),
    )
    return sidecar
