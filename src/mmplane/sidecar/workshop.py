"""A sidecar's workers and its maker, built from the configuration if there is a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.config import Config
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.choice import choose
from mmplane.features.room import described
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.items.store import ItemStore
from mmplane.media.profiles import PROFILES
from mmplane.sidecar.making import Making
from mmplane.waiting.budget import Budget


class Workshop:
    """The pool of workers, and the maker that uses them. Raises ValueError, OSError with a text for the operator."""

    def __init__(
        self,
        config: Config,
        arena: Arena,
        region0_fd: int,
        owner: Process,
        tell_supervisor: Callable[[Any], None],
    ) -> None:
        files = CheckpointFiles(config.model_folder)
        PROFILES[config.decode_profile].check_architectures(files.json("config.json").get("architectures") or [])
        processors = choose(config)
        budget = Budget(config.budget_bytes, kept_bytes=config.decode_bytes())
        self.pool = Pool(
            fingerprint=processors.fingerprint,
            workers=config.workers,
            item_seconds=config.item_seconds,
            waiting_max=config.queue_max,
            tell_supervisor=tell_supervisor,
            gone=arena.reaped,
        )
        region = RegionMapping(region0_fd, arena.region_bytes(0), writable=True)
        shelf = Shelf(arena, region, owner)
        store = ItemStore(arena, self.pool, processors, shelf, owner, budget, cache=True)
        self.maker = Making(
            store, self.pool, budget, fingerprint=processors.fingerprint, media_bytes_max=config.body_bytes_max
        )
        self.room = described(processors, config.region_bytes())
        """Describe the backend for the log."""
        self.figures = {
            "encoding": processors.encoding,
            "backend": config.backend,
            "decode_profile": processors.decode_profile,
        }
        """Encoding, backend and decode profile of the features."""

    async def warm(self) -> None:
        """Return once a worker has loaded and compiled everything."""
        self.pool.free(await self.pool.idle(lambda idle: idle[0]))
