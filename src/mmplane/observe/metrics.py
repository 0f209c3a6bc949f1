"""The metrics of `/metrics`: a table of names, each with the source of its value. Pure.

Only the front end is scraped. Workers and ranks report to it, so each figure exists once, whichever process it is
about. Nothing is counted twice, and an idle server does no work for metrics, because counters are read only when
somebody scrapes. After a replacement, a front end counts from 0 again, and a rank from its own start, as Prometheus
expects of counters.

A histogram has 18 series for each combination of its labels, and the cost of a scrape grows with the series. So no
histogram has more than two labels whose values multiply.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmplane.observe.exposition import Figures, Labels, Metric, Read, Value

# Sources of values.


def _one(*path: str) -> Read:
    """A single value without labels; none if the path does not exist."""

    def read(figures: Figures) -> Iterable[tuple[Labels, Value]]:
        value: Any = figures.now
        for name in path:
            value = value and value.get(name)
        return [] if value is None else [((), float(value))]

    return read


def _by_name(*path: str) -> Read:
    """A value for each key."""

    def read(figures: Figures) -> Iterable[tuple[Labels, Value]]:
        values: Any = figures.now
        for name in path:
            values = values[name]
        return [((name,), value) for name, value in values.items()]

    return read


def _labelled(*path: str) -> Read:
    """The value 1, with all keys of a section as labels."""

    def read(figures: Figures) -> Iterable[tuple[Labels, Value]]:
        section: Any = figures.now
        for name in path:
            section = section[name]
        return [(tuple(map(str, section.values())), 1.0)]

    return read


def _counts(name: str) -> Read:
    return lambda figures: figures.counts.get(name, {}).items()


def _readings(name: str) -> Read:
    return lambda figures: figures.readings.get(name, {}).items()


def _regions(figures: Figures) -> Iterable[tuple[Labels, Value]]:
    for region, bytes_ in enumerate(figures.now["arena"]["regions"]):
        for state in ("free", "writing", "unclaimed", "leased", "evictable", "quarantined"):
            yield (str(region), state), bytes_[f"{state}_bytes"]


def _places(figures: Figures) -> Iterable[tuple[Labels, Value]]:
    joined = len(figures.now["workers"]["machines"])
    yield ("joined",), joined
    yield ("free",), figures.now["workers"]["places"] - joined


def _machine_items(figures: Figures) -> Iterable[tuple[Labels, Value]]:
    for each in figures.now["workers"]["machines"]:
        yield (str(each["place"]), each["machine"]), each["items"]


def _machine_bytes(figures: Figures) -> Iterable[tuple[Labels, Value]]:
    for each in figures.now["workers"]["machines"]:
        for direction in ("sent", "received"):
            yield (str(each["place"]), each["machine"], direction), each[f"{direction}_bytes"]


def _largest_free(figures: Figures) -> Iterable[tuple[Labels, Value]]:
    for region, bytes_ in enumerate(figures.now["arena"]["regions"]):
        yield (str(region),), bytes_["largest_free_bytes"]


def _progress(name: str) -> Read:
    """One figure of each rank."""

    def read(figures: Figures) -> Iterable[tuple[Labels, Value]]:
        progress = figures.now["ranks"]["progress"] or {"ranks": []}
        return [((str(rank["rank"]),), rank[name]) for rank in progress["ranks"]]

    return read


def _memory(*names: str) -> Read:
    """Figures of the ranks' memory for keys and values; the label is the name without `_tokens`."""

    def read(figures: Figures) -> Iterable[tuple[Labels, Value]]:
        memory = (figures.now["ranks"]["progress"] or {}).get("memory") or {}
        return [((name.removesuffix("_tokens"),), memory[name]) for name in names if name in memory]

    return read


def _rank_requests(figures: Figures) -> Iterable[tuple[Labels, Value]]:
    progress = figures.now["ranks"]["progress"] or {}
    return [((state,), progress[state]) for state in ("running", "waiting") if state in progress]


def _share(figures: Figures) -> Iterable[tuple[Labels, Value]]:
    delivery = figures.now["delivery"]
    yield (delivery["name"],), delivery["share"]
    if delivery["otherwise"] is not None:
        yield (delivery["otherwise"],), 1.0 - delivery["share"]


def _outcomes(figures: Figures) -> Iterable[tuple[Labels, Value]]:
    for name, tally in figures.now["delivery"]["by_name"].items():
        for outcome, count in tally["outcomes"].items():
            yield (name, outcome), count


def _tallies(name: str) -> Read:
    return lambda figures: [
        ((delivery,), tally[name]) for delivery, tally in figures.now["delivery"]["by_name"].items()
    ]


METRICS = (
    Metric(
        "mmplane_build_info",
        "gauge",
        "Version information; the value is always 1",
        ("version", "python"),
        _labelled("build"),
    ),
    Metric(
        "mmplane_model_info",
        "gauge",
        "Information on the model; the value is always 1",
        ("model", "dtype", "tp"),
        _labelled("model"),
    ),
    Metric(
        "mmplane_requests_total",
        "counter",
        "Finished requests, by HTTP status (499: the client disconnected)",
        ("status",),
        _by_name("requests", "by_status"),
    ),
    Metric("mmplane_requests_in_flight", "gauge", "Requests now", (), _one("requests", "in_flight")),
    Metric(
        "mmplane_requests_in_phase",
        "gauge",
        "Current requests, by what they wait for",
        ("phase",),
        _by_name("journal", "phases"),
    ),
    Metric(
        "mmplane_request_seconds",
        "histogram",
        "Time from a request's first byte to its last",
        ("modality", "outcome"),
        _readings("requests"),
    ),
    Metric(
        "mmplane_time_to_first_token_seconds",
        "histogram",
        "Time from a request's first byte to its first token",
        ("modality",),
        _readings("first_tokens"),
    ),
    Metric(
        "mmplane_inter_token_seconds",
        "histogram",
        "Time between two tokens of a sample, as the front end receives them",
        (),
        _readings("gaps"),
    ),
    Metric(
        "mmplane_stage_seconds",
        "histogram",
        "Time that finished requests spent in each stage, summed over a request's items",
        ("stage", "outcome"),
        _readings("stages"),
    ),
    Metric(
        "mmplane_request_failures_total",
        "counter",
        "Requests that were refused or failed, by error code and the phase in which they ended",
        ("code", "phase"),
        _counts("failures"),
    ),
    Metric(
        "mmplane_request_aborts_total",
        "counter",
        "Requests whose client disconnected, by phase",
        ("phase",),
        _counts("aborts"),
    ),
    Metric(
        "mmplane_tenant_requests_total",
        "counter",
        "Finished requests, by tenant (empty: the operator, or there are no keys)",
        ("tenant", "outcome"),
        _counts("tenants"),
    ),
    Metric(
        "mmplane_tenant_tokens_total",
        "counter",
        "Prompt and answer tokens of a tenant's answered requests",
        ("tenant", "kind"),
        _counts("tenant_tokens"),
    ),
    Metric("mmplane_prompt_tokens_total", "counter", "Tokens of prompts", (), _one("requests", "prompt_tokens")),
    Metric(
        "mmplane_completion_tokens_total", "counter", "Tokens of answers", (), _one("requests", "completion_tokens")
    ),
    Metric(
        "mmplane_materialisations_total", "counter", "Items made in the arena", (), _one("plane", "materialisations")
    ),
    Metric(
        "mmplane_features_written_bytes_total",
        "counter",
        "Bytes of features written",
        (),
        _one("plane", "bytes_written"),
    ),
    Metric("mmplane_arena_bytes", "gauge", "Arena bytes by state", ("region", "state"), _regions),
    Metric("mmplane_arena_largest_free_bytes", "gauge", "Longest free run", ("region",), _largest_free),
    Metric("mmplane_arena_items", "gauge", "Items that later requests can hit", (), _one("arena", "items")),
    Metric("mmplane_arena_leases", "gauge", "Leases now", (), _one("arena", "leases")),
    Metric("mmplane_arena_hits_total", "counter", "Items that were already in the arena", (), _one("arena", "hits")),
    Metric("mmplane_arena_misses_total", "counter", "Items that were not in the arena", (), _one("arena", "misses")),
    Metric(
        "mmplane_arena_evictions_total",
        "counter",
        "Items evicted to make room for others",
        (),
        _one("arena", "evictions"),
    ),
    Metric("mmplane_budget_limit_bytes", "gauge", "The byte budget", (), _one("budget", "limit_bytes")),
    Metric(
        "mmplane_budget_reserved_bytes", "gauge", "Reserved bytes of the budget", (), _one("budget", "reserved_bytes")
    ),
    Metric("mmplane_budget_waiting", "gauge", "Requests and items that wait for budget", (), _one("budget", "waiting")),
    Metric("mmplane_budget_refused_total", "counter", "How often the budget was full", (), _one("budget", "refused")),
    Metric("mmplane_loop_lag_seconds", "histogram", "Lag of the front end's event loop", (), _readings("loop_lag")),
    Metric("mmplane_workers", "gauge", "Workers by state", ("state",), _by_name("workers", "states")),
    Metric("mmplane_workers_waiting", "gauge", "Items that wait for a worker", (), _one("workers", "waiting")),
    Metric("mmplane_worker_jobs_total", "counter", "Jobs given to workers", (), _one("workers", "jobs")),
    Metric(
        "mmplane_worker_deadlines_total",
        "counter",
        "Items that exceeded their deadline",
        (),
        _one("workers", "condemned"),
    ),
    Metric("mmplane_machines", "gauge", "Media machines that have joined, and places for more", ("state",), _places),
    Metric(
        "mmplane_machine_lanes",
        "gauge",
        "Items that media machines can process at a time, by state",
        ("state",),
        _by_name("workers", "lanes"),
    ),
    Metric(
        "mmplane_machine_items_total",
        "counter",
        "Items that a media machine has made since it joined",
        ("place", "machine"),
        _machine_items,
    ),
    Metric(
        "mmplane_machine_bytes_total",
        "counter",
        "Media sent to a media machine and features received from it since it joined",
        ("place", "machine", "direction"),
        _machine_bytes,
    ),
    Metric("mmplane_machines_lost_total", "counter", "Media machines that were lost", (), _one("workers", "lost")),
    Metric(
        "mmplane_machine_retries_total",
        "counter",
        "Items that the server made because a media machine did not",
        (),
        _one("plane", "retries"),
    ),
    Metric(
        "mmplane_restarts_total",
        "counter",
        "Processes that ended and were replaced; ranks count once for their group",
        ("role",),
        _by_name("restarts"),
    ),
    Metric(
        "mmplane_process_cpu_seconds_total",
        "counter",
        "CPU seconds of each process; a rate of 1 per second is one whole core",
        ("role", "rank"),
        _counts("cpu"),
    ),
    Metric(
        "mmplane_process_resident_bytes",
        "gauge",
        "Memory of each process, private to it or shared: the arena counts in every process that maps it",
        ("role", "rank", "kind"),
        _counts("resident"),
    ),
    Metric("mmplane_frontend_epoch", "gauge", "Number of front ends so far", (), _one("epoch")),
    Metric("mmplane_ranks_attached", "gauge", "Whether the ranks take requests", (), _one("ranks", "attached")),
    Metric("mmplane_rank_machines", "gauge", "Other machines with ranks of the group", (), _one("copies", "mirrors")),
    Metric(
        "mmplane_copies_waiting",
        "gauge",
        "Slots that other machines with ranks need and have not written yet",
        (),
        _one("copies", "copies_lacking"),
    ),
    Metric(
        "mmplane_copied_bytes_total",
        "counter",
        "Bytes of slots that other machines with ranks have written",
        (),
        _one("copies", "copied_bytes"),
    ),
    Metric("mmplane_rank_requests", "gauge", "Requests with the leader, by state", ("state",), _rank_requests),
    Metric("mmplane_rank_kv_tokens", "gauge", "Cache positions in use", (), _one("ranks", "progress", "kv_tokens")),
    Metric(
        "mmplane_rank_blocks",
        "gauge",
        "Blocks of a rank's memory for keys and values: all, in use, kept for later requests",
        ("state",),
        _memory("total", "used", "idle"),
    ),
    Metric(
        "mmplane_rank_prefix_tokens_total",
        "counter",
        "Tokens at the ranks: computed, or reused from an earlier request",
        ("how",),
        _memory("computed_tokens", "reused_tokens"),
    ),
    Metric(
        "mmplane_rank_block_evictions_total",
        "counter",
        "Kept blocks that were evicted",
        (),
        _one("ranks", "progress", "memory", "evicted"),
    ),
    Metric(
        "mmplane_rank_preemptions_total",
        "counter",
        "Answers whose memory went to an older one and that were computed again",
        (),
        _one("ranks", "progress", "memory", "preemptions"),
    ),
    Metric(
        "mmplane_rank_kv_capacity_tokens",
        "gauge",
        "Cache positions that a rank has room for",
        (),
        _one("ranks", "kv_tokens_max"),
    ),
    Metric("mmplane_plan_number", "gauge", "Position of each rank's admission log", ("rank",), _progress("number")),
    Metric("mmplane_rank_parcels", "gauge", "Bytes of inline requests on a rank", ("rank",), _progress("parcels")),
    Metric(
        "mmplane_rank_encoder_runs_total",
        "counter",
        "Items that a rank's encoder made embeddings of",
        ("rank",),
        _by_name("journal", "encoder_runs"),
    ),
    Metric(
        "mmplane_embedding_hits_total",
        "counter",
        "Items whose embeddings the ranks had kept",
        (),
        _one("journal", "embedding_hits"),
    ),
    Metric(
        "mmplane_embedding_hits_needless_total",
        "counter",
        "Those of them whose features were made anyway",
        (),
        _one("journal", "embedding_hits_needless"),
    ),
    Metric(
        "mmplane_rank_embeddings_kept_bytes",
        "gauge",
        "Embeddings that a rank keeps for later requests",
        ("rank",),
        _progress("kept_bytes"),
    ),
    Metric(
        "mmplane_rank_embeddings_passing_bytes",
        "gauge",
        "Embeddings that a rank drops once they are in its cache of keys and values",
        ("rank",),
        _progress("passing_bytes"),
    ),
    Metric("mmplane_rank_cached_items", "gauge", "Items in a rank's own cache", ("rank",), _progress("cached")),
    Metric(
        "mmplane_rank_loop_stall_seconds",
        "histogram",
        "Time for which anything except the model blocked a turn of a rank's loop",
        ("rank",),
        _readings("stalls"),
    ),
    Metric(
        "mmplane_rank_broadcast_seconds",
        "histogram",
        "Object collectives, without the wait for other ranks",
        ("rank",),
        _readings("broadcasts"),
    ),
    Metric(
        "mmplane_rank_materialise_seconds",
        "histogram",
        "Time that a rank spent on making a request's features itself",
        ("rank",),
        _readings("materialise"),
    ),
    Metric(
        "mmplane_rank_deliver_seconds",
        "histogram",
        "Time from the step that names a request until this rank had its features",
        ("rank",),
        _readings("deliver"),
    ),
    Metric(
        "mmplane_rank_encode_seconds",
        "histogram",
        "Time from then until it held the request",
        ("rank",),
        _readings("encode"),
    ),
    Metric("mmplane_delivery_share", "gauge", "Share of new requests", ("delivery",), _share),
    Metric(
        "mmplane_delivery_rollbacks_total",
        "counter",
        "Trials ended by --rollback-on",
        (),
        _one("delivery", "rollbacks"),
    ),
    Metric(
        "mmplane_delivery_auto_total",
        "counter",
        "Requests with auto, by the reason for its choice",
        ("reason",),
        _by_name("delivery", "auto"),
    ),
    Metric(
        "mmplane_delivery_requests_total",
        "counter",
        "Finished requests, by delivery",
        ("delivery", "outcome"),
        _outcomes,
    ),
    Metric(
        "mmplane_delivery_latency_seconds",
        "histogram",
        "Time of answered requests, from the choice of the delivery on",
        ("delivery",),
        _readings("latency"),
    ),
    Metric(
        "mmplane_delivery_materialisations_total",
        "counter",
        "Items materialised, summed over processes",
        ("delivery",),
        _tallies("materialisations"),
    ),
    Metric(
        "mmplane_delivery_materialise_seconds_total",
        "counter",
        "Time to materialise items, summed over processes",
        ("delivery",),
        _tallies("materialise_s"),
    ),
    Metric(
        "mmplane_delivery_deliver_seconds_total",
        "counter",
        "Time from the step that names a request until its slowest rank has the features",
        ("delivery",),
        _tallies("deliver_s"),
    ),
    Metric(
        "mmplane_delivery_feature_hashes_total",
        "counter",
        "Hashes over features, summed over processes",
        ("delivery",),
        _tallies("feature_hashes"),
    ),
    Metric(
        "mmplane_delivery_feature_hash_cpu_seconds_total",
        "counter",
        "CPU time for these hashes, summed over processes",
        ("delivery",),
        _tallies("feature_hash_cpu_s"),
    ),
    Metric("mmplane_fetched_total", "counter", "Files fetched from other hosts", (), _one("fetch", "fetched")),
    Metric("mmplane_fetched_bytes_total", "counter", "Their bytes", (), _one("fetch", "fetched_bytes")),
    Metric("mmplane_fetch_failures_total", "counter", "Fetches that failed", (), _one("fetch", "failed")),
    Metric(
        "mmplane_traces_dropped_total",
        "counter",
        "Traces dropped: too many waited, or they could not be exported",
        (),
        _one("traces_dropped"),
    ),
)
