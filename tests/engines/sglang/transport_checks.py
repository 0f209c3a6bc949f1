"""Runs inside SGLang's environment, without a server: `python transport_checks.py`. One JSON line for each check.

What SGLang's own tests of its transport assert (round trip, a lost segment, consensus, isolation, no space left), in
our words, with the plugin on; and what it does when it is off.
"""

from __future__ import annotations

import asyncio
import base64
import pickle
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import shared_memory
from types import SimpleNamespace
from unittest.mock import patch

import msgspec
import sglang
import torch
from sglang.srt.managers import mm_utils
from sglang.srt.managers.io_struct import MMInputsProcessError
from sglang.srt.managers.scheduler import Scheduler, _MultimodalInputProcessingError
from sglang.srt.plugins.hook_registry import HookRegistry
from sglang_world import (
    ARENA_BYTES,
    LARGE_BYTES,
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
    sent,
    world_of,
)  # fmt: skip

from mmplane.engines.kit import applied
from mmplane.engines.sglang import plugin, pointer, selftest, tokenizer
from mmplane.engines.sglang.versions import identity_of, pad_values_of
from polling import until

MODULE = "sglang.srt.managers"


def round_trip() -> None:
    with world_of() as world:
        source = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
        features = [source, source.to(torch.bfloat16).T.contiguous().T, [source + 1, source + 2]]
        message = sent(world, request(*features))
        for inbox in world.inboxes:
            with on_rank(inbox):
                copy = request_of(*received(message))
                assert mm_utils.has_shm_features([copy])
                finalize(copy)
                one, two, three = [item.feature for item in copy.mm_inputs.mm_items]
                assert torch.equal(one, source)
                assert torch.equal(two, features[1])
                assert [torch.equal(*pair) for pair in zip(three, features[2], strict=True)] == [True, True]
                del copy, one, two, three
        until(lambda: world.client.statistics()["leases"] == 0)


def lost_record() -> None:
    """Survives unpickling, says so when it is materialised, and fails this request alone, without a collective."""
    with world_of() as world:
        message = sent(world, request(torch.ones(16)))
        foreign = message.mm_inputs.mm_items[0].feature.shm_name
        leased = msgspec.structs.replace(pointer.parse(foreign), plane=bytes(16))
        for name in ("mmplane:junk", pointer.PREFIX + base64.b64encode(leased.encode()).decode()):
            state = message.mm_inputs.mm_items[0].feature.__getstate__() | {"shm_name": name}
            for inbox in world.inboxes:
                with on_rank(inbox):
                    broken = mm_utils.ShmPointerMMData.__new__(mm_utils.ShmPointerMMData)
                    broken.__setstate__(state)
                    assert broken._materialization_error
                    copy = request(broken)
                    finalize(copy)
                    assert isinstance(copy.mm_inputs, MMInputsProcessError)
                    broken.close_and_unlink()


def second_delivery() -> None:
    """A record that comes again after its lease has ended is refused, as SGLang refuses an unlinked segment."""
    with world_of() as world:
        message = sent(world, request(torch.ones(16)))
        with on_rank(world.inboxes[0]):
            first = request_of(*received(message))
            finalize(first)
            del first
            again = request_of(*received(message))
            finalize(again)
            assert isinstance(again.mm_inputs, MMInputsProcessError)


def discard() -> None:
    with world_of() as world:
        message = sent(world, request([torch.zeros(4), torch.ones(4)]))
        for inbox in world.inboxes:
            with on_rank(inbox):
                mm_utils.discard_shm_features(request_of(*received(message)))
        until(lambda: world.client.statistics()["leases"] == 0)


def isolation() -> None:
    """What one rank writes no other sees, nor the next request with the same item."""
    with world_of() as world:
        source = torch.arange(8, dtype=torch.float32)
        for _ in range(2):
            message = sent(world, request(source))
            for number, inbox in enumerate(world.inboxes):
                with on_rank(inbox):
                    copy = request_of(*received(message))
                    finalize(copy)
                    feature = copy.mm_inputs.mm_items[0].feature
                    feature.add_(number + 1)
                    assert torch.equal(feature, source + number + 1)
                    del copy, feature


def consensus() -> None:
    """With one named segment in the list, all ranks enter SGLang's collectives, ours among them or not."""
    with world_of() as world:
        entered = []
        parallel = parallel_of(2)
        where = "sglang.srt.managers.scheduler_components.request_receiver"
        mine = sent(world, request(torch.ones(16)))
        for inbox in world.inboxes:
            segment = pickle.dumps(mm_utils.ShmPointerMMData(torch.ones(4)))
            with (
                on_rank(inbox),
                patch(f"{where}.get_parallel", return_value=parallel),
                patch(f"{where}.barrier", lambda group: entered.append("barrier")),
                patch(f"{where}.all_reduce", lambda failed, op, group: entered.append("all_reduce")),
            ):
                copy = request_of(*received(mine), item_of(pickle.loads(segment)))
                receiver(2)._finalize_shm_features([copy])
                assert [item.feature.sum().item() for item in copy.mm_inputs.mm_items] == [16, 4]
        del copy
        assert entered == ["barrier", "all_reduce"] * 2


def no_space() -> None:
    """What does not fit goes by SGLang's own way: a named segment, or inline where /dev/shm is full as well."""
    with world_of() as world:
        large = torch.zeros(LARGE_BYTES // 4)
        message = sent(world, request(large))
        (feature,) = [item.feature for item in message.mm_inputs.mm_items]
        assert isinstance(feature, mm_utils.ShmPointerMMData)
        assert not pointer.is_ours(feature)
        feature.close_and_unlink()
        with patch.object(shared_memory, "SharedMemory", side_effect=OSError(28, "No space left on device")):
            (feature,) = [item.feature for item in sent(world, request(large)).mm_inputs.mm_items]
        assert feature is large
        until(lambda: world.client.statistics()["leases"] == 0)
        assert passed_over(world) == {"full": 2}


def not_sent() -> None:
    """When the message cannot be sent its leases end; the next one takes its own."""
    with world_of() as world:
        message = request(torch.ones(16))
        placed(world, message)

        def refuse(self: object, message: object) -> None:
            raise OSError("no route")

        assert world.client.statistics()["leases"] == 1
        with suppress(OSError):
            tokenizer.dispatch(refuse, world.manager, message)
        until(lambda: world.client.statistics()["leases"] == 0)


def identity() -> None:
    """Equal items have one identity; shape, dtype, grid and content each make another; a given hash is kept."""
    with world_of() as world:
        base = torch.zeros(8, 6)

        def of(feature: torch.Tensor, grid: tuple[int, ...] = (1, 2, 4)) -> object:
            message = request(feature, grid=grid)
            (item,) = message.mm_inputs.mm_items
            world.carrier._carry([item], 1, trusted=False)
            assert item.pad_value is not None
            return item.hash, identity_of(item), pad_values_of(item)

        same = [of(base), of(base.clone()), of(torch.zeros(6, 8).T)]
        assert len(set(same)) == 1
        others = [of(base, (1, 4, 2)), of(base.reshape(6, 8)), of(base.to(torch.float64)), of(base + 1)]
        assert len({same[0], *others}) == 5
        (item,) = request(base).mm_inputs.mm_items
        item.hash = 7
        item.set_pad_value()
        given = pad_values_of(item)
        world.carrier._carry([item], 1, trusted=False)
        assert (item.hash, pad_values_of(item)) == (7, given)


def precomputed_hash() -> None:
    """With SGLANG_MM_PRECOMPUTE_HASH SGLang's threads ask for the pad value: they get the same identity."""
    with world_of() as world:
        (item,) = request(torch.ones(5)).mm_inputs.mm_items
        (other,) = request(torch.ones(5)).mm_inputs.mm_items
        item.set_pad_value()
        world.carrier._carry([other], 1, trusted=False)
        assert item.pad_value is not None
        assert (item.hash, identity_of(item)) == (other.hash, identity_of(other))


def off_the_loop() -> None:
    """Hashing and copying leave the event loop free: it turns while a thread works."""
    with world_of() as world:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def main() -> None:
            other = asyncio.create_task(turn())
            message = request(torch.ones(ARENA_BYTES // 8))
            await world.carrier.carry(message.mm_inputs.mm_items, messages=1, trusted=False)
            other.cancel()

        asyncio.run(main())
        assert turns > 1


def failing_build() -> None:
    with world_of():
        scheduler = SimpleNamespace(model_config=SimpleNamespace(requires_mm_token_modalities=False))
        faulty = request(torch.ones(3)).mm_inputs
        with (
            patch(
                "sglang.srt.managers.scheduler.get_mm",
                return_value=SimpleNamespace(enable_broadcast_mm_inputs_process=False),
            ),
            patch(
                "mmplane.engines.sglang.rank.get_mm",
                return_value=SimpleNamespace(enable_broadcast_mm_inputs_process=False),
            ),
            patch(
                "sglang.srt.managers.schedule_batch.MultimodalInputs.from_processor_output", side_effect=ValueError("x")
            ),
        ):
            failed = None
            with suppress(_MultimodalInputProcessingError):
                failed = Scheduler._get_multimodal_inputs(scheduler, faulty)
            assert failed is None


def steps_aside() -> None:
    """Another version, a missing function, a failing self-test: nothing is registered, and one line says so."""
    for change in (
        patch.object(sglang, "__version__", "0.6.0"),
        patch.object(plugin.PLUGIN, "hooks", "mmplane.nothing"),
        patch.object(selftest, "ext_hook", None),
    ):
        registered = dict(HookRegistry._hooks)
        with change, patch.object(plugin.PLUGIN, "_say") as said:
            plugin.load()
        assert HookRegistry._hooks == registered
        assert said.call_count == 1


def hooks_are_checked() -> None:
    assert applied.missing() == []
    target = f"{MODULE}.mm_utils.ShmPointerMMData.materialize"
    with patch.object(mm_utils.ShmPointerMMData, "materialize", applied._originals[target]):
        assert applied.missing() == [target]


CHECKS: tuple[Callable[[], None], ...] = (
    round_trip, lost_record, second_delivery, discard, isolation, consensus, no_space, not_sent, identity,
    precomputed_hash, off_the_loop, failing_build, steps_aside, hooks_are_checked,
)  # fmt: skip


if __name__ == "__main__":
    run(CHECKS)
