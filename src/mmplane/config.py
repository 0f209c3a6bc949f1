"""The configuration of one server: resolved once, frozen, and handed to every process as a record."""

from __future__ import annotations

from typing import Literal

import msgspec

DELIVERY_NAMES = (
    "original",
    "leader",
    "leader-batch",
    "leader-async",
    "delayed",
    "delayed-async",
    "eager",
    "eager-compact",
    "arena",
    "auto",
)
"""Here rather than in `mmplane.delivery`, because the command line imports no torch."""
GIB = 1024**3
MIB = 1024**2


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the processes of one server agree on. Units are last in the names."""

    model: str
    """`tiny`, a local folder, or a hub id."""
    model_folder: str
    """Where the model's files lie, resolved from `model`."""
    served_name: str
    tp: int = 2
    host: str = "127.0.0.1"
    port: int = 8000
    delivery: str = "arena"
    cache: str = "auto"
    """`on`, `off`, or `auto`: on for the arena, off for the other deliveries (analysis A2)."""
    cache_bytes: int = 256 * MIB
    """Features that each rank may keep for the deliveries that do not use the arena."""
    materialise: str = "eager"
    """Whether the front end of an eager delivery decodes (`eager`), or sends an object that ranks decode (`lazy`)."""
    delivery_threads: int = 2
    """Threads that materialise in the background of a rank, or in the front end of an eager delivery."""
    rollback_on: tuple[Literal["errors", "p99"], ...] = ()
    """What takes a share of the traffic back to 0 by itself: `errors`, `p99`."""
    fault_injection: bool = False
    """Whether requests may carry faults: for tests."""
    encoding: str = "auto"
    arena_bytes: int = 1 * GIB
    budget_bytes: int = 1 * GIB
    workers: int = 2
    """Processes that write features into the arena, and threads of the front end in an eager delivery (0: its loop)."""
    kv_bytes: int = 1 * GIB
    running_max: int = 32
    queue_max: int = 256
    """Requests that may wait for admission to the ranks; beyond it 503."""
    prefill_tokens: int = 512
    stall_seconds: float = 5.0
    item_seconds: float = 30.0
    """How long one item may take in a worker before the worker is replaced."""
    drain_seconds: float = 10.0
    images_max: int = 16
    """Images, clips and sounds in one request."""
    video_frames_max: int = 32
    """Frames that are taken of one clip at most, whatever the model's configuration or a request says."""
    body_bytes_max: int = 64 * MIB
    allow_hosts: tuple[str, ...] = ()
    """Names of this server in `Host`, beside loopback's: what a proxy in front of it passes on."""
    fetch_hosts: tuple[str, ...] = ()
    """Hosts that media URLs may name (`*`: any); empty: only data URIs."""
    fetch_networks: tuple[str, ...] = ()
    """Networks beside the public internet that those hosts may lie in, as CIDR."""
    media_root: str = ""
    """The folder whose files `file:` URLs may name; empty: none."""
    context_tokens_max: int = 0
    """Longest prompt plus answer; 0: what the model's configuration says."""
    device: str = "auto"
    """`cpu` or `cuda`; the command line resolves `auto`: cuda when there is one device per rank."""
    runner: str = "hf"
    """What ranks compute with: `hf` the model, `null` nothing (it reads every feature page), `sim:MS` a fixed time."""
    copy_features: bool = False
    """Give the model a copy of its inputs: set by the supervisor when the model turned out to write into them."""
    api_key_file: str = ""
    """Where keys were read from, if from a file. What it says goes to the front end alone, as digests."""
    trace_to: str = ""
    """Where traces go: an OTLP receiver's URL, or `file:PATH`; empty: there are none."""
    log_level: str = "info"
    log_format: str = "text"

    def processes(self) -> int:
        """How many children the supervisor has: front end, parser, workers, ranks."""
        return 2 + self.workers + self.tp

    def decode_bytes(self) -> int:
        """The part of the budget that is kept for items while they are decoded, and what one worker may take."""
        return self.budget_bytes // 2

    def region_bytes(self) -> tuple[int, ...]:
        """Bytes of each region: the front end's (a quarter), then one per worker. Multiples of a page."""
        page_bytes = 4096
        front = self.arena_bytes // 4 // page_bytes * page_bytes
        each = (self.arena_bytes - front) // max(1, self.workers) // page_bytes * page_bytes
        return (front, *([each] * self.workers))
