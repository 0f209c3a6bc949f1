"""Runs inside vLLM's environment, without a server: `python carry_checks.py`. One JSON line for each check.

Real messages of vLLM go from an API server's part through an engine core's to the workers', by a real sidecar.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from vllm.config import ParallelConfig
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFeatureSpec,
    MultiModalFieldElem,
    MultiModalFlatField,
    MultiModalKwargsItem,
    PlaceholderRange,
)
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.output import NewRequestData
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.request import Request
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from mmplane.embed.client import Client
from mmplane.embed.inbox import Inbox
from mmplane.embed.sidecar import Sidecar
from mmplane.engines.kit.hooks import problem
from mmplane.engines.vllm import core, held, launcher, plugin, trip
from mmplane.engines.vllm.cache import ArenaCache
from mmplane.engines.vllm.core import Waiting
from mmplane.engines.vllm.frontend import Frontend
from mmplane.engines.vllm.held import ADDRESS, HeldItem, received
from mmplane.engines.vllm.hooks import HOOKS
from mmplane.engines.vllm.make.begin import making
from mmplane.engines.vllm.rank import Rank

MIB = 2**20
RANKS = 2
TOKENS, SPAN = 300, 250
EXTRA_BYTES_MAX = 1024
LIMIT_S = 20.0


class Rig:
    """A sidecar, one API server's part, one engine core's and two workers'."""

    def __init__(self, sidecar: Sidecar, client: Client, *, ranks: int) -> None:
        self.client, self.path = client, sidecar.socket
        self.frontend = Frontend(lambda: client)
        self.waiting = Waiting(sidecar.socket)
        self.inboxes = [Inbox(sidecar.socket, number, ranks=RANKS) for number in range(ranks)]
        self.ranks = [Rank(lambda one=one: one) for one in self.inboxes]
        self.sent: list[list[Any]] = []

    def item(self, number: int, *, mm_hash: str = "", rows: int = 100) -> MultiModalKwargsItem:
        """As it comes from the cache: placed, or found again."""
        name = mm_hash or f"item {number}"
        known = self.frontend.cache.is_cached_item(name)
        item, updates = self.frontend.cache.get_and_update_item(
            None if known else (item_of(number, rows), ["an update"]), name
        )
        self.frontend.cache.release_sender_touches()
        assert updates == ["an update"]
        return item

    def send(self, *items: MultiModalKwargsItem, name: str = "r", group: int = 0) -> EngineCoreRequest:
        """What the engine core receives of a request with these items."""

        async def run() -> None:
            await self.frontend.send(self._take, request_of(*items, name=name), group)

        asyncio.run(run())
        return MsgpackDecoder(EngineCoreRequest).decode(self.sent[-1])

    def received(self, item: MultiModalKwargsItem, mm_hash: str, name: str = "r") -> Request:
        """What the engine core makes of a request with this item."""
        placed, _ = self.frontend.cache.get_and_update_item((item, ["an update"]), mm_hash)
        request, _ = self.waiting.take(build, self.send(placed, name=name))
        return request

    async def _take(self, message: Any) -> None:
        self.sent.append(MsgpackEncoder().encode(message))

    def schedule(self, request: Request) -> NewRequestData:
        """What the scheduler gives the workers, as the hook sees it."""
        data = NewRequestData.from_request(request, ([0],))
        core.scheduled(request)
        return data

    def step(self, *new: NewRequestData, finished: tuple[str, ...] = ()) -> list[list[NewRequestData]]:
        """A scheduler's output in each worker."""
        outputs = []
        for rank in self.ranks:
            output = pickle.loads(
                pickle.dumps(SimpleNamespace(finished_req_ids={*finished}, scheduled_new_reqs=[*new]))
            )
            rank.apply(output)
            outputs.append(output.scheduled_new_reqs)
        return outputs

    @property
    def figures(self) -> dict[str, Any]:
        """The sidecar's."""
        return self.client.statistics()

    def has_leases(self, count: int) -> None:
        """Finalizers and sockets need a moment; the limit only tells progress from a hang."""
        deadline_s = time.monotonic() + LIMIT_S
        while self.figures["leases"] != count:
            assert time.monotonic() < deadline_s, self.figures["leases"]
            gc.collect()


@contextmanager
def rig(*, arena_bytes: int = 32 * MIB, ranks: int = RANKS) -> Iterator[Rig]:
    """One that must have neither leases nor strays at the end."""
    with (
        Sidecar.start(model=None, producers_bytes=arena_bytes) as sidecar,
        sidecar.connect(arena_bytes=arena_bytes) as client,
    ):
        made = Rig(sidecar, client, ranks=ranks)
        yield made
        made.has_leases(0)
        assert made.figures["strays"] == 0


def item_of(number: int, rows: int = 100) -> MultiModalKwargsItem:
    """Features of the Qwen family as vLLM splits them."""
    values = torch.arange(rows * 1176, dtype=torch.int64) * (number + 1) % 251
    field = MultiModalFlatField(slices=[[slice(0, rows)]])
    return MultiModalKwargsItem(
        {
            "pixel_values": MultiModalFieldElem(values.to(torch.uint8).reshape(rows, 1176), field),
            "image_grid_thw": MultiModalFieldElem(
                torch.tensor([1, 2, rows // 2]), MultiModalBatchedField(keep_on_cpu=True)
            ),
        }
    )


def request_of(*items: MultiModalKwargsItem, name: str = "r", **fields: Any) -> EngineCoreRequest:
    """A request whose items share its span."""
    features = [
        MultiModalFeatureSpec(
            data=item, modality="image", identifier=f"i{at}", mm_position=PlaceholderRange(offset=at, length=SPAN)
        )
        for at, item in enumerate(items)
    ]
    given = {"pooling_params": None, "arrival_time": 0.0, "lora_request": None, "cache_salt": None}
    return EngineCoreRequest(
        request_id=name,
        prompt_token_ids=list(range(TOKENS)),
        mm_features=features or None,
        sampling_params=SamplingParams(max_tokens=4),
        data_parallel_rank=None,
        **given,
        **fields,
    )


def build(message: EngineCoreRequest) -> tuple[Request, int]:
    """As the engine core does."""
    return Request.from_engine_core_request(message, None), 0


def size_bytes(message: EngineCoreRequest) -> int:
    """Of all frames."""
    return sum(memoryview(frame).nbytes for frame in MsgpackEncoder().encode(message))


def assert_same(item: Any, number: int, rows: int = 100) -> None:
    """What a worker has is what the processor made."""
    expected = item_of(number, rows).get_data()
    found = item.get_data()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def assert_arrived(outputs: list[list[NewRequestData]], *expected: tuple[int, int]) -> None:
    """Each worker has a request with these items (number, rows)."""
    assert len(outputs) == RANKS
    for (new,) in outputs:
        for feature, (number, rows) in zip(new.mm_features, expected, strict=True):
            assert_same(feature.data, number, rows)


def features_make_the_trip() -> None:
    """Each worker has the same tensors, and the message is small however large they are."""
    with rig() as r:
        received = r.send(r.item(1), r.item(2, rows=1000))
        extra_bytes = size_bytes(received) - size_bytes(request_of())
        assert extra_bytes <= 2 * EXTRA_BYTES_MAX, extra_bytes
        request, _ = r.waiting.take(build, received)
        assert_arrived(r.step(r.schedule(request)), (1, 100), (2, 1000))
        r.step(finished=("r",))
        assert r.frontend.tally.figures() == {"features_seen": 2, "features_carried": 2}


def an_item_travels_as_bytes() -> None:
    """No object of vLLM or torch goes from the engine core to the workers, whatever the rest of an item is."""
    rest = {
        "half": torch.ones(3, dtype=torch.bfloat16),
        "mask": torch.arange(4000) % 3 == 0,  # a frame of its own
        "nothing": torch.empty(0, 4),
        "parts": [torch.arange(2), torch.arange(3)],
        "scale": 0.5,
    }

    def compare(feature: Any) -> None:
        assert feature.data == item_of(1) | elements(rest)
        feature.data["mask"].data[0] = False  # a consumer may write

    with rig() as r:
        scheduled = r.schedule(r.received(item_of(1) | elements(rest), "odd"))
        sent = pickle.dumps([feature.data for feature in scheduled.mm_features])
        assert not {word for word in (b"torch", b"vllm", b"numpy") if word in sent}
        for output in r.step(scheduled):
            compare(*output.pop().mm_features)
        r.step(finished=("r",))


def requests_share_a_small_rest() -> None:
    """It is decoded once. A large one is not kept."""

    def compare(output: list[NewRequestData], name: str, shared: bool) -> None:
        ours, theirs = (new.mm_features[0].data for new in output)
        assert (ours[name].data is theirs[name].data) == shared
        assert ours["pixel_values"].data is not theirs["pixel_values"].data

    with rig() as r:
        for number, name, shared in ((1, "image_grid_thw", True), (2, "table", False)):
            item = item_of(number) | elements({"table": torch.arange(10 if shared else 1000)})
            for output in r.step(*(r.schedule(r.received(item, name, each)) for each in ("r", "s"))):
                compare(output, name, shared)
                output.clear()
            r.step(finished=("r", "s"))


def elements(values: dict[str, Any]) -> MultiModalKwargsItem:
    """An item of these."""
    return MultiModalKwargsItem(
        {name: MultiModalFieldElem(one, MultiModalBatchedField()) for name, one in values.items()}
    )


def items_are_found_again() -> None:
    """A hit writes nothing, and lives while the request is being put together."""
    with rig() as r:
        first = r.item(1)
        written_bytes = used_bytes(r)
        again = r.item(1)
        assert isinstance(first, HeldItem)
        assert isinstance(again, HeldItem)
        assert used_bytes(r) == written_bytes
        assert r.frontend.cache.make_stats(delta=True)[:] == (1, 2)
        assert r.frontend.cache.make_stats(delta=True)[:] == (0, 0)


def used_bytes(r: Rig) -> int:
    """Of the arena."""
    total = r.figures["arena"]["total"]
    return int(total["leased_bytes"] + total["evictable_bytes"])


def two_api_servers_write_once() -> None:
    """The second finds what the first has put."""
    with rig() as r, patch.object(r, "frontend", r.frontend):
        r.item(1)
        items = r.figures["arena"]["items"]
        r.frontend = Frontend(lambda: r.client)
        r.item(1)
        assert r.figures["arena"]["items"] == items == 1


def a_cleared_cache_starts_anew() -> None:
    """After a reset the same uuid may name another picture."""
    with rig() as r:
        assert_same(r.item(1, mm_hash="uuid"), 1)
        r.frontend.cache.clear_cache()
        assert not r.frontend.cache.is_cached_item("uuid")
        assert_same(r.item(2, mm_hash="uuid"), 2)


def a_request_that_never_ran() -> None:
    """It is dropped while it waits: aborted, or refused."""
    with rig() as r:
        item = r.item(1)
        for at in range(20):
            request, _ = r.waiting.take(build, r.send(item, name=f"r{at}"))
            del request
        r.has_leases(0)
        assert r.frontend.cache.is_cached_item("item 1")
        r.frontend.cache.release_sender_touches()


def a_request_that_cannot_be_built() -> None:
    """Its leases end at once."""

    def fail(_: Any) -> Any:
        raise RuntimeError("no grammar")

    with rig() as r:
        received = r.send(r.item(1))
        with suppress(RuntimeError):
            r.waiting.take(fail, received)
            raise AssertionError
        r.has_leases(0)


def a_request_is_sent_again() -> None:
    """The second runner gets a preempted request again as a new one, without any word that it had ended."""
    with rig() as r:
        request, _ = r.waiting.take(build, r.send(r.item(1)))
        r.step(r.schedule(request))
        assert_arrived(r.step(r.schedule(request)), (1, 100))
        r.has_leases(1)
        r.step(finished=("r",))
        del request


def a_scheduled_request_is_the_workers() -> None:
    """The engine core drops it, finished, before the workers hear that it has: its leases are theirs to end."""
    with rig() as r:
        request, _ = r.waiting.take(build, r.send(r.item(1)))
        r.step(r.schedule(request))
        del request
        gc.collect()
        r.has_leases(1)
        r.step(finished=("r",))


def nothing_is_held_between_requests() -> None:
    """What was found for one request may be evicted after it."""
    with rig() as r:
        r.item(1)
        r.item(1)
        gc.collect()
        assert r.figures["holds"] == 0


def a_name_is_used_again() -> None:
    """A request ends and another of the same name comes, in one message of the scheduler."""
    with rig() as r:
        first, _ = r.waiting.take(build, r.send(r.item(1)))
        r.step(r.schedule(first))
        second, _ = r.waiting.take(build, r.send(r.item(2)))
        assert_arrived(r.step(r.schedule(second), finished=("r",)), (2, 100))
        r.has_leases(1)
        r.step(finished=("r", "unknown"))


def an_aborted_request_ended_before_its_second_sending() -> None:
    """Preempted, then aborted: the workers hear that it has ended, and nothing more."""
    with rig() as r:
        request, _ = r.waiting.take(build, r.send(r.item(1)))
        r.step(r.schedule(request))
        del request
        r.has_leases(1)
        r.step(finished=("r",))


def covered_items_arrive() -> None:
    """An item whose span the prefix cache covers is not stripped: its lease ends as any other."""
    with rig() as r:
        request, _ = r.waiting.take(build, r.send(r.item(1)))
        request.num_computed_tokens = SPAN + 10
        assert_arrived(r.step(r.schedule(request)), (1, 100))
        r.step(finished=("r",))


def one_lease_for_each_sample() -> None:
    """n = 3 goes out as three messages of one item."""
    with rig() as r:
        item = r.item(1)
        requests = [r.waiting.take(build, r.send(item, name=f"{at}_r"))[0] for at in range(3)]
        r.has_leases(3)
        r.step(*map(r.schedule, requests))
        r.step(finished=("0_r", "1_r"))
        r.has_leases(1)
        r.step(finished=("2_r",))


def without_ranks_items_go_inline() -> None:
    """Until every rank is attached, and after one has gone."""
    with rig(ranks=1) as r:
        received = r.send(r.item(1))
        assert ADDRESS not in received.mm_features[0].data
        assert_same(received.mm_features[0].data, 1)
        assert r.frontend.tally.reasons()["away"] == 1


def a_full_arena_sends_inline() -> None:
    """What finds no room goes as vLLM sends it."""
    with rig(arena_bytes=16 * MIB) as r:
        held = [r.item(at, rows=5000) for at in range(3)]
        assert [isinstance(one, HeldItem) for one in held] == [True, True, False]
        assert_same(r.send(held[2]).mm_features[0].data, 2, 5000)
        assert r.frontend.tally.reasons()["full"] == 1


def small_and_foreign_items_go_inline() -> None:
    """A tiny picture, a part of a session, an item from outside; one that brings a record is refused."""
    with rig() as r:
        assert not isinstance(r.item(1, rows=10), HeldItem)

        async def parts() -> None:
            await r.frontend.send(r._take, request_of(r.item(2), resumable=True), 0)

        held = r.item(2)

        async def external() -> Any:
            return r.frontend.cache.get_and_update_item((item_of(3), []), "external")

        with patch.object(r, "item", lambda _: held):
            asyncio.run(parts())
        assert not isinstance(asyncio.run(external())[0], HeldItem)
        counts = r.frontend.tally.reasons()
        assert {name: counts[name] for name in ("small", "parts", "external")} == dict.fromkeys(
            ("small", "parts", "external"), 1
        )
        item = item_of(4)
        r.frontend.cache.validate_input_item(item, "x")
        item[ADDRESS] = item["image_grid_thw"]
        with suppress(ValueError):
            r.frontend.cache.validate_input_item(item, "x")
            raise AssertionError


def a_message_that_cannot_be_sent() -> None:
    """The engine is dead: the leases end."""

    async def fail(_: Any) -> None:
        raise RuntimeError("the engine is dead")

    def fail_now(_: Any) -> None:
        raise RuntimeError("the engine is dead")

    async def run() -> None:
        await r.frontend.send(fail, request_of(item), 0)

    with rig() as r:
        item = r.item(1)
        for attempt in (lambda: asyncio.run(run()), lambda: r.frontend.send_now(fail_now, request_of(item), 0)):
            with suppress(RuntimeError):
                attempt()
                raise AssertionError
        r.has_leases(0)
        assert r.frontend.tally.figures()["features_carried"] == 2


def aborts_follow_what_they_abort() -> None:
    """A client leaves while leases are being asked for: the request is sent, and the abort after it."""
    order: list[str] = []

    async def send(message: Any) -> None:
        order.append("abort" if isinstance(message, list) else message.request_id)

    async def run(r: Rig, item: Any) -> None:
        sending = asyncio.ensure_future(r.frontend.send(send, request_of(item), 0))
        await asyncio.sleep(0)
        sending.cancel()
        await r.frontend.send(send, ["r"], 0)

    with rig() as r:
        item = r.item(1)
        asyncio.run(run(r, item))
        assert order == ["r", "abort"]
        assert r.figures["leases"] == 1
        r.ranks.clear()
        for inbox in r.inboxes:
            inbox.close()


def hooks_fit() -> None:
    """All of them, and the self-test."""
    assert problem(HOOKS) is None
    assert trip.check() is None
    assert plugin.PLUGIN.verdict() == (True, "tested")


def nothing_escapes_from_load() -> None:
    """An exception in it would end vLLM."""
    with patch("mmplane.engines.kit.applying.apply", side_effect=RuntimeError("no")):
        plugin.PLUGIN.load(lambda _: 1 / 0)
    with patch("vllm.__version__", "0.31.0"), patch("mmplane.engines.kit.applying.apply") as apply:
        plugin.load()
        assert not apply.called


def a_launcher_steps_aside() -> None:
    """Each reason, and none for what is covered."""
    parallel = ParallelConfig()
    fields = {name: getattr(parallel, name) for name in ("nnodes", "data_parallel_size", "data_parallel_size_local")}
    assert set(fields.values()) == {1}
    assert uncovered() is None
    for (where, name), (value, words) in STEPS_ASIDE.items():
        reason = uncovered(**{where: {name: value}})
        assert reason is not None, name
        assert words in reason, (name, reason)


def uncovered(
    environment: dict[str, str] | None = None,
    parallel: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> str | None:
    """What the launcher says of a configuration with these changes. Names that vLLM does not have are an error."""
    made = ParallelConfig()
    for name, value in (parallel or {}).items():
        assert hasattr(made, name), name
        object.__setattr__(made, name, value)
    given: dict[str, Any] = {"supports_multimodal_inputs": True, "mm_processor_cache_gb": 4.0, **(model or {})}
    media = SimpleNamespace(mm_processor_cache_gb=given.pop("mm_processor_cache_gb"))
    whole = SimpleNamespace(
        parallel_config=made,
        model_config=SimpleNamespace(get_multimodal_config=lambda: media, **given),
        **{"ec_transfer_config": None, **(config or {})},
    )
    with patch.dict(os.environ, environment or {}):
        return launcher.uncovered(whole)


STEPS_ASIDE: dict[tuple[str, str], tuple[Any, str]] = {
    ("environment", "MMPLANE_VLLM"): ("", "MMPLANE_VLLM"),
    ("environment", "VLLM_USE_RUST_FRONTEND"): ("1", "Rust front end"),
    ("environment", "VLLM_WORKER_MULTIPROC_METHOD"): ("forkserver", "forkserver"),
    ("environment", "VLLM_ENABLE_V1_MULTIPROCESSING"): ("0", "one process"),
    ("parallel", "nnodes"): (2, "several nodes"),
    ("parallel", "data_parallel_size"): (2, "several nodes"),
    ("parallel", "data_parallel_external_lb"): (True, "load balancer"),
    ("parallel", "data_parallel_hybrid_lb"): (True, "load balancer"),
    ("parallel", "distributed_executor_backend"): ("ray", "executor ray"),
    ("parallel", "data_parallel_backend"): ("ray", "executor"),
    ("parallel", "enable_elastic_ep"): (True, "come and go"),
    ("parallel", "enable_fault_tolerance"): (True, "come and go"),
    ("model", "supports_multimodal_inputs"): (False, "no media"),
    ("model", "mm_processor_cache_gb"): (0, "no cache"),
    ("config", "ec_transfer_config"): (object(), "encoder disaggregation"),
}


def without_the_extra_there_is_still_carry() -> None:
    """A sidecar with a model would not start."""
    with patch("mmplane.engines.vllm.make.begin.find_spec", lambda name: None if name == "av" else object()):
        assert making(None) == (None, "there is no av: pip install 'mmplane[media]'")


def _opened_and_let_go(self: Rank, leased: Any, _views: Any) -> Any:
    return self._inbox.result().open(leased)


async def _sent_at_once(_self: Frontend, send: Any, message: Any) -> Any:
    return await send(message)


def _with_objects(features: Any) -> list[Any]:
    return received([replace(feature) for feature in features or ()])


MUTANTS: tuple[tuple[Any, str, Any, Callable[[], None]], ...] = (
    (core.weakref, "finalize", lambda *_: SimpleNamespace(detach=lambda: None), a_request_that_never_ran),
    (core, "scheduled", lambda _: None, a_scheduled_request_is_the_workers),
    (core, "received", _with_objects, an_item_travels_as_bytes),
    (held, "_known_elements", held._elements, requests_share_a_small_rest),
    (Frontend, "_revoke", lambda *_: None, a_message_that_cannot_be_sent),
    (Frontend, "_send_after", _sent_at_once, aborts_follow_what_they_abort),
    (Rank, "_open", _opened_and_let_go, a_request_is_sent_again),
    (ArenaCache, "validate_input_item", lambda *_: None, small_and_foreign_items_go_inline),
    (ArenaCache, "release_sender_touches", lambda _: None, nothing_is_held_between_requests),
)
"""What is broken, how, and the check that must notice."""


def mutants_are_killed() -> None:
    """Each check that an invariant stands on fails without it."""
    for owner, name, instead, killer in MUTANTS:
        with patch.object(owner, name, instead), patch(f"{__name__}.LIMIT_S", 1.0):
            try:
                killer()
            except Exception:
                continue
        raise AssertionError(f"{killer.__name__} does not notice that {name} is gone")


CHECKS: tuple[Callable[[], None], ...] = (
    features_make_the_trip,
    an_item_travels_as_bytes,
    requests_share_a_small_rest,
    items_are_found_again,
    two_api_servers_write_once,
    a_cleared_cache_starts_anew,
    a_request_that_never_ran,
    a_request_that_cannot_be_built,
    a_request_is_sent_again,
    a_scheduled_request_is_the_workers,
    nothing_is_held_between_requests,
    a_name_is_used_again,
    an_aborted_request_ended_before_its_second_sending,
    covered_items_arrive,
    one_lease_for_each_sample,
    without_ranks_items_go_inline,
    a_full_arena_sends_inline,
    small_and_foreign_items_go_inline,
    a_message_that_cannot_be_sent,
    aborts_follow_what_they_abort,
    hooks_fit,
    nothing_escapes_from_load,
    a_launcher_steps_aside,
    without_the_extra_there_is_still_carry,
    mutants_are_killed,
)


def main() -> None:
    for check in CHECKS:
        error = None
        try:
            check()
        except BaseException:
            error = traceback.format_exc()
        print("CHECK " + json.dumps({"name": check.__name__, "error": error}), flush=True)


if __name__ == "__main__":
    main()
