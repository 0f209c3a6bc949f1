"""In the launcher, before any process is started: reserve the memory, and say in one line whether the plugin is on.

Every tokenizer process has an arena of its own, since an arena has one owner. Which is whose they settle by drawing
tickets: a pipe holds one byte for each arena, and whoever reads it first has it, once for the server's life. A worker
that SGLang starts again finds no ticket and serves by SGLang's own way; ranks may still read what its predecessor sent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Self

import msgspec
from sglang.srt.environ import envs
from sglang.srt.runtime_context import get_disagg, get_parallel, get_serving

from mmplane.arena.errors import OutOfMemory
from mmplane.core.records import Count, Record
from mmplane.embed.address import Address
from mmplane.engines.kit import applied
from mmplane.engines.sglang.building.choice import problem
from mmplane.engines.sglang.settings import arena_bytes

log = logging.getLogger("mmplane")

PLANES_VARIABLE = "MMPLANE_SGLANG_PLANES"
"""How the launcher's children find the planes: they inherit it."""

WORKER_APP = "mmplane.engines.sglang.worker:app"


class Planes(Record, frozen=True):
    """The planes of one server."""

    pid: Count
    tickets_fd: Count
    addresses: tuple[Address, ...]

    @classmethod
    def create(cls, count: int, arena_bytes: int, groups: tuple[int, ...]) -> Self:
        """Reserve them. Raises ValueError and OutOfMemory."""
        addresses = tuple(Address.create(arena_bytes // count, groups) for _ in range(count))
        tickets_fd, into_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.write(into_fd, bytes(range(count)))
        return cls(os.getpid(), tickets_fd, addresses)

    @classmethod
    def inherited(cls) -> Self | None:
        """Those of this process's server; None where the plugin is off."""
        text = os.environ.get(PLANES_VARIABLE)
        return None if not text else msgspec.json.decode(text, type=cls)

    def draw(self) -> int | None:
        """The number of a plane that is this process's from now on; None when all are taken."""
        ticket_fd = os.open(f"/proc/{self.pid}/fd/{self.tickets_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(ticket_fd, 1)[0]
        except BlockingIOError:
            return None
        finally:
            os.close(ticket_fd)


def launch(original: Callable[..., Any], cls: type, *args: Any, **kwargs: Any) -> Any:
    """Around `Engine._launch_scheduler_processes`."""
    os.environ.pop(PLANES_VARIABLE, None)  # another server's, in a process that starts several
    if (wrong := problem()) is not None:
        log.warning("mmplane: %s", wrong)
    reason = uncovered()
    if reason is None:
        try:
            _prepare()
        except (ValueError, OSError, OutOfMemory) as error:
            reason = str(error)
    if reason is not None:
        log.warning("mmplane: off: %s", reason)
    return original(cls, *args, **kwargs)


def uncovered() -> str | None:
    """Why this server stays on SGLang's own path, if it does."""
    missing = applied.missing()
    if missing:
        return f"SGLang did not apply the hook on {missing[0]}"
    parallel = get_parallel()
    if parallel.nnodes > 1:
        return "several nodes share no memory"
    if parallel.pp_size > 1:
        return "pipeline parallelism is not covered"
    disaggregation = get_disagg()
    if disaggregation.disaggregation_mode != "null" or disaggregation.language_only or disaggregation.encoder_only:
        return "disaggregation is not covered"
    if get_serving().skip_tokenizer_init:
        return "without a tokenizer SGLang sends features inline"
    if envs.SGLANG_RUST_SERVER.get():
        return "the Rust server is not covered"
    return None


def groups_of() -> tuple[int, ...]:
    """How many ranks get each message, for each group of ranks that shares a waiting queue."""
    parallel = get_parallel()
    width = parallel.attn_tp_size * parallel.attn_cp_size if parallel.attn_dp_enabled else parallel.tp_size
    return (int(width),) * int(parallel.num_dp_ranks)


def _prepare() -> None:
    wanted_bytes = arena_bytes()
    workers = get_serving().tokenizer_worker_num
    if workers > 1 and envs.SGLANG_HTTP_SERVER_APP_PATH.get() != WORKER_APP:
        # SGLang loads plugins in all of its processes but these.
        os.environ["SGLANG_HTTP_SERVER_APP_PATH"] = WORKER_APP
    planes = Planes.create(workers, wanted_bytes, groups_of())
    os.environ[PLANES_VARIABLE] = msgspec.json.encode(planes).decode()
    log.info(
        "mmplane: on: %d MiB of arena, %d tokenizer process(es), ranks in groups of %s",
        wanted_bytes >> 20,
        workers,
        "+".join(str(count) for count in planes.addresses[0].groups),
    )
