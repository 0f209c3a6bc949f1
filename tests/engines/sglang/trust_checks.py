"""Runs inside SGLang's environment, without a server: `python trust_checks.py`. One JSON line for each check.

What would keep people from trusting the plugin: wrong features, named segments that stay, ranks that disagree, a server
that does not start or waits, memory that is not given back.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import shared_memory
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import fastapi
import msgspec
import numpy as np
import torch
from sglang.srt.entrypoints.engine import Engine
from sglang.srt.managers import mm_utils
from sglang.srt.managers.schedule_batch import MultimodalDataItem
from sglang.srt.utils.msgpack_utils import enc_hook
from sglang_world import (
    World,
    finalize,
    item_of,
    on_rank,
    parallel_of,
    passed_over,
    placed,
    received,
    receiver,
    request,
    request_of,
    run,
    running,
    sent,
    world_of,
)

from mmplane.embed.errors import Full
from mmplane.embed.sidecar import Sidecar
from mmplane.engines.kit.sidecar import Place
from mmplane.engines.sglang import carrier, identity, launcher, pointer, rank, tokenizer
from mmplane.engines.sglang.carrier import Carrier
from mmplane.engines.sglang.versions import pad_values_of
from polling import until

LAUNCH = "sglang.srt.entrypoints.engine.Engine._launch_scheduler_processes"
LIMIT_S = 30.0


def hits_and_misses(world: World) -> tuple[int, int]:
    return world.metrics._written["arena_hits"], world.metrics._written["arena_misses"]


def restored(world: World, message: object) -> list[MultimodalDataItem]:
    """The items on the first rank; the others read them too, so that nothing stays leased."""
    seen = []
    for inbox in world.inboxes:
        with on_rank(inbox):
            arrived = request_of(*received(message))
            finalize(arrived)
            seen.append(arrived.mm_inputs.mm_items)
    return seen[0]


async def tokenised(world: World, message: object, **asked: object) -> object:
    """The hook around `_tokenize_one_request`, where SGLang's own gives this message."""

    async def original(_self: object, _obj: object) -> object:
        return message

    return await tokenizer.tokenize(original, world.manager, SimpleNamespace(**asked))


def given_hashes_are_kept() -> None:
    """F1: a caller's hash and SGLANG_MM_SKIP_COMPUTE_HASH end in SGLang's own function, once; features are carried."""
    with world_of() as world:
        item = item_of(torch.ones(8))
        item.hash = 7
        placed(world, request_of(item), trusted=False)
        item.set_pad_value()
        assert item.hash == 7
        assert item.pad_value is not None
        with patch.dict(os.environ, SGLANG_MM_SKIP_COMPUTE_HASH="1"), patch.object(identity, "_array_key", None):
            one, other = item_of(torch.ones(8)), item_of(torch.ones(8))
            placed(world, request_of(one, other))
            for each in (one, other):
                each.set_pad_value()
            assert pad_values_of(one) != pad_values_of(other), "SGLang draws them"
        assert hits_and_misses(world) == (0, 3), "and nothing is shared"
        assert passed_over(world) == {}


def two_engines_in_one_process() -> None:
    """F2: each TokenizerManager has its own sidecar, and a rank opens nothing of the other's."""
    mine = running.sidecar
    with world_of() as first, Sidecar.start(model=None, producers_bytes=2**24) as other:
        running.sidecar = other
        try:
            with world_of() as second:
                values = {3.0: first, 5.0: second}
                messages = {value: sent(world, request(torch.full((4,), value))) for value, world in values.items()}
                for value, world in values.items():
                    (item,) = restored(world, messages[value])
                    assert item.feature.tolist() == [value] * 4
                strange = sent(second, request(torch.full((4,), 7.0)))
                with on_rank(first.inboxes[0]):
                    (item,) = received(strange)
                    assert item.feature._materialization_error.startswith("ForeignRegion")
                second.client.revoke(pointer.parse(strange.mm_inputs.mm_items[0].feature.shm_name))
                del item
        finally:
            running.sidecar = mine


def a_lost_rank_refuses() -> None:
    """F3: no segment is made once ranks were ready and one is lost; before they are ready it is SGLang's own way."""
    with world_of() as world:
        (item,) = restored(world, sent(world, request(torch.ones(5))))
        world.inboxes[1].close()
        until(lambda: world.client.statistics()["sessions"].get("rank", 0) == 1)
        for asked in (request(torch.ones(6)), request(torch.ones(5))):
            refused = None
            try:
                with patch.object(shared_memory, "SharedMemory", side_effect=AssertionError):
                    asyncio.run(tokenised(world, asked))
            except fastapi.HTTPException as error:
                refused = error.status_code
            assert refused == 503
        assert passed_over(world) == {}
        del item


def before_ranks_are_ready_nothing_is_different() -> None:
    """F6: with half of the ranks attached features go SGLang's way, and all ranks enter its collectives."""
    with world_of() as world:
        world.inboxes[1].close()
        until(lambda: world.client.statistics()["sessions"].get("rank", 0) == 1)
        message = sent(world, request(torch.ones(16)))
        assert passed_over(world) == {"not_ready": 1}
        assert not pointer.is_ours(message.mm_inputs.mm_items[0].feature)
        entered = []
        where = "sglang.srt.managers.scheduler_components.request_receiver"
        parallel = parallel_of(2)
        for inbox in (world.inboxes[0], None):  # None: this rank could not attach
            with (
                on_rank(inbox),
                patch(f"{where}.get_parallel", return_value=parallel),
                patch(f"{where}.barrier", lambda group: entered.append("barrier")),
                patch(f"{where}.all_reduce", lambda failed, op, group: entered.append("all_reduce")),
            ):
                arrived = request_of(item_of(mm_utils.ShmPointerMMData(torch.ones(16))))
                receiver(2)._finalize_shm_features([arrived])
        assert entered == ["barrier", "all_reduce"] * 2
        message.mm_inputs.mm_items[0].feature.close_and_unlink()


def a_rank_without_its_inbox_does_what_the_others_do() -> None:
    """F6: whether inputs are broadcast is decided by the message and by what all ranks inherit."""
    with world_of() as world:
        message = request(torch.ones(4))
        placed(world, message)
        built = []
        mm = SimpleNamespace(enable_broadcast_mm_inputs_process=True)
        for inbox in (world.inboxes[0], None):
            with (
                on_rank(inbox),
                patch("mmplane.engines.sglang.rank.get_mm", return_value=mm),
                patch("mmplane.engines.sglang.rank.build", lambda inputs, config: built.append(inputs)),
            ):
                rank.build_inputs(None, SimpleNamespace(model_config=None), message.mm_inputs)
        assert built == [message.mm_inputs] * 2


def identity_is_free_of_the_prompt() -> None:
    """F4: EVS models keep the prompt's ids in the item; the same clip is the same item in the next turn."""
    with world_of() as world:

        def of(feature: torch.Tensor, **specific: object) -> object:
            item = item_of(feature, **specific)
            world.carrier._carry([item], 1, trusted=False)
            return pad_values_of(item)

        clip = torch.ones(4, 4)
        turns = [of(clip, pre_chunked_input_ids=torch.tensor(ids), input_ids=ids) for ids in ([1, 2], [1, 2, 3])]
        assert turns[0] == turns[1]
        others = [of(clip, images_spatial_crop=[[1, count]]) for count in (1, 2)]
        others += [of(clip, images_crop=torch.full((2,), value)) for value in (1.0, 2.0)]
        assert len({turns[0], *others}) == 5


def a_forked_child_ends_nothing() -> None:
    """F5: a child of a rank that collects a view leaves the rank's lease alone."""
    with world_of(groups=(1,)) as world:
        message = sent(world, request(torch.full((8,), 7.0)))
        with on_rank(world.inboxes[0]):
            arrived = request_of(*received(message))
            finalize(arrived)
        child = os.fork()
        if not child:
            arrived.mm_inputs = None
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert world.client.statistics()["leases"] == 1
        assert arrived.mm_inputs.mm_items[0].feature.tolist() == [7.0] * 8
        del arrived
        gc.collect()
        until(lambda: world.client.statistics()["leases"] == 0)


def a_tokenizer_starts_whatever_fails() -> None:
    """F7: nothing is different where the place is nonsense, or no sidecar listens there."""
    calls = []
    for text in ("{", msgspec.json.encode(Place("/nowhere", (1,), 4096)).decode()):
        manager = SimpleNamespace(server_args=SimpleNamespace(tokenizer_worker_num=1))
        with (
            patch.dict(os.environ, {launcher.PLACE_VARIABLE: text}),
            patch.object(tokenizer, "_identifies", False),
            patch.object(tokenizer.route, "attach"),
            patch("mmplane.engines.sglang.metrics.get_observability", off),
        ):
            tokenizer.start(lambda self: calls.append(self), manager)
        here: Carrier | None = getattr(manager, tokenizer.CARRIER, None)
        if here is not None:
            item = item_of(torch.ones(3))
            here._carry([item], 1, trusted=True)
            assert isinstance(item.feature, torch.Tensor)
            assert here._tally.reasons()["not_ready"] == 1
    assert len(calls) == 2


def off() -> SimpleNamespace:
    return SimpleNamespace(enable_metrics=False)


OPTIONS = {
    "nnodes": 1,
    "pp_size": 1,
    "tp_size": 2,
    "dp_size": 1,
    "skip_tokenizer_init": False,
    "tokenizer_worker_num": 1,
}


@contextmanager
def launching(**changed: object) -> Iterator[Callable[[], object]]:
    """Calls the launcher's hook for a server with these options; what it logged is in `said`."""
    said: list[str] = []
    arguments = SimpleNamespace(resolved_dict=lambda: OPTIONS | changed)
    multimodal = changed.pop("is_multimodal", True)
    with (
        patch.dict(os.environ, MMPLANE_SGLANG_ARENA_BYTES=str(2**20)),
        patch.object(launcher.ModelConfig, "from_server_args", return_value=SimpleNamespace(is_multimodal=multimodal)),
        patch.object(launcher.log, "warning", lambda text, *values: said.append(text % values)),
    ):

        def launch() -> object:
            return launcher.launch(lambda *_: (SimpleNamespace(), []), Engine, arguments, None)[0]

        launch.said = said
        yield launch


def an_engine_gives_all_back_at_its_shutdown() -> None:
    """F9: each engine has a sidecar of its own, whose process and folder are gone after its shutdown."""
    with launching() as launch:
        engines = []
        for _ in range(2):
            result = launch()
            engines.append(SimpleNamespace(_scheduler_init_result=result))
        sidecars = [engine._scheduler_init_result.mmplane_sidecar for engine in engines]
        assert len({sidecar.socket for sidecar in sidecars}) == 2
        for engine, sidecar in zip(engines, sidecars, strict=True):
            launcher.shutdown(lambda self: None, engine)
            launcher.shutdown(lambda self: None, engine)
            assert sidecar._process.poll() is not None
            assert not Path(sidecar.socket).parent.exists()


def a_launch_that_fails_leaves_no_sidecar() -> None:
    with launching(), patch.object(launcher.sidecars, "end") as ended:

        def fail(*_: object) -> None:
            raise RuntimeError("no GPU")

        with suppress(RuntimeError):
            launcher.launch(fail, Engine, SimpleNamespace(resolved_dict=lambda: OPTIONS), None)
        ((sidecar,), _) = ended.call_args
        sidecar.stop()


def servers_that_gain_nothing_are_off() -> None:
    """And reserve nothing; prefill and decode servers are on."""
    cases = {
        "several nodes": {"nnodes": 2}, "pipeline": {"pp_size": 2}, "encoder": {"language_only": True},
        "elastic EP": {"elastic_ep_backend": "mooncake"}, "GPU to GPU": {"mm_feature_transport": "cuda_ipc"},
        "cuda_vmm": {"mm_feature_transport": "cuda_vmm"}, "stay on the GPU": {"keep_mm_feature_on_device": True},
        "only takes text": {"is_multimodal": False},
    }  # fmt: skip
    with patch.object(Sidecar, "begin", side_effect=AssertionError):
        for reason, changed in cases.items():
            with launching(**changed) as launch:
                launch()
                assert [reason in line for line in launch.said] == [True], launch.said
                assert launcher.PLACE_VARIABLE not in os.environ
    for mode in ("null", "prefill", "decode"):
        assert launcher.uncovered(OPTIONS | {"disaggregation_mode": mode, "mm_feature_transport": "cpu"}) is None


def one_message_to_any_of_several_groups() -> None:
    with world_of(groups=(1, 2)) as world:
        message = sent(world, request(torch.ones(4)))
        for inbox in world.ranks[1]:
            with on_rank(inbox):
                arrived = request_of(*received(message))
                finalize(arrived)
                assert arrived.mm_inputs.mm_items[0].feature.tolist() == [1.0] * 4
                del arrived
        gc.collect()
        until(lambda: world.client.statistics()["leases"] == 0)
        assert world.client.statistics()["strays"] == 0


def samples_have_a_lease_each() -> None:
    """n = 3: one message more to fill the cache. What is not sent is given back, and sending asks nobody."""
    with world_of() as world:
        message = request(torch.ones(9))
        message.sampling_params = SimpleNamespace(n=3)
        asyncio.run(tokenised(world, message))
        assert world.client.statistics()["leases"] == 4
        copies = []
        for _ in range(2):
            another = copy.copy(message)
            another.mm_inputs = copy.copy(message.mm_inputs)
            another.mm_inputs.mm_items = [copy.copy(item) for item in message.mm_inputs.mm_items]
            copies.append(another)
        with patch.object(world.client._attachment, "call", side_effect=AssertionError):
            for another in copies:
                tokenizer.dispatch(lambda self, message: None, world.manager, another)
        for another in copies:
            restored(world, another)
        gc.collect()
        until(lambda: world.client.statistics()["leases"] == 2)
        message.mm_inputs = None
        until(lambda: world.client.statistics()["leases"] == 0)


def leases_that_do_not_suffice_are_given_back() -> None:
    """The second of three is refused: the item goes by SGLang's own way, and nothing stays leased."""
    with world_of() as world:
        leases = iter((world.client._lease, None))

        def lease(*asked: object) -> object:
            if (original := next(leases)) is None:
                raise Full("too many leases are open")
            return original(*asked)

        with patch.object(world.client, "_lease", lease):
            message = request(torch.ones(11))
            placed(world, message, messages=3)
        assert passed_over(world) == {"full": 1}
        assert isinstance(message.mm_inputs.mm_items[0].feature, torch.Tensor)
        until(lambda: world.client.statistics()["leases"] == 0)


def a_cancelled_request_keeps_its_place() -> None:
    """Until its thread is done: so never more wait than work."""
    with world_of() as world:
        began, go = threading.Semaphore(0), threading.Event()

        def work(*_: object, **__: object) -> None:
            began.release()
            assert go.wait(LIMIT_S)

        async def main() -> None:
            both = [asyncio.create_task(world.carrier.carry([], messages=1, trusted=True)) for _ in range(2)]
            for _ in both:
                await asyncio.to_thread(began.acquire, timeout=LIMIT_S)
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            third = asyncio.create_task(world.carrier.carry([], messages=1, trusted=True))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not began.acquire(blocking=False)
            go.set()
            await third
            assert began.acquire(blocking=False)

        with patch.object(world.carrier, "_carry", work):
            asyncio.run(main())


def figures_are_taken_off_the_loop() -> None:
    """And again as long as something is leased."""
    with world_of(groups=(1,)) as world:
        asked: list[int] = []
        statistics = world.client.statistics

        def counted() -> object:
            asked.append(threading.get_ident())
            return statistics()

        async def main() -> None:
            message = request(torch.ones(4))
            await world.carrier.carry(message.mm_inputs.mm_items, messages=1, trusted=True)
            await asyncio.to_thread(until, lambda: len(asked) >= 3)
            message.mm_inputs = None
            gc.collect()
            await asyncio.to_thread(until, lambda: world.carrier._refresh is None)

        world.metrics.is_shown = True
        shown: list[dict[str, object] | None] = []
        with (
            patch.object(carrier, "REFRESH_S", 0.0),
            patch.object(world.metrics, "show", shown.append),
            patch.object(world.client, "statistics", counted),
        ):
            asyncio.run(main())
        assert threading.get_ident() not in asked
        taken = [figures["leases"] for figures in shown if figures is not None]
        assert (taken[0], taken[-1]) == (1, 0)


def large_arrays_are_carried_wherever_they_lie() -> None:
    """DeepSeek-OCR's crops, Step3's patches, LLaVA's NumPy features; what is small stays in the message."""
    crops = torch.arange(2**19, dtype=torch.float32).reshape(2, -1)
    patches = [crops[:1] + 1, None, np.arange(2**18, dtype=np.float64)]
    item = item_of(
        np.full((3, 2**18), 2.5, np.float32), images_crop=crops, patch_pixel_values=patches, small=torch.ones(3)
    )
    item.deep = {"a": (crops + 2, [1, 2])}
    specific = item.model_specific_data
    with world_of(arena_bytes=2**24) as world:
        message = sent(world, request_of(item))
        assert item.model_specific_data is not specific, "SGLang's copies of an item share it"
        assert isinstance(specific["images_crop"], torch.Tensor)
        assert hits_and_misses(world) == (0, 5)
        assert isinstance(item.small, torch.Tensor)
        (arrived,) = restored(world, message)
        assert np.array_equal(arrived.feature, np.full((3, 2**18), 2.5, np.float32))
        assert torch.equal(arrived.images_crop, crops)
        assert torch.equal(arrived.patch_pixel_values[0], crops[:1] + 1)
        assert arrived.patch_pixel_values[1] is None
        assert np.array_equal(arrived.patch_pixel_values[2], patches[2])
        assert torch.equal(arrived.deep["a"][0], crops + 2)
        assert arrived.deep["a"][1] == [1, 2]
        del arrived
        assert len(msgspec.msgpack.encode([item.feature, item.model_specific_data], enc_hook=enc_hook)) < 4096


def a_hash_of_sglangs_is_digested_no_second_time() -> None:
    """With shapes and grids. A caller's hash stands for nothing."""
    with world_of() as world:

        def carried(value: float, grid: tuple[int, ...], *, trusted: bool) -> tuple[int, int]:
            item = item_of(torch.full((8,), value), grid)
            item.hash = 123456789
            item.set_pad_value()
            world.carrier._carry([item], 1, trusted=trusted)
            return hits_and_misses(world)

        with patch.object(identity, "digestible", side_effect=lambda array: digest_small(array)):
            assert carried(31.0, (1, 2, 4), trusted=True) == (0, 1)
            assert carried(31.0, (1, 2, 4), trusted=True) == (1, 1)
            assert carried(31.0, (1, 4, 2), trusted=True) == (1, 2)
        assert carried(31.0, (1, 2, 4), trusted=False) == (1, 3)
        assert carried(32.0, (1, 2, 4), trusted=False) == (1, 4)


def digest_small(array: torch.Tensor) -> memoryview:
    assert array.numel() == 3, "only the grid"
    return memoryview(array.numpy().reshape(-1).view(np.uint8))


def reasons_are_counted_by_kind() -> None:
    with world_of() as world:
        for feature in (torch.zeros(0), torch.empty(4, device="meta"), torch.zeros(4, dtype=torch.float8_e4m3fn)):
            placed(world, request(feature))
        placed(world, request(np.zeros(2**18, np.complex64)))
        assert passed_over(world) == {"empty": 1, "gpu": 1, "dtype": 2}
        assert world.metrics.tally.figures() == {"features_seen": 4, "features_carried": 0}


CHECKS: tuple[Callable[[], None], ...] = (
    given_hashes_are_kept, two_engines_in_one_process, a_lost_rank_refuses, before_ranks_are_ready_nothing_is_different,
    a_rank_without_its_inbox_does_what_the_others_do, identity_is_free_of_the_prompt, a_forked_child_ends_nothing,
    a_tokenizer_starts_whatever_fails, an_engine_gives_all_back_at_its_shutdown, a_launch_that_fails_leaves_no_sidecar,
    servers_that_gain_nothing_are_off, one_message_to_any_of_several_groups, samples_have_a_lease_each,
    leases_that_do_not_suffice_are_given_back,
    a_cancelled_request_keeps_its_place, figures_are_taken_off_the_loop, large_arrays_are_carried_wherever_they_lie,
    a_hash_of_sglangs_is_digested_no_second_time, reasons_are_counted_by_kind,
)  # fmt: skip

if __name__ == "__main__":
    run(CHECKS)
