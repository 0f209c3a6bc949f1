"""The configuration of one server: resolved once, frozen, and handed to every process as a record."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mmplane.core.records import BackendName, DecodeProfile, Modality

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
JOIN_MAX = 16
COUNT_MAX = 2**20
BYTES_MAX = 2**53
SECONDS_MAX = 1e6
"""The largest that a setting may be where nothing sets a smaller bound: it fits messages, timers and exact floats."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the processes of one server agree on. Units are last in the names.

    Each number declares its range, which holds for flags, variables and files alike (`mmplane.ranges`).
    """

    model: str
    """`tiny`, a local folder, or a hub id."""
    model_folder: str
    """Where the model's files lie, resolved from `model`."""
    served_name: str
    """What the model is called."""
    tp: Annotated[int, Meta(ge=1, le=64)] = 2
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    delivery: str = "arena"
    cache: str = "auto"
    """`on`, `off`, or `auto`: on for the arena, off for the other deliveries (analysis A2)."""
    cache_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)] = 256 * MIB
    """Features that each rank may keep for the deliveries that do not use the arena."""
    embedding_cache_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)] = 256 * MIB
    """What each rank may keep of what its encoders made, for later requests."""
    materialise: str = "eager"
    """Whether the front end of an eager delivery decodes (`eager`), or sends an object that ranks decode (`lazy`)."""
    ingress: str = "auto"
    """Where inline bytes go: to `every-rank`, to the `leader` alone, or with `auto` where each delivery needs them."""
    feature_hash: str = "sha256"
    """What the deliveries that are baselines hash features with, as the incident's engine does: `sha256`, or `none`."""
    delivery_threads: Annotated[int, Meta(ge=1, le=256)] = 2
    """Threads of each rank that materialise in the background, for `delayed-async`: as many as analysis C2 gives."""
    leader_threads: Annotated[int, Meta(ge=1, le=256)] = 4
    """Threads of rank 0 that materialise in the background, for `leader-async`: as many as analysis A3 gives."""
    rollback_on: tuple[Literal["errors", "p99"], ...] = ()
    """What takes a share of the traffic back to 0 by itself: `errors`, `p99`."""
    fault_injection: bool = False
    """Whether requests may carry faults: for tests."""
    encoding: str = "auto"
    backend: BackendName = "pil"
    """Whose bits images have: of transformers with Pillow, or with torchvision, as engines use it."""
    arena_bytes: Annotated[int, Meta(ge=4 * MIB, le=BYTES_MAX)] = 1 * GIB
    budget_bytes: Annotated[int, Meta(ge=MIB, le=BYTES_MAX)] = 1 * GIB
    workers: Annotated[int, Meta(ge=0, le=48)] = 2
    """Processes that write features into the arena, and threads of the front end in an eager delivery (0: its loop).

    At most so many that one message hands every rank the regions of all of them.
    """
    kv_bytes: Annotated[int, Meta(ge=MIB, le=BYTES_MAX)] = 1 * GIB
    prefix_cache: bool = True
    """Whether a request starts behind what an earlier one with the same beginning has computed."""
    running_max: Annotated[int, Meta(ge=1, le=512)] = 32
    """At most so many that a plan of all of them fits in one message."""
    queue_max: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 256
    """Requests that may wait for admission to the ranks; beyond it 503."""
    prefill_tokens: Annotated[int, Meta(ge=1, le=COUNT_MAX)] = 512
    stall_seconds: Annotated[float, Meta(ge=1.0, le=SECONDS_MAX)] = 5.0
    compute_stall_seconds: Annotated[float, Meta(ge=1.0, le=SECONDS_MAX)] = 60.0
    """How long one step of the model, or one item's encoding, may take before the ranks are replaced."""
    load_seconds: Annotated[float, Meta(ge=1.0, le=SECONDS_MAX)] = 600.0
    """How long a process may take to get ready: ranks load the model."""
    request_seconds: Annotated[float, Meta(ge=0.1, le=SECONDS_MAX)] = 120.0
    """How long a request may take until its first token: its turn, its body, its media and its prompt."""
    tenants: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0
    """How many tenants have API keys, the operator included; 0: there are no keys."""
    item_seconds: Annotated[float, Meta(ge=0.1, le=SECONDS_MAX)] = 30.0
    """How long one item may take in a worker before the worker is replaced."""
    drain_seconds: Annotated[float, Meta(ge=0.0, le=SECONDS_MAX)] = 10.0
    images_max: Annotated[int, Meta(ge=1, le=128)] = 16
    """Images, clips and sounds in one request: at most so many that its record fits in one message."""
    video_frames_max: Annotated[int, Meta(ge=1, le=2048)] = 32
    """Frames that are taken of one clip at most, whatever the model's configuration or a request says.

    At most so many that a clip's record fits in one message.
    """
    video_seconds_max: Annotated[float, Meta(ge=1.0, le=SECONDS_MAX)] = 7200.0
    """How long a clip may be."""
    video_pixels_max: Annotated[int, Meta(ge=1_000_000, le=BYTES_MAX)] = 2_000_000_000
    """Pixels that are decoded of one clip at most: 960 frames of 1080p, some seconds of CPU."""
    accept_embeddings: bool = False
    """Whether clients may send embeddings in the place of images."""
    body_bytes_max: Annotated[int, Meta(ge=1024, le=BYTES_MAX)] = 64 * MIB
    allow_hosts: tuple[str, ...] = ()
    """Names of this server in `Host`, beside loopback's: what a proxy in front of it passes on."""
    allow_origins: tuple[str, ...] = ()
    """Sites whose pages may use `/v1`, as a browser's `Origin` names them (`*`: any)."""
    open_routes: tuple[str, ...] = ()
    """Routes that need no key, beside `/health`."""
    root_path: str = ""
    """The prefix under which a proxy publishes this server, whether it strips it or not."""
    more_names: tuple[str, ...] = ()
    """Other names for the model, which requests may use as well."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose connections stand for many clients: no share of all is their limit."""
    fetch_hosts: tuple[str, ...] = ()
    """Hosts that media URLs may name (`*`: any); empty: only data URIs."""
    fetch_networks: tuple[str, ...] = ()
    """Networks beside the public internet that those hosts may lie in, as CIDR."""
    media_root: str = ""
    """The folder whose files `file:` URLs may name; empty: none."""
    context_tokens_max: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    """Longest prompt plus answer; 0: what the model's configuration says."""
    device: str = "auto"
    """`cpu` or `cuda`; the command line resolves `auto`: cuda when there is one device per rank."""
    runner: str = "hf"
    """What ranks compute with: `hf` the model, `null` nothing (it reads every feature page), `sim:MS` a fixed time."""
    decoder: str = "real"
    """How media is decoded: `real`, or `sim:MS:BYTES` not at all (it waits, and makes features of so many bytes)."""
    copy_features: bool = False
    """Give the model a copy of its inputs: set by the supervisor when the model turned out to write into them."""
    api_key_file: str = ""
    """Where keys were read from, if from a file. What it says goes to the front end alone, as digests."""
    model_id: str = ""
    """What the vLLM servers that a router sends to call the model; empty: as it is called here."""
    trace_to: str = ""
    """Where traces go: an OTLP receiver's URL, or `file:PATH`; empty: there are none."""
    log_level: str = "info"
    log_format: str = "text"
    decode_profile: DecodeProfile = "mmplane"
    """Of a sidecar: whose loader images are decoded as."""
    kind: Literal["server", "sidecar", "outpost"] = "server"
    """Which children the supervisor has (`mmplane.supervise.ROLES`)."""
    generic: bool = True
    """Whether transformers itself may make features, where no fast path does. A sidecar has to be told."""
    socket_group: str = ""
    """The group whose processes may attach to a sidecar; empty: only those of its user."""
    carry_only: bool = False
    """Of a sidecar: it has no model and no workers, and carries what producers bring."""
    producers_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)] = 256 * MIB
    """Of a sidecar: regions that producers write themselves take so many bytes together."""
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Of a sidecar: where it answers Prometheus, on loopback; 0: nowhere."""
    render_processes: Annotated[int, Meta(ge=0, le=64)] = 0
    """Of a sidecar: processes that render requests over HTTP."""
    socket: str = ""
    """Of a sidecar: the path of its socket, where render processes attach for clips and sounds."""

    join_max: Annotated[int, Meta(ge=0, le=JOIN_MAX)] = 0
    """How many media machines may join, each with a region; 0: none, there is no port for them."""
    join: str = ""
    """Of a media machine: the server that it works for, as HOST:PORT."""
    join_pin: str = ""
    """Of a media machine: SHA-256 of the server's certificate, in hexadecimal; empty: no TLS."""
    verdicts: dict[Modality, Literal["same", "differs", "not compared"]] = {}
    """Of a media machine: what the server found of the fast processors. Empty: it is found here."""

    def processes(self) -> int:
        """How many children the supervisor has: front end, parser, workers, porters, ranks, render processes."""
        return 2 + self.workers + self.join_max + self.tp + self.render_processes

    def decode_bytes(self) -> int:
        """The part of the budget that is kept for items while they are decoded, and what one worker may take."""
        return self.budget_bytes // 2

    def region_bytes(self) -> tuple[int, ...]:
        """Bytes of each region: the front end's (a quarter), then one per worker and porter. Multiples of a page."""
        page_bytes = 4096
        front = self.arena_bytes // 4 // page_bytes * page_bytes
        writers = self.workers + self.join_max
        each = (self.arena_bytes - front) // max(1, writers) // page_bytes * page_bytes
        return (front, *([each] * writers))
