"""Runs inside SGLang's environment, without a server: `python transport_checks.py`. One JSON line for each check.

What SGLang's own tests of its transport assert (round trip, a lost segment, consensus, isolation, no space left), in
our words, with the plugin on; and what it does when it is off.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import shared_memory
from types import SimpleNamespace
from unittest.mock import patch

import msgspec
import sglang
import torch
from sglang.srt.managers import mm_utils
from sglang.srt.managers.io_struct import MMInputsProcessError, TokenizedGenerateReqInput
from sglang.srt.managers.schedule_batch import Modality, MultimodalDataItem, MultimodalProcessorOutput
from sglang.srt.managers.scheduler import Scheduler, _MultimodalInputProcessingError
from sglang.srt.managers.scheduler_components.request_receiver import SchedulerRequestReceiver
from sglang.srt.plugins.hook_registry import HookRegistry
from sglang.srt.utils.msgpack_utils import enc_hook, ext_hook

from mmplane.embed.address import Address
from mmplane.embed.inbox import Inbox
from mmplane.embed.plane import Plane
from mmplane.engines.kit import applied
from mmplane.engines.sglang import plugin, pointer, rank, selftest, tokenizer

ARENA_BYTES = 2**20
RANKS = 2
MODULE = "sglang.srt.managers"


@contextmanager
def plane_of(ranks: int = RANKS) -> Iterator[tuple[Plane, list[Inbox]]]:
    """The plugin as in a tokenizer and a rank at once."""
    address = Address.create(ARENA_BYTES, (ranks,))
    plane = Plane(address)
    inboxes = [Inbox(address, number) for number in range(ranks)]
    with (
        patch("mmplane.engines.sglang.tokenizer.Metrics", lambda: SimpleNamespace(update=lambda *_: None)),
        patch.object(rank, "_inboxes", inboxes[:1]),
        patch(f"{MODULE}.mm_utils._get_is_default_transport", return_value=False),
        patch(f"{MODULE}.mm_utils.get_serving", return_value=SimpleNamespace(skip_tokenizer_init=False)),
        patch.object(tokenizer, "_producer", tokenizer.Producer(0, plane)),
    ):
        yield plane, inboxes
    plane.check_integrity()


@contextmanager
def on_rank(inbox: Inbox) -> Iterator[None]:
    """As that rank."""
    with patch.object(rank, "_inboxes", [inbox]):
        yield


def request(*features: object, grid: tuple[int, ...] = (1, 2, 3)) -> TokenizedGenerateReqInput:
    """A tokenised request with one item for each feature."""
    fields = {f.name: None for f in msgspec.structs.fields(TokenizedGenerateReqInput) if f.required}
    items = [
        MultimodalDataItem(
            modality=Modality.IMAGE, feature=feature, model_specific_data={"image_grid_thw": torch.tensor([grid])}
        )
        for feature in features
    ]
    return TokenizedGenerateReqInput(**fields | {"rid": "r", "mm_inputs": MultimodalProcessorOutput(mm_items=items)})


def sent(message: TokenizedGenerateReqInput) -> TokenizedGenerateReqInput:
    """The message as it leaves the tokenizer: placed, leased."""
    tokenizer._producer._place(message.mm_inputs.mm_items)
    tokenizer.dispatch(lambda self, message: None, None, message)
    return message


def received(message: TokenizedGenerateReqInput) -> list[object]:
    """Its features as this rank gets them: through msgpack, a process that passes them on, and pickle."""
    features = [item.feature for item in message.mm_inputs.mm_items]
    with patch.object(rank, "_inboxes", []):
        passed = msgspec.msgpack.decode(msgspec.msgpack.encode(features, enc_hook=enc_hook), ext_hook=ext_hook)
        pickled = pickle.dumps(passed)
    return list(pickle.loads(pickled))


def receiver(tp_size: int) -> SchedulerRequestReceiver:
    fields = ("recv_from_tokenizer", "recv_from_rpc", "recv_skipper", "input_blocker", "mm_receiver", "server_args")
    fields += ("max_recv_per_poll", "stream_output", "get_last_batch")
    model_config = SimpleNamespace(is_multimodal=True)
    return SchedulerRequestReceiver(**dict.fromkeys(fields), model_config=model_config)


def finalize(message: TokenizedGenerateReqInput) -> None:
    """`_finalize_shm_features`, where a collective would be an error: there is no process group."""
    with patch("sglang.srt.managers.scheduler_components.request_receiver.get_parallel", side_effect=AssertionError):
        receiver(RANKS)._finalize_shm_features([message])


def round_trip() -> None:
    with plane_of() as (plane, inboxes):
        source = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
        features = [source, source.to(torch.bfloat16).T.contiguous().T, [source + 1, source + 2]]
        message = sent(request(*features))
        for inbox in inboxes:
            with on_rank(inbox):
                copy = request(*received(message))
                assert mm_utils.has_shm_features([copy])
                finalize(copy)
                one, two, three = [item.feature for item in copy.mm_inputs.mm_items]
                assert torch.equal(one, source)
                assert torch.equal(two, features[1])
                assert [torch.equal(*pair) for pair in zip(three, features[2], strict=True)] == [True, True]
                del copy, one, two, three
        assert plane.statistics()["leases"] == 0


def lost_record() -> None:
    """Survives unpickling, says so when it is materialised, and fails this request alone, without a collective."""
    with plane_of() as (_, inboxes):
        message = sent(request(torch.ones(16)))
        for name in ("mmplane:0:junk", "mmplane:7:" + message.mm_inputs.mm_items[0].feature.shm_name[10:]):
            state = message.mm_inputs.mm_items[0].feature.__getstate__() | {"shm_name": name}
            for inbox in inboxes:
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
    with plane_of() as (_, inboxes):
        message = sent(request(torch.ones(16)))
        with on_rank(inboxes[0]):
            first = request(*received(message))
            finalize(first)
            del first
            again = request(*received(message))
            finalize(again)
            assert isinstance(again.mm_inputs, MMInputsProcessError)


def discard() -> None:
    with plane_of() as (plane, inboxes):
        message = sent(request([torch.zeros(4), torch.ones(4)]))
        for inbox in inboxes:
            with on_rank(inbox):
                mm_utils.discard_shm_features(request(*received(message)))
        assert plane.statistics()["leases"] == 0


def isolation() -> None:
    """What one rank writes no other sees, nor the next request with the same item."""
    with plane_of() as (_, inboxes):
        source = torch.arange(8, dtype=torch.float32)
        for _ in range(2):
            message = sent(request(source))
            for number, inbox in enumerate(inboxes):
                with on_rank(inbox):
                    copy = request(*received(message))
                    finalize(copy)
                    feature = copy.mm_inputs.mm_items[0].feature
                    feature.add_(number + 1)
                    assert torch.equal(feature, source + number + 1)
                    del copy, feature


def consensus() -> None:
    """With one named segment in the list, all ranks enter SGLang's collectives, ours among them or not."""
    with plane_of() as (_, inboxes):
        entered = []
        parallel = SimpleNamespace(attn_dp_enabled=False, tp_size=2, tp_group=SimpleNamespace(cpu_group=None))
        where = "sglang.srt.managers.scheduler_components.request_receiver"
        mine = sent(request(torch.ones(16)))
        for inbox in inboxes:
            segment = pickle.dumps(mm_utils.ShmPointerMMData(torch.ones(4)))
            with (
                on_rank(inbox),
                patch(f"{where}.get_parallel", return_value=parallel),
                patch(f"{where}.barrier", lambda group: entered.append("barrier")),
                patch(f"{where}.all_reduce", lambda failed, op, group: entered.append("all_reduce")),
            ):
                copy = request(*received(mine), pickle.loads(segment))
                receiver(2)._finalize_shm_features([copy])
                assert [item.feature.sum().item() for item in copy.mm_inputs.mm_items] == [16, 4]
        assert entered == ["barrier", "all_reduce"] * 2


def no_space() -> None:
    """What does not fit goes by SGLang's own way: a named segment, or inline where /dev/shm is full as well."""
    with plane_of() as (plane, _):
        large = torch.zeros(ARENA_BYTES)
        message = sent(request(large))
        (feature,) = [item.feature for item in message.mm_inputs.mm_items]
        assert isinstance(feature, mm_utils.ShmPointerMMData)
        assert not pointer.is_ours(feature)
        feature.close_and_unlink()
        with patch.object(shared_memory, "SharedMemory", side_effect=OSError(28, "No space left on device")):
            (feature,) = [item.feature for item in sent(request(large)).mm_inputs.mm_items]
        assert feature is large
        assert plane.statistics()["leases"] == 0
        assert tokenizer._producer.inline == 2


def not_sent() -> None:
    """When the message cannot be sent its leases end; the next one takes its own."""
    with plane_of() as (plane, _):
        message = request(torch.ones(16))
        tokenizer._producer._place(message.mm_inputs.mm_items)

        def refuse(self: object, message: object) -> None:
            raise OSError("no route")

        with suppress(OSError):
            tokenizer.dispatch(refuse, None, message)
        assert plane.statistics()["leases"] == 0


def identity() -> None:
    """Equal items have one identity; shape, dtype, grid and content each make another; a given hash is kept."""
    with plane_of():
        base = torch.zeros(8, 6)

        def of(feature: torch.Tensor, grid: tuple[int, ...] = (1, 2, 4)) -> object:
            message = request(feature, grid=grid)
            (item,) = message.mm_inputs.mm_items
            tokenizer._producer._place([item])
            assert item.pad_value is not None
            return item.identity

        same = [of(base), of(base.clone()), of(torch.zeros(6, 8).T)]
        assert len(set(same)) == 1
        others = [of(base, (1, 4, 2)), of(base.reshape(6, 8)), of(base.to(torch.float64)), of(base + 1)]
        assert len({same[0], *others}) == 5
        (item,) = request(base).mm_inputs.mm_items
        item.set_hash(7)
        given = item.pad_values
        tokenizer._producer._place([item])
        assert (item.hash, item.pad_values) == (7, given)


def precomputed_hash() -> None:
    """With SGLANG_MM_PRECOMPUTE_HASH SGLang's threads ask for the pad value: they get the same identity."""
    with plane_of():
        (item,) = request(torch.ones(5)).mm_inputs.mm_items
        (other,) = request(torch.ones(5)).mm_inputs.mm_items
        item.set_pad_value()
        tokenizer._producer._place([other])
        assert item.identity is not None
        assert item.identity == other.identity


def off_the_loop() -> None:
    """Hashing and copying leave the event loop free: it turns while a thread works."""
    with plane_of():
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def main() -> None:
            other = asyncio.create_task(turn())
            message = request(torch.ones(ARENA_BYTES // 8))
            await tokenizer._producer.place(message.mm_inputs.mm_items)
            other.cancel()

        asyncio.run(main())
        assert turns > 1


def failing_build() -> None:
    with plane_of():
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


def main() -> None:
    """Load the plugin as SGLang does, then run every check."""
    from sglang.srt.plugins import load_plugins

    assert os.environ["SGLANG_PLUGINS"] == "mmplane"
    load_plugins()
    for check in CHECKS:
        try:
            check()
            error = None
        except Exception:
            error = traceback.format_exc()
        print("CHECK", json.dumps({"name": check.__name__, "error": error}), flush=True)


if __name__ == "__main__":
    main()
