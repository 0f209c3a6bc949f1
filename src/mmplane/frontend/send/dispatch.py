"""Dispatch: chooses the delivery of a request and prepares its items for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mmplane.config import DELIVERY_NAMES
from mmplane.core.buckets import Buckets, Reading
from mmplane.core.errors import ArenaHasNoRoom, RequestError, bad_request
from mmplane.core.keys import digest_parts
from mmplane.core.plan import Work
from mmplane.delivery.auto import Reason, Situation, pick
from mmplane.delivery.delivery import Sends
from mmplane.delivery.ingress import CHOICES, EVERY_RANK, check_ingress, ingress_of
from mmplane.delivery.names import DELIVERIES
from mmplane.frontend.request.intake import Media
from mmplane.frontend.send.freight import Freight, Load
from mmplane.frontend.send.rollout import Rollout
from mmplane.items.store import ItemStore
from mmplane.observe.journal import CLIENT_GONE, outcome_of

log = logging.getLogger("mmplane")

AUTO = "auto"
SALT_VERSION = b"mmplane-salt-1"
CACHES = ("auto", "on", "off")
LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Trip:
    """One request's way through a delivery."""

    def __init__(self, dispatch: Dispatch, chosen: str, *, probe: bool) -> None:
        self._dispatch = dispatch
        self._probe = probe
        self._load: Load | None = None
        self.chosen = chosen
        """The setting of the switch: a name, or `auto`."""
        self.delivery = chosen
        """The delivery that was used, once the items are known."""
        self.began_s = time.perf_counter()
        self.work: tuple[Work, ...] = ()
        """What each rank did for the features."""

    async def load(self, media: Sequence[Media], tag: int) -> Load:
        """Prepare the items for sending; call it once. Raises RequestError."""
        self.delivery, self._load = await self._dispatch.load(self.chosen, media, tag, probe=self._probe)
        return self._load

    @property
    def made(self) -> Work:
        """The spans of the front end and its workers."""
        return self._load.work if self._load is not None else Work()


class Tally:
    """Statistics of one delivery's requests since the start."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.latency = Buckets(LATENCY_BUCKETS_S)
        self.materialised = 0
        self.materialise_s = 0.0
        self.deliver_s = 0.0
        self.feature_hashes = 0
        self.feature_hash_s = 0.0
        self.feature_hash_cpu_s = 0.0

    def work(self, trip: Trip) -> None:
        """Time for a request's features, summed over processes; for delivering, the slowest rank's."""
        every = (trip.made, *trip.work)
        self.materialised += sum(work.materialised for work in every)
        self.materialise_s += sum(work.materialise_ms for work in every) / 1000
        self.feature_hashes += sum(work.hashed for work in every)
        self.feature_hash_s += sum(work.hash_ms for work in every) / 1000
        self.feature_hash_cpu_s += sum(work.hash_cpu_ms for work in every) / 1000
        self.deliver_s += max((work.deliver_ms for work in trip.work), default=0.0) / 1000

    def statistics(self) -> dict[str, Any]:
        """All of them."""
        return {
            "outcomes": dict(self.outcomes),
            "latency_buckets": [list(each) for each in zip(LATENCY_BUCKETS_S, self.latency.counts, strict=False)],
            "latency_s": self.latency.total_s,
            "materialisations": self.materialised,
            "materialise_s": self.materialise_s,
            "deliver_s": self.deliver_s,
            "feature_hashes": self.feature_hashes,
            "feature_hash_s": self.feature_hash_s,
            "feature_hash_cpu_s": self.feature_hash_cpu_s,
        }


class Dispatch:
    """The front end's half of all deliveries, and the choice between them."""

    def __init__(
        self,
        rollout: Rollout,
        freights: Mapping[Sends | str, Freight],
        store: ItemStore,
        *,
        largest_item_bytes: int,
        cache: str,
        prefix_cache: bool = True,
        ingress: str = "auto",
        nodes: int = 1,
    ) -> None:
        self._nodes = nodes
        self._rollout = rollout
        self._freights = freights
        self._store = store
        self._largest_item_bytes = largest_item_bytes
        self._tallies: dict[str, Tally] = {}
        self._reasons: Counter[Reason] = Counter()
        self._ingress = ingress
        self._prefix_cache = prefix_cache
        self._set_cache(cache)

    @asynccontextmanager
    async def trip(self, *, probe: bool) -> AsyncIterator[Trip]:
        """One request's way: choose its delivery now, and record the result at the end. A `probe` is not counted."""
        chosen = self._rollout.settled if probe else self._rollout.choose()
        trip = Trip(self, chosen, probe=probe)
        status = 200
        try:
            yield trip
        except RequestError as error:
            status = error.status
            raise
        except (asyncio.CancelledError, GeneratorExit):
            status = CLIENT_GONE
            raise
        except BaseException:
            status = 500
            raise
        finally:
            if not probe:
                self._ended(trip, status)

    async def load(self, chosen: str, media: Sequence[Media], tag: int, *, probe: bool) -> tuple[str, Load]:
        """Resolve `chosen` and prepare the items for that delivery. Raises RequestError."""
        if chosen != AUTO:
            return chosen, await self._freight(chosen).load(media, tag, probe=probe)
        name, reason = self._pick(media)
        try:
            freight = self._freights[AUTO] if name == "arena" else self._freight(name)
            load = await freight.load(media, tag, probe=probe)
        except ArenaHasNoRoom:  # the arena filled up between the check and the reservation
            name, reason = "eager-compact", "arena_full"
            load = await self._freight(name).load(media, tag, probe=probe)
        if not probe:
            self._reasons[reason] += 1
        return name, load

    def caches(self, name: str) -> bool:
        """Whether ranks may cache features from this delivery."""
        return self._cache == "on" and DELIVERIES[name].sends is not Sends.SLOTS

    def keeps(self, name: str) -> bool:
        """Whether ranks may cache embeddings of features from this delivery: only if features may be cached."""
        return self._cache == "on" or (self._cache == "auto" and DELIVERIES[name].sends is Sends.SLOTS)

    def salt(self, tenant: str) -> bytes:
        """The salt under which ranks cache prompts; each tenant has its own. Empty: do not cache."""
        if not self._prefix_cache or self._cache == "off":
            return b""
        return digest_parts([SALT_VERSION, tenant.encode()])

    def relays(self, name: str) -> bool:
        """Whether every rank, and not only the leader, gets inline bytes with this delivery."""
        return ingress_of(name, self._ingress) == EVERY_RANK

    def put(self, name: str, share: float, cache: str | None, ingress: str | None = None) -> None:
        """Switch the delivery. Raises RequestError (400)."""
        if name not in DELIVERY_NAMES:
            raise bad_request("invalid_value", f"the deliveries are {', '.join(DELIVERY_NAMES)}", "name")
        if not 0.0 <= share <= 1.0:
            raise bad_request("invalid_value", "share is a number from 0.0 to 1.0", "share")
        if cache is not None and cache not in CACHES:
            raise bad_request("invalid_value", f"cache is one of {', '.join(CACHES)}", "cache")
        if self._nodes > 1 and name != "arena":
            raise bad_request("invalid_value", "with ranks on several machines, the delivery is arena", "name")
        if not self.serves(name):
            raise bad_request("invalid_value", f"{name} needs workers, and this server has none", "name")
        self._set_ingress({name} if share == 1.0 else {name, self._rollout.settled}, ingress or self._ingress)
        self._rollout.put(name, share)
        if cache is not None:
            self._set_cache(cache)
        log.info("delivery %s takes %g of the requests", name, share)

    def serves(self, name: str) -> bool:
        """Whether this server was started with what the delivery needs."""
        return self._largest_item_bytes > 0 or (name != AUTO and DELIVERIES[name].sends is not Sends.SLOTS)

    def now(self) -> dict[str, Any]:
        """The switch, as `GET /admin/delivery` shows it."""
        rollout = self._rollout
        return {
            "name": rollout.trial or rollout.settled,
            "share": rollout.share if rollout.trial else 1.0,
            "otherwise": rollout.settled if rollout.trial else None,
            "rolled_back": rollout.rolled_back,
            "cache": self._cache,
            "ingress": self._ingress,
        }

    def statistics(self) -> dict[str, Any]:
        """Requests by delivery, and why `auto` chose it."""
        return {
            **self.now(),
            "rollbacks": self._rollout.rollbacks,
            "by_name": {name: tally.statistics() for name, tally in sorted(self._tallies.items())},
            "auto": dict(self._reasons),
        }

    def latencies(self) -> dict[tuple[str, ...], Reading]:
        """Answered requests, by delivery."""
        return {(name,): tally.latency.reading() for name, tally in self._tallies.items()}

    def _ended(self, trip: Trip, status: int) -> None:
        outcome = outcome_of(status)
        latency_s = time.perf_counter() - trip.began_s
        tally = self._tallies.setdefault(trip.delivery, Tally())
        tally.outcomes[outcome] += 1
        tally.work(trip)
        if outcome == "answered":
            tally.latency.add(latency_s)
        if outcome in ("answered", "failed"):
            cause = self._rollout.ended(trip.chosen, latency_s * 1000, failed=outcome == "failed")
            if cause is not None:
                log.warning("%s is worse than %s (%s): its share is 0 now", trip.chosen, self._rollout.settled, cause)

    def _set_ingress(self, names: set[str], ingress: str) -> None:
        if ingress not in CHOICES:
            raise bad_request("invalid_value", f"ingress is one of {', '.join(CHOICES)}", "ingress")
        try:
            for name in sorted(names):
                check_ingress(name, ingress)
        except ValueError as error:
            raise bad_request("invalid_value", f"ingress: {error}", "ingress") from None
        self._ingress = ingress

    def _set_cache(self, cache: str) -> None:
        self._cache = cache
        self._store.cache = cache != "off"

    def _freight(self, name: str) -> Freight:
        return self._freights[name] if name in self._freights else self._freights[DELIVERIES[name].sends]

    def _pick(self, media: Sequence[Media]) -> tuple[str, Reason]:
        fresh = tuple(item.recipe.layout.length_bytes for item in media if not self._store.holds(item.key))
        return pick(
            Situation(
                item_bytes=fresh,
                region_bytes=self._largest_item_bytes,
                room_bytes=self._store.room(),
            )
        )
