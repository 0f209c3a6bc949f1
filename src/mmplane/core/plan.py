"""The plan: the leader's numbered record of what one step admits, aborts and releases (invariant 3).

A plan is the complete input of a step. It contains the tokens that the leader sampled in the previous step, so a rank
needs only its own copy of the plans to know what to compute next. A request goes through these steps:

    prepare   every rank views the request's slots, encodes them, reserves KV memory, and reports `Held`
    admit     once every rank holds it, in one numbered step, the same on all of them
    decode    each step computes one token of every running sequence and a chunk of a new prompt
    finish    end of text, length, abort or failure: everything that the request held is dropped

A failure on any rank is reported in `Held` and becomes `finish` on all of them. It never skips a step (invariant 4).
"""

from __future__ import annotations

from mmplane.core.errors import Failure
from mmplane.core.faults import Fault
from mmplane.core.histogram import Distribution
from mmplane.core.records import Count, Enclosed, Item, Name, Record, Slot

EVERY_RANK = -1


class Sampling(Record, frozen=True):
    """Sampling parameters. `temperature` 0 is greedy; `seed` makes sample i of a request reproducible.

    With `ignore_end`, the model's end tokens do not end the answer. `end_tokens` belong to the request and always end
    it. Neither kind is sampled before `tokens_min`. `top_k` 0 and `min_p` 0 mean off. `repetition_penalty` counts the
    tokens of prompt and answer, the other two penalties only those of the answer. `bias` is added to the logits of its
    tokens. With `logprobs` n, every token carries its log probability and the n most likely tokens. The answer follows
    `grammar` (llguidance).
    """

    tokens_max: Count
    temperature: float
    top_p: float
    seed: int
    samples: Count
    ignore_end: bool = False
    tokens_min: Count = 0
    top_k: Count = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    end_tokens: tuple[int, ...] = ()
    logprobs: Count | None = None
    grammar: str = ""

    @property
    def penalised(self) -> bool:
        """Whether tokens that already occur in the text are penalised."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    @property
    def takes_largest(self) -> bool:
        """Whether the largest logit is all that counts, whatever the answer has so far."""
        altered = self.penalised or self.bias or self.grammar or self.tokens_min
        return self.temperature <= 0 and self.logprobs is None and not altered


class Submit(Record, frozen=True, tag="submit"):
    """Front end -> leader, and inside a plan to every rank: one request, ready to run.

    `prompt` is int32 little endian, inline up to `PROMPT_INLINE_BYTES_MAX`, otherwise in `prompt_slot`. `placeholders`
    are (start, length) runs in the prompt, one list per item, whose embeddings come from that item's features.

    `delivery` names how the ranks get the features. If `parcel_bytes` is not 0, the items' bytes come inline, as one
    frame of that length on the leader's stream, which forwards it to every follower if `relayed`. With `cache`, ranks
    may keep the features for a later request. With `digests`, every rank, or only `digest_rank`, reports digests of the
    features. `fault` is injected by a test. Seats and cache memory are shared between tenants by `tenant`. With
    `feature_hash`, a rank that materialises an item also hashes its features. With `keep`, ranks may keep the items'
    embeddings for a later request. Computed blocks of the prompt are kept for later requests with the same `salt`, a
    digest that stands for the tenant; without a salt, nothing is kept or reused.
    """

    request_id: Count
    prompt: bytes
    prompt_slot: Slot | None
    prompt_tokens: Count
    items: tuple[Item | Enclosed, ...]
    placeholders: tuple[tuple[tuple[int, int], ...], ...]
    sampling: Sampling
    digests: bool = False
    digest_rank: int = EVERY_RANK
    delivery: Name = "arena"
    parcel_bytes: Count = 0
    relayed: bool = False
    cache: bool = False
    fault: Fault | None = None
    tenant: Name = ""
    feature_hash: bool = False
    keep: bool = False
    salt: bytes = b""

    def digested_by(self, rank: int) -> bool:
        """Whether this rank must report digests of the features that it holds."""
        return self.digests and self.digest_rank in (EVERY_RANK, rank)


class Abort(Record, frozen=True, tag="abort"):
    """Front end -> leader: nobody waits for this sample any more (`sample` -1: for the whole request)."""

    request_id: Count
    sample: int = -1


class Finish(Record, frozen=True):
    """A sequence ends in this step. `sample` -1 ends all of a request. `reason`: stop, length, abort, error."""

    request_id: Count
    sample: int
    reason: str


class Cancel(Record, frozen=True):
    """Nobody waits for this request any more.

    If it is being `prepared`, a rank may stop its work for it, but the leader still waits for its `Held`. If not, no
    plan contained it, and it is named so that its parcel is dropped: on the leader, and if `relayed` on every rank.
    """

    request_id: Count
    prepared: bool
    relayed: bool


class CachePlan(Record, frozen=True):
    """The changes to every rank's cache of features in one step, in this order. Only the leader decides them (A2).

    `keep`: content keys whose features came with an admitted request. `evict`: keys to forget. `reuse`: (request id,
    item) pairs that this plan prepares from the cache.
    """

    keep: tuple[bytes, ...] = ()
    evict: tuple[bytes, ...] = ()
    reuse: tuple[tuple[int, int], ...] = ()


NO_CHANGE = CachePlan()


class EmbeddingPlan(Record, frozen=True):
    """The changes to every rank's memory of embeddings in one step: first it drops the keys in `evict`, then it keeps.

    `keep`: (request id, item) pairs that this plan prepares. The item's embeddings are those stored under its content
    key; if there are none, the encoder makes them and they are stored until a plan evicts them.
    """

    evict: tuple[bytes, ...] = ()
    keep: tuple[tuple[int, int], ...] = ()


NO_EMBEDDINGS = EmbeddingPlan()


class Plan(Record, frozen=True, tag="plan"):
    """Leader -> every follower, the same bytes. `tokens` belong to the sequences that sampled in the previous step.

    `reuse` are (request id, blocks) pairs for requests that this plan prepares: that many blocks, from the beginning of
    the prompt, have been computed for an earlier request. `fragile` are requests that this plan prepares and that
    cannot be computed again.
    """

    number: Count
    tokens: tuple[int, ...]
    finish: tuple[Finish, ...]
    admit: tuple[int, ...]
    prepare: tuple[Submit, ...]
    cancel: tuple[Cancel, ...] = ()
    cache: CachePlan = NO_CHANGE
    embeddings: EmbeddingPlan = NO_EMBEDDINGS
    reuse: tuple[tuple[int, int], ...] = ()
    fragile: tuple[int, ...] = ()


class Work(Record, frozen=True):
    """What one rank did to get a request's features: how many items it materialised, and how long it took.

    `deliver_ms` is from the step that named the request, at `began_s` on CLOCK_MONOTONIC, until this rank had all its
    features. `materialise_ms` is the part of it spent on decoding (`decode_ms`) and transforming here, and `hash_ms`
    the part spent on hashing the features of `hashed` items, which took `hash_cpu_ms` of CPU. `encode_ms` is from then
    until it held the request. It began to materialise at `made_s`. `encoded` items went through the encoder.
    """

    materialised: Count = 0
    materialise_ms: float = 0.0
    deliver_ms: float = 0.0
    began_s: float = 0.0
    decode_ms: float = 0.0
    encode_ms: float = 0.0
    hashed: Count = 0
    hash_ms: float = 0.0
    hash_cpu_ms: float = 0.0
    made_s: float = 0.0
    encoded: Count = 0


NOTHING = Work()


class Held(Record, frozen=True, tag="held"):
    """Rank -> leader: this rank has prepared the request, or could not, and why."""

    request_id: Count
    rank: Count
    digests: tuple[bytes, ...]
    failure: Failure | None
    work: Work = NOTHING


class Position(Record, frozen=True, tag="position"):
    """Rank -> leader after each plan: the rolling digest of its admission log up to this number, and what it keeps.

    `parcels` counts those that are here or will be dropped on arrival, `cached` the items in its cache, and
    `received_bytes` what has come inline since the rank started. `kept_bytes` of embeddings are kept for later
    requests, and `passing_bytes` until their last row is in the key-value cache.
    """

    rank: Count
    number: Count
    digest: bytes
    parcels: Count = 0
    cached: Count = 0
    received_bytes: Count = 0
    kept_bytes: Count = 0
    passing_bytes: Count = 0


class Admitted(Record, frozen=True, tag="admitted"):
    """Leader -> front end: every rank holds the request; its slots may be released. `digests[rank][item]`.

    `reused` are the items that came from the ranks' caches, and `embedded` those whose embeddings were kept there.
    `work` has one entry for each rank. The leader decided this at `at_s` on CLOCK_MONOTONIC; the record is sent after
    the step that follows. `cached_tokens` of the prompt had been computed for an earlier request.
    """

    request_id: Count
    digests: tuple[tuple[bytes, ...], ...]
    reused: tuple[int, ...] = ()
    work: tuple[Work, ...] = ()
    at_s: float = 0.0
    embedded: tuple[int, ...] = ()
    cached_tokens: Count = 0


class Failed(Record, frozen=True, tag="failed"):
    """Leader -> front end: all ranks agree that the request has failed; its slots may be released."""

    request_id: Count
    failure: Failure
    work: tuple[Work, ...] = ()


class Token(Record, frozen=True):
    """One token of one sample; `reason` is set on its last token.

    `logprob` is its log probability, and `likely` are the most likely tokens with theirs, if the request asks for them.
    """

    request_id: Count
    sample: Count
    token: int
    reason: str | None
    logprob: float | None = None
    likely: tuple[tuple[int, float], ...] = ()


class Tokens(Record, frozen=True, tag="tokens"):
    """Leader -> front end: the tokens that one step sampled."""

    number: Count
    tokens: tuple[Token, ...]


class Attached(Record, frozen=True, tag="attached"):
    """Leader -> front end: all ranks have dropped everything from earlier front ends."""

    epoch: Count


class RankReport(Record, frozen=True):
    """The position of one rank's admission log, and what the rank keeps."""

    rank: Count
    number: Count
    digest: bytes
    parcels: Count = 0
    cached: Count = 0
    received_bytes: Count = 0
    kept_bytes: Count = 0
    passing_bytes: Count = 0


class Collectives(Record, frozen=True):
    """One rank's object collectives since it started.

    `batches` are (payloads, collectives) pairs: how many collectives carried that many payloads. The times are sums:
    `pickle_ms` for pickling on the leader and unpickling on a follower; `wait_ms` until the lengths had arrived, which
    on a follower includes everything that the leader does before it sends; `transfer_ms` for the bytes. `results_max`
    is the highest number of results that waited in the cache of `leader-batch`; `results_found` and `results_missed`
    count lookups in it.
    """

    batches: tuple[tuple[Count, Count], ...] = ()
    pickle_ms: float = 0.0
    wait_ms: float = 0.0
    transfer_ms: float = 0.0
    results_max: Count = 0
    results_found: Count = 0
    results_missed: Count = 0


NO_COLLECTIVES = Collectives()


class LoopReport(Record, frozen=True, tag="loop"):
    """Rank -> leader -> front end: how long the rank's loop was blocked and collectives took, since the rank started.

    `broadcasts` are the durations of collectives without the wait for other ranks. `verify_cpu_s` is the CPU time of
    digests, which are only computed for traces.
    """

    rank: Count
    stalls: Distribution
    broadcasts: Distribution
    verify_cpu_s: float
    collectives: Collectives = NO_COLLECTIVES


class MemoryReport(Record, frozen=True):
    """Blocks of one rank's key-value memory, the same on all ranks: of `total`, so many are `used` and so many `idle`.

    Since the rank started: `evicted` idle blocks, preempted sequences, reused tokens of prompts, and computed tokens.
    """

    total: Count
    used: Count
    idle: Count
    evicted: Count
    preemptions: Count
    reused_tokens: Count
    computed_tokens: Count


NO_MEMORY = MemoryReport(0, 0, 0, 0, 0, 0, 0)


class Progress(Record, frozen=True, tag="progress"):
    """Leader -> front end: sent when idle, and at most once a second when busy."""

    number: Count
    running: Count
    waiting: Count
    kv_tokens: Count
    ranks: tuple[RankReport, ...]
    memory: MemoryReport = NO_MEMORY


FromLeader = Admitted | Failed | Tokens | Attached | Progress | LoopReport
ToLeader = Submit | Abort
FromFollower = Held | Position | LoopReport
