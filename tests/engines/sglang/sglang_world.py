"""The plugin as in a tokenizer and in ranks at once, at a real sidecar: for programs of checks."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import msgspec
import torch
from sglang.srt.managers import mm_utils
from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
from sglang.srt.managers.schedule_batch import Modality, MultimodalDataItem, MultimodalProcessorOutput
from sglang.srt.managers.scheduler_components.request_receiver import SchedulerRequestReceiver
from sglang.srt.utils.msgpack_utils import enc_hook, ext_hook

from mmplane.embed.client import Client
from mmplane.embed.inbox import Inbox
from mmplane.embed.sidecar import Sidecar
from mmplane.engines.kit.sidecar import Place
from mmplane.engines.sglang import launcher, rank, tokenizer
from mmplane.engines.sglang.carrier import Carrier
from mmplane.engines.sglang.metrics import Metrics
from polling import until

ARENA_BYTES = 2**20
LARGE_BYTES = 2**26
"""Larger than any region."""
RANKS = 2
MODULE = "sglang.srt.managers"
LIMIT_S = 60.0

running = SimpleNamespace()
"""The `sidecar` of all checks."""


class World:
    """A tokenizer's side, and the ranks of each group, all in this process."""

    def __init__(self, groups: tuple[int, ...], arena_bytes: int) -> None:
        self.place = Place(running.sidecar.socket, groups, arena_bytes)
        self.metrics = Metrics()
        self.carrier = Carrier(self.place, self.metrics)
        self.manager = SimpleNamespace(**{tokenizer.CARRIER: self.carrier})
        self.client: Client = self.carrier._attached.result(LIMIT_S)
        self.ranks = [
            [Inbox(self.place.socket, number, group=group, ranks=count) for number in range(count)]
            for group, count in enumerate(groups)
        ]
        for group in range(len(groups)):
            self.client.wait_ranks(group)

    @property
    def inboxes(self) -> list[Inbox]:
        """The ranks of the first group."""
        return self.ranks[0]

    def detach(self) -> None:
        for inbox in [self.client, *(one for group in self.ranks for one in group)]:
            inbox.close()
        self.carrier._threads.shutdown()


def figures_of_others() -> dict[str, int]:
    """What the sidecar holds for anybody; this one, who asks, is a session too."""
    with running.sidecar.connect() as client:
        figures = client.statistics()
    return {"leases": figures["leases"], "holds": figures["holds"], "sessions": sum(figures["sessions"].values())}


@contextmanager
def world_of(groups: tuple[int, ...] = (RANKS,), arena_bytes: int = ARENA_BYTES) -> Iterator[World]:
    """The plugin as in a tokenizer and a rank at once. At the end nothing is leased or held."""
    with (
        patch(f"{MODULE}.mm_utils._get_is_default_transport", return_value=False),
        patch(f"{MODULE}.mm_utils.get_serving", return_value=SimpleNamespace(skip_tokenizer_init=False)),
        patch("mmplane.engines.sglang.metrics.get_observability", lambda: SimpleNamespace(enable_metrics=False)),
        patch.object(tokenizer, "_identifies", True),
        patch.dict(os.environ, {launcher.PLACE_VARIABLE: "{}"}),
    ):
        world = World(groups, arena_bytes)
        try:
            yield world
        except BaseException:
            world.detach()
            raise
        gc.collect()
        world.detach()
        until(lambda: figures_of_others() == {"leases": 0, "holds": 0, "sessions": 1})


def passed_over(world: World) -> dict[str, int]:
    """How many features, by reason."""
    return {reason: count for reason, count in world.metrics.tally.reasons().items() if count}


@contextmanager
def on_rank(inbox: Inbox | None) -> Iterator[None]:
    """As that rank; as a process that only passes messages on."""
    attached: Future[Inbox] | None = None
    if inbox is not None:
        attached = Future()
        attached.set_result(inbox)
    with patch.object(rank, "_attached", attached):
        yield


def item_of(feature: object, grid: tuple[int, ...] = (1, 2, 3), **specific: object) -> MultimodalDataItem:
    specific = {"image_grid_thw": torch.tensor([grid])} | specific
    return MultimodalDataItem(modality=Modality.IMAGE, feature=feature, model_specific_data=specific)


def request(*features: object, grid: tuple[int, ...] = (1, 2, 3)) -> TokenizedGenerateReqInput:
    """A tokenised request with one item for each feature."""
    return request_of(*(item_of(feature, grid) for feature in features))


def request_of(*items: MultimodalDataItem) -> TokenizedGenerateReqInput:
    fields = {f.name: None for f in msgspec.structs.fields(TokenizedGenerateReqInput) if f.required}
    return TokenizedGenerateReqInput(
        **fields | {"rid": "r", "mm_inputs": MultimodalProcessorOutput(mm_items=list(items))}
    )


def placed(world: World, message: TokenizedGenerateReqInput, *, messages: int = 1, trusted: bool = True) -> None:
    """Its features are carried."""
    world.carrier._carry(message.mm_inputs.mm_items, messages, trusted=trusted)


def sent(world: World, message: TokenizedGenerateReqInput) -> TokenizedGenerateReqInput:
    """The message as it leaves the tokenizer: placed, the rest as SGLang sends it, leased."""
    placed(world, message)
    mm_utils.wrap_shm_features(message)
    tokenizer.dispatch(lambda self, message: None, world.manager, message)
    return message


def received(message: TokenizedGenerateReqInput) -> list[MultimodalDataItem]:
    """Its items as this rank gets them: through msgpack, a process that passes them on, and pickle."""
    items = [(item.feature, item.model_specific_data) for item in message.mm_inputs.mm_items]
    with on_rank(None):
        passed = msgspec.msgpack.decode(msgspec.msgpack.encode(items, enc_hook=enc_hook), ext_hook=ext_hook)
        pickled = pickle.dumps(passed)
    return [
        MultimodalDataItem(modality=Modality.IMAGE, feature=feature, model_specific_data=specific)
        for feature, specific in pickle.loads(pickled)
    ]


def parallel_of(tp_size: int) -> SimpleNamespace:
    """SGLang's context, by the names of each version."""
    group = SimpleNamespace(cpu_group=None)
    return SimpleNamespace(attn_dp_enabled=False, enable_dp_attention=False, tp_size=tp_size, tp_group=group)


def receiver(tp_size: int) -> SchedulerRequestReceiver:
    """With nothing but its sizes: where a version keeps them differs."""
    given: dict[str, object] = dict.fromkeys(field.name for field in dataclasses.fields(SchedulerRequestReceiver))
    given["model_config"] = SimpleNamespace(is_multimodal=True)
    if "ps" in given:
        given["ps"] = SimpleNamespace(tp_size=tp_size, attn_tp_size=1, attn_cp_size=1)
    return SchedulerRequestReceiver(**given)


def finalize(message: TokenizedGenerateReqInput) -> None:
    """`_finalize_shm_features`, where a collective would be an error: there is no process group."""
    with patch("sglang.srt.managers.scheduler_components.request_receiver.get_parallel", side_effect=AssertionError):
        receiver(RANKS)._finalize_shm_features([message])


def run(checks: tuple[Callable[[], None], ...]) -> None:
    """Load the plugin as SGLang does, then run every check. One JSON line for each."""
    from sglang.srt.plugins import load_plugins

    assert os.environ["SGLANG_PLUGINS"] == "mmplane"
    load_plugins()
    with Sidecar.start(model=None, producers_bytes=2**26) as sidecar:
        running.sidecar = sidecar
        for check in checks:
            try:
                check()
                error = None
            except Exception:
                error = traceback.format_exc()
            print("CHECK", json.dumps({"name": check.__name__, "error": error}), flush=True)
