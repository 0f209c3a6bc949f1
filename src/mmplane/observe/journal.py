"""The journal: journeys in progress, sums over those that have ended, and the last ones individually."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from mmplane.core.buckets import Buckets, Reading
from mmplane.core.plan import Work
from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.journey import Journey

KEPT_MAX = 100
"""Number of journeys that are kept individually."""
CLIENT_GONE = 499
GONE = "client_gone"

Labels = tuple[str, ...]


def outcome_of(status: int) -> str:
    """Classify a request by status: answered, aborted (by its client), refused (client's fault) or failed."""
    if status == 200:
        return "answered"
    if status == CLIENT_GONE:
        return "aborted"
    return "refused" if status < 500 else "failed"


class Tracer(Protocol):
    """Makes traces of journeys, if traces are on: `mmplane.observe.trace.Tracer`."""

    @property
    def dropped(self) -> int:
        """Number of lost traces."""

    def begin(self, journey: Journey, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """A request has arrived."""

    def end(self, journey: Journey) -> None:
        """It has ended."""

    def flush(self) -> None:
        """Send what has been collected."""


class Journal:
    """Every label comes from a fixed set or is a tenant of the keyring, so the memory is bounded."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer
        self._live: set[Journey] = set()
        self._recent: deque[Journey] = deque(maxlen=KEPT_MAX)
        self._requests: dict[Labels, Buckets] = {}
        self._first_tokens: dict[Labels, Buckets] = {}
        self._gaps = Buckets()
        self._stages: dict[Labels, Buckets] = {}
        self._ranks: dict[str, dict[Labels, Buckets]] = {"materialise": {}, "deliver": {}, "encode": {}}
        self._failures: Counter[Labels] = Counter()
        self._aborts: Counter[Labels] = Counter()
        self._tenants: Counter[Labels] = Counter()
        self._tokens: Counter[Labels] = Counter()
        self._encoded: Counter[Labels] = Counter()
        self._embedded = self._needless = 0

    def begin(self, headers: Iterable[tuple[bytes, bytes]] = ()) -> Journey:
        """A request with these headers has arrived."""
        journey = Journey(self._gaps)
        self._live.add(journey)
        if self._tracer is not None:
            self._tracer.begin(journey, headers)
        return journey

    def end(self, journey: Journey, status: int, code: str = "") -> None:
        """A request has ended, with this status and the code of its error."""
        phase = journey.phase
        journey.end(status, code)
        self._live.discard(journey)
        self._recent.append(journey)
        outcome = outcome_of(status)
        _add(self._requests, (journey.modality, outcome), journey.ended_s - journey.began_s)
        if journey.first_token_s:
            _add(self._first_tokens, (journey.modality,), journey.first_token_s - journey.began_s)
        for stage, seconds in journey.seconds.items():
            if stage in _MEASURED:
                _add(self._stages, (stage, outcome), seconds)
        self._worked(journey.works)
        self._embedded += journey.embedded
        self._needless += journey.needless
        self._tenants[journey.tenant, outcome] += 1
        self._tokens[journey.tenant, "prompt"] += journey.prompt_tokens
        self._tokens[journey.tenant, "completion"] += journey.completion_tokens
        if self._tracer is not None:
            self._tracer.end(journey)
        if outcome == "aborted":
            self._aborts[phase,] += 1
        elif outcome != "answered":
            self._failures[code, phase] += 1

    def _worked(self, works: Sequence[Work]) -> None:
        for rank, work in enumerate(works):
            labels = (str(rank),)
            if work.materialised:
                _add(self._ranks["materialise"], labels, work.materialise_ms / 1000)
            _add(self._ranks["deliver"], labels, work.deliver_ms / 1000)
            _add(self._ranks["encode"], labels, work.encode_ms / 1000)
            self._encoded[labels] += work.encoded

    def recent(self) -> Iterator[Journey]:
        """The last journeys that ended, newest first."""
        return reversed(self._recent)

    def statistics(self) -> dict[str, Any]:
        """For the JSON report: requests in each phase, why others failed, and in which phase clients disconnected."""
        return {
            "phases": self.phases(),
            "failures": {f"{code} in {phase}": count for (code, phase), count in sorted(self._failures.items())},
            "aborts": {phase: count for (phase,), count in sorted(self._aborts.items())},
            "tokens": self._tokens_of_all(),
            "encoder_runs": {rank: count for (rank,), count in sorted(self._encoded.items())},
            "embedding_hits": self._embedded,
            "embedding_hits_needless": self._needless,
        }

    def _tokens_of_all(self) -> dict[str, int]:
        tokens = {"prompt": 0, "completion": 0}
        for (_, kind), count in self._tokens.items():
            tokens[kind] += count
        return tokens

    def phases(self) -> dict[str, int]:
        """Current requests by phase."""
        return dict.fromkeys(PHASES, 0) | Counter(journey.phase for journey in self._live)

    def counts(self) -> dict[str, dict[Labels, float]]:
        """Failures by code and phase, aborts by phase, requests by tenant and outcome, and tokens by tenant."""
        return {
            "failures": dict(self._failures),
            "aborts": dict(self._aborts),
            "tenants": dict(self._tenants),
            "tenant_tokens": dict(self._tokens),
        }

    def readings(self) -> dict[str, dict[Labels, Reading]]:
        """Every histogram, by labels: requests, their tokens and stages, and the ranks' work."""
        held = {"requests": self._requests, "stages": self._stages, **self._ranks}
        held |= {"first_tokens": self._first_tokens, "gaps": {(): self._gaps}}
        return {name: {labels: each.reading() for labels, each in group.items()} for name, group in held.items()}


_MEASURED = frozenset(STAGES)


def _add(group: dict[Labels, Buckets], labels: Labels, seconds: float) -> None:
    buckets = group.get(labels)
    if buckets is None:
        buckets = group[labels] = Buckets()
    buckets.add(seconds)
