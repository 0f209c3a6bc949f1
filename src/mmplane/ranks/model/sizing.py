"""How much memory a rank gives to keys, values and states: `--kv-bytes`, and on a GPU what is free there.

A GPU is asked after the weights have been loaded and the probe has run, so that the memory of libraries is in use.
"""

from __future__ import annotations

import logging
from dataclasses import astuple
from typing import Any

import torch
import torch.distributed as dist

from mmplane.config import GIB, MIB, Config
from mmplane.ranks.plan.room import Room, Sizes, divided, left_on_gpu

log = logging.getLogger("mmplane")


def room_for(config: Config, sizes: Sizes, *, rank: int, device: torch.device, cuda: Any = torch.cuda) -> Room:
    """The same on all ranks, each of which must call it. Rank 0 logs it. Raises ValueError if it is too small."""
    limit_bytes, why = config.kv_bytes, ""
    if device.type == "cuda":
        cuda.empty_cache()
        free_bytes, _ = cuda.mem_get_info(device)
        embeddings_bytes = config.embedding_cache_bytes
        left_bytes = left_on_gpu(free_bytes, reserve_bytes=config.gpu_reserve_bytes, embeddings_bytes=embeddings_bytes)
        limit_bytes = min(limit_bytes, left_bytes)
        why = (
            f"; the GPU has {_size(free_bytes)} free, {_size(embeddings_bytes)} of it for embeddings "
            f"and {_size(config.gpu_reserve_bytes)} for steps (--gpu-reserve-bytes)"
        )
    limit_bytes, sizes = _agreed(limit_bytes, sizes, config.tp, device)
    users = {"running_max": config.running_max, "items_max": config.images_max, "tenants": config.tenants}
    room = divided(limit_bytes, sizes, **users)
    if rank == 0:
        log.info(
            "rank 0: keys and values of %d tokens in %s%s%s",
            room.tokens,
            _size(room.tokens * sizes.token_bytes),
            f", states in {_size(room.states_bytes)}" if room.states_bytes else "",
            why,
        )
    return room


def _agreed(limit_bytes: int, sizes: Sizes, tp: int, device: torch.device) -> tuple[int, Sizes]:
    """The least memory and the largest sizes of any rank, because all ranks keep the same table."""
    if tp == 1:
        return limit_bytes, sizes
    most = torch.tensor([-limit_bytes, *astuple(sizes)], device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    negative, *largest = most.tolist()
    return -negative, Sizes(*largest)


def _size(length_bytes: int) -> str:
    return f"{length_bytes / GIB:.2f} GiB" if length_bytes >= GIB else f"{length_bytes / MIB:.1f} MiB"
