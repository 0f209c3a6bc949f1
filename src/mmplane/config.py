"""The configuration of one server: resolved once, frozen, and passed to every process as a record."""

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
"""These names are here and not in `mmplane.delivery`, because the command line does not import torch."""
GIB = 1024**3
MIB = 1024**2
JOIN_MAX = 16
COUNT_MAX = 2**20
BYTES_MAX = 2**53
SECONDS_MAX = 1e6
"""The largest value of a setting without a smaller limit: it fits messages, timers and exact floats."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the processes of one server agree on. Units come last in the names.

    Each number declares its range, which applies to flags, variables and files (`mmplane.ranges`).
    """

    model: str
    """`tiny`, a local folder, or a hub id."""
    model_folder: str
    """The folder of the model's files, resolved from `model`."""
    served_name: str
    """The model's name in requests."""
    tp: Annotated[int, Meta(ge=1, le=64)] = 2
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    delivery: str = "arena"
    cache: str = "auto"
    """`on`, `off`, or `auto`: on for the arena, off for the other deliveries (analysis A2)."""
    cache_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)] = 256 * MIB
    """The features that each rank may keep, for deliveries that do not use the arena."""
    embedding_cache_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)] = 256 * MIB
    """The encoder outputs that each rank may keep for later requests."""
    materialise: str = "eager"
    """Whether the front end of an eager delivery decodes (`eager`), or sends an object that ranks decode (`lazy`)."""
    ingress: str = "auto"
    """Which ranks receive inline bytes: `every-rank`, only the `leader`, or with `auto` those that the delivery needs.
    """
    feature_hash: str = "sha256"
    """How the baseline deliveries hash features, as the incident's engine does: `sha256`, or `none`."""
    delivery_threads: Annotated[int, Meta(ge=1, le=256)] = 2
    """The threads of each rank that materialise in the background, for `delayed-async`: the number in analysis C2."""
    leader_threads: Annotated[int, Meta(ge=1, le=256)] = 4
    """The threads of rank 0 that materialise in the background, for `leader-async`: the number in analysis A3."""
    rollback_on: tuple[Literal["errors", "p99"], ...] = ()
    """What automatically ends a trial of a delivery: `errors`, `p99`."""
    fault_injection: bool = False
    """Whether requests may contain faults, for tests."""
    encoding: str = "auto"
    backend: BackendName = "pil"
    """Which transformers backend images match bit for bit: Pillow, or torchvision, which engines use."""
    arena_bytes: Annotated[int, Meta(ge=4 * MIB, le=BYTES_MAX)] = 1 * GIB
    budget_bytes: Annotated[int, Meta(ge=MIB, le=BYTES_MAX)] = 1 * GIB
    workers: Annotated[int, Meta(ge=0, le=48)] = 2
    """Processes that write features into the arena, and threads of the front end in an eager delivery (0: its loop).

    The limit is set by the message that gives a rank the regions of all of them.
    """
    kv_bytes: Annotated[int, Meta(ge=MIB, le=BYTES_MAX)] = 1 * GIB
    """The most that keys, values and states take on each rank."""
    gpu_reserve_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)] = 2 * GIB
    """The free memory of each GPU that they do not take, whatever `kv_bytes` is."""
    prefix_cache: bool = True
    """Whether a request reuses what an earlier one with the same beginning has computed."""
    running_max: Annotated[int, Meta(ge=1, le=512)] = 32
    """The limit is set by the size of a plan, which is one message."""
    queue_max: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 256
    """The requests that may wait for admission to the ranks; more get 503."""
    prefill_tokens: Annotated[int, Meta(ge=1, le=COUNT_MAX)] = 512
    stall_seconds: Annotated[float, Meta(ge=1.0, le=SECONDS_MAX)] = 5.0
    compute_stall_seconds: Annotated[float, Meta(ge=1.0, le=SECONDS_MAX)] = 60.0
    """The time limit for one step of the model, or for encoding one item, after which the ranks are replaced."""
    load_seconds: Annotated[float, Meta(ge=1.0, le=SECONDS_MAX)] = 600.0
    """The time limit for a process to get ready; ranks load the model in this time."""
    request_seconds: Annotated[float, Meta(ge=0.1, le=SECONDS_MAX)] = 120.0
    """The time limit for a request's first token, including its turn, its body, its media and its prompt."""
    tenants: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0
    """The number of tenants with API keys, including the operator; 0: there are no keys."""
    item_seconds: Annotated[float, Meta(ge=0.1, le=SECONDS_MAX)] = 30.0
    """The time limit for one item in a worker, after which the worker is replaced."""
    drain_seconds: Annotated[float, Meta(ge=0.0, le=SECONDS_MAX)] = 10.0
    images_max: Annotated[int, Meta(ge=1, le=128)] = 16
    """Images, clips and sounds in one request. The limit is set by the request's record, which is one message."""
    video_frames_max: Annotated[int, Meta(ge=1, le=2048)] = 32
    """The most frames sampled from one clip, whatever the model's configuration or a request says.

    The limit is set by a clip's record, which is one message.
    """
    video_seconds_max: Annotated[float, Meta(ge=1.0, le=SECONDS_MAX)] = 7200.0
    """The longest clip."""
    video_pixels_max: Annotated[int, Meta(ge=1_000_000, le=BYTES_MAX)] = 2_000_000_000
    """The most pixels decoded from one clip: 960 frames of 1080p, some seconds of CPU."""
    accept_embeddings: bool = False
    """Whether clients may send embeddings instead of images."""
    body_bytes_max: Annotated[int, Meta(ge=1024, le=BYTES_MAX)] = 64 * MIB
    allow_hosts: tuple[str, ...] = ()
    """Names of this server in `Host`, in addition to loopback: those that a proxy in front of it passes on."""
    allow_origins: tuple[str, ...] = ()
    """Sites whose pages may use `/v1`, as in a browser's `Origin` (`*`: any)."""
    open_routes: tuple[str, ...] = ()
    """Routes that need no key, in addition to `/health`."""
    root_path: str = ""
    """The prefix under which a proxy publishes this server, whether the proxy strips it or not."""
    more_names: tuple[str, ...] = ()
    """Other names of the model that requests may use."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies, whose connections stand for many clients and have no limit of their own."""
    fetch_hosts: tuple[str, ...] = ()
    """Hosts that media URLs may point to (`*`: any); empty: only data URIs."""
    fetch_networks: tuple[str, ...] = ()
    """Private networks in which those hosts may be, as CIDR."""
    media_root: str = ""
    """The folder from which `file:` URLs may read; empty: none."""
    context_tokens_max: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    """The longest prompt plus answer; 0: the limit in the model's configuration."""
    device: str = "auto"
    """`cpu` or `cuda`. The command line resolves `auto`: cuda if there is one device for each rank."""
    runner: str = "hf"
    """What ranks compute with: `hf` the model, `null` nothing (it reads every feature page), `sim:MS` a fixed time."""
    decoder: str = "real"
    """How media is decoded: `real`, or `sim:MS:BYTES` (it waits, and makes features of this size)."""
    copy_features: bool = False
    """Whether the model gets copies of its inputs. The supervisor sets it if the model writes into them."""
    api_key_file: str = ""
    """The file from which keys were read, if any. Only the front end gets its content, as digests."""
    model_id: str = ""
    """The model's name on the vLLM servers to which a router sends requests; empty: the same as here."""
    trace_to: str = ""
    """The destination of traces: an OTLP receiver's URL, or `file:PATH`; empty: none."""
    log_level: str = "info"
    log_format: str = "text"
    decode_profile: DecodeProfile = "mmplane"
    """For a sidecar: which image loader it matches."""
    kind: Literal["server", "sidecar", "outpost", "node"] = "server"
    """Which children the supervisor has (`mmplane.supervise.ROLES`)."""
    generic: bool = True
    """Whether transformers itself may make features if there is no fast processor. A sidecar must be told."""
    socket_group: str = ""
    """The group whose processes may attach to a sidecar; empty: only processes of its user."""
    carry_only: bool = False
    """For a sidecar: it has no model and no workers, and only carries features of producers."""
    producers_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)] = 256 * MIB
    """For a sidecar: the total size of the regions that producers write themselves."""
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """For a sidecar: the port of its metrics on loopback; 0: none."""
    render_processes: Annotated[int, Meta(ge=0, le=64)] = 0
    """For a sidecar: the number of processes that render requests over HTTP."""
    socket: str = ""
    """For a sidecar: the path of its socket, to which render processes attach for clips and sounds."""

    join_max: Annotated[int, Meta(ge=0, le=JOIN_MAX)] = 0
    """How many media machines may join, each with a region; 0: none, and there is no port for them."""
    join: str = ""
    """For a media machine: its server, as HOST:PORT."""
    join_pin: str = ""
    """For a media machine: the SHA-256 of the server's certificate, in hexadecimal; empty: no TLS."""
    nodes: Annotated[int, Meta(ge=1, le=JOIN_MAX)] = 1
    """The number of machines with ranks, this one included; each has the same number of them."""
    verdicts: dict[Modality, Literal["same", "differs", "not compared"]] = {}
    """For a media machine: the server's verdicts on the fast processors. Empty: this machine finds out."""

    def processes(self) -> int:
        """The number of the supervisor's children: front end, parser, workers, porters, ranks, stand-ins, render."""
        ranks = self.ranks_each + self.nodes - 1
        return 2 + self.workers + self.join_max + ranks + self.render_processes

    @property
    def ranks_each(self) -> int:
        """The number of ranks on each machine."""
        return self.tp // self.nodes

    def ranks_of(self, machine: int) -> range:
        """The ranks of one machine; the server is machine 0."""
        return range(machine * self.ranks_each, (machine + 1) * self.ranks_each)

    def decode_bytes(self) -> int:
        """The part of the budget kept for items while they are decoded, which is also the limit of one worker."""
        return self.budget_bytes // 2

    def region_bytes(self) -> tuple[int, ...]:
        """The size of each region: the front end's (a quarter), then one per worker and porter. Multiples of a page."""
        page_bytes = 4096
        front = self.arena_bytes // 4 // page_bytes * page_bytes
        writers = self.workers + self.join_max
        each = (self.arena_bytes - front) // max(1, writers) // page_bytes * page_bytes
        return (front, *([each] * writers))
