"""The tests of the tests: break what deliveries promise, on purpose, and see the suite's own checks fail.

One server carries all mutants (a `sitecustomize` patches what it is forked from) and consults a file for the one that
is on; so each check runs twice on the same server, once to fail and once to pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from conformance import LIMIT_S, QUESTIONS, Right, ask, ask_picture, digest_of, post, settle, switch, together
from live import Live, serving
from pictures import noise, png
from preloaded import Preloaded
from reference import Reference

from polling import until

MUTANT_LIMIT_S = 4.0
"""How long a mutant may take to answer before that counts as a hang."""

MUTANTS = '''
import os
import threading
from pathlib import Path

from mmplane.delivery import delayed, delayed_async, leader, leader_async, leader_batch, lane
from mmplane.delivery.attempt import attempt
from mmplane.delivery.faults import strike
from mmplane.delivery.make import contents, make
from mmplane.items import parked
from mmplane.media.image import decode
from mmplane.ranks.plan import leader as ranks_leader, member

def on(name):
    return Path(os.environ["MMPLANE_TEST_MUTANT"]).read_text() == name

def changed(place, attribute, name):
    """Use the decorated function, which gets the original first, while the mutant of that name is on."""
    original = getattr(place, attribute)

    def decorate(mutant):
        def either(*arguments, **more):
            if on(name):
                return mutant(original, *arguments, **more)
            return original(*arguments, **more)

        setattr(place, attribute, either)

    return decorate

# A rank whose collective fails leaves it and decodes for itself (analysis D1's fallback).
for user in (delayed, delayed_async, leader, leader_async, leader_batch):

    @changed(user, "exchange", "local fallback")
    def fall_back(original, ports, broadcast, orders, payloads):
        try:
            for order in orders:
                strike(order.submit.fault, "before_collective", ports.rank)
        except Exception:
            return list(payloads)
        return original(ports, broadcast, orders, payloads)

# Background broadcasts of one group come from several threads (analysis C2 as written).
@changed(lane.Lane, "submit", "two threads")
def in_a_thread(original, self, job):
    threading.Thread(target=job, daemon=True).start()

# Each rank decides for itself what it has no room for (analysis A2 as written).
@changed(member.Member, "_remember", "eviction by each rank")
def evict_here(original, self, plan, step):
    original(self, plan, step)
    while len(self._cache) > 2 + 2 * (self._rank == 0):
        del self._cache[next(iter(self._cache))]

# The leader admits what it holds itself, whatever the others say.
agreed = ranks_leader.Request.failure
ranks_leader.Request.failure = property(
    lambda self: self.held[0].failure if on("failure not agreed") else agreed.fget(self)
)

# The key covers the pixels and not their shape (hazard R10).
@changed(parked, "media_digest", "key without shape")
def digest_of_pixels(original, media):
    return original(decode(media).tobytes())
'''


class Mutants:
    """A server, and which mutant it is."""

    def __init__(self, live: Live, switch_file: Path) -> None:
        self.live = live
        self._file = switch_file
        self.limit_s = LIMIT_S

    @contextlib.contextmanager
    def being(self, name: str) -> Iterator[None]:
        """The mutant of this name inside the block; afterwards the ranks, which may hang, are new."""
        self._file.write_text(name)
        self.limit_s = MUTANT_LIMIT_S
        try:
            yield
        finally:
            self._file.write_text("")
            self.limit_s = LIMIT_S
            victim = self.live.processes().get("rank 0/2")
            if victim is not None:
                victim.kill()
            until(self._new, 60, "service is back")

    def _new(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.live.statistics()["ranks"]["requests"] >= 0 and post(self.live, "Hi").status_code == 200
        return False


@pytest.fixture(scope="module")
def mutants(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mutants]:
    folder = tmp_path_factory.mktemp("mutants")
    (folder / "sitecustomize.py").write_text(MUTANTS)
    (folder / "mutant").write_text("")
    env = {"MMPLANE_TEST_MUTANT": str(folder / "mutant")}
    flags = ("--fault-injection", "on", "--cache-bytes", str(2**20), "--stall-seconds", "2")
    with (
        contextlib.closing(Preloaded({"PYTHONPATH": str(folder)})) as mutated,
        serving(tiny_folder, *flags, env=env, preloaded=mutated) as live,
    ):
        yield Mutants(live, folder / "mutant")


Check = Callable[[Mutants, dict[str, Right], Reference], None]


def one_failing_rank(delivery: str) -> Check:
    """A rank that fails before a collective, among requests that do not."""

    def check(mutants: Mutants, right: dict[str, Right], reference: Reference) -> None:
        live, limit_s = mutants.live, mutants.limit_s
        switch(live, delivery)
        fault = {"point": "before_collective", "rank": 1}

        def failing() -> None:
            assert post(live, QUESTIONS["several"][0], fault=fault, limit_s=limit_s).status_code == 500

        together(failing, *(partial(ask, live, right, name, limit_s=limit_s) for name in ("wide", "tall", "photo")))
        settle(live, 2, limit_s=limit_s)

    return check


def order_under_delays(mutants: Mutants, right: dict[str, Right], reference: Reference) -> None:
    live = mutants.live
    switch(live, "leader-async")

    def late(name: str, delay_ms: int) -> None:
        fault = {"point": "materialise", "error": False, "delay_ms": delay_ms}
        ask(live, right, name, fault=fault, limit_s=mutants.limit_s)

    together(partial(late, "wide", 200), partial(late, "tall", 100), partial(late, "photo", 0))
    settle(live, 2, limit_s=mutants.limit_s)


def repeats(mutants: Mutants, right: dict[str, Right], reference: Reference) -> None:
    live = mutants.live
    switch(live, "leader", cache="on")
    pictures = [noise(50_000 + seed) for seed in range(4)]  # they all fit into a rank's cache
    for _ in range(2):
        for media in pictures:
            ask_picture(live, digest_of(reference, media), media, limit_s=mutants.limit_s)
    settle(live, 2, limit_s=mutants.limit_s)


def shapes(mutants: Mutants, right: dict[str, Right], reference: Reference) -> None:
    live = mutants.live
    switch(live, "arena")
    pixels = np.random.default_rng(50_100).integers(0, 256, (56, 112, 3), np.uint8)
    for media in (png(pixels), png(pixels.reshape(112, 56, 3))):
        answer = ask_picture(live, digest_of(reference, media), media, limit_s=mutants.limit_s)
        assert answer["shape"] == list(reference.features(media)["pixel_values"].shape)
    for name in ("wide", "tall"):
        ask(live, right, name, limit_s=mutants.limit_s)


CAUGHT: list[tuple[str, Check]] = [
    ("local fallback", one_failing_rank("leader")),
    ("local fallback", one_failing_rank("delayed-async")),
    ("two threads", order_under_delays),
    ("eviction by each rank", repeats),
    ("failure not agreed", one_failing_rank("leader-batch")),
    ("key without shape", shapes),
]


@pytest.mark.parametrize(("name", "check"), CAUGHT, ids=[f"{name}-{index}" for index, (name, _) in enumerate(CAUGHT)])
def test_a_mutant_is_caught(
    name: str, check: Check, mutants: Mutants, right: dict[str, Right], reference: Reference
) -> None:
    check(mutants, right, reference)
    with mutants.being(name), pytest.raises((AssertionError, httpx.TimeoutException)):
        check(mutants, right, reference)
    check(mutants, right, reference)
