"""The self-test: sends a record from an API server to a worker through this vLLM's own code."""

from __future__ import annotations

import warnings

import torch
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFeatureSpec,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    PlaceholderRange,
)
from vllm.multimodal.utils import strip_covered_mm_data
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from mmplane.core.records import Item, Slot, Tensor
from mmplane.embed.records import Leased
from mmplane.engines.vllm.held import PLACED_BYTES_MIN, is_lent, lent, received, restored

_TOKENS = 8
_MESSAGE_BYTES_MAX = 1024


def check() -> str | None:
    """Return a problem, or None."""
    pixels = torch.zeros(PLACED_BYTES_MIN, dtype=torch.uint8)
    grid = torch.tensor([1, 2, 4])
    item = MultiModalKwargsItem(
        {
            "pixels": MultiModalFieldElem(pixels, MultiModalBatchedField()),
            "grid": MultiModalFieldElem(grid, MultiModalBatchedField(keep_on_cpu=True)),
        }
    )
    leased = Leased(1, Item(bytes(32), "image", Slot(0, 0, 1, 1), (Tensor("pixels", "uint8", (len(pixels),), 0),)))
    frames = MsgpackEncoder().encode(_request(lent(item, leased)))
    if sum(memoryview(frame).nbytes for frame in frames) > _MESSAGE_BYTES_MAX:
        return "a message without its features is too large"
    with warnings.catch_warnings(action="ignore"):  # torch warns that a message may not be written
        features = MsgpackDecoder(EngineCoreRequest).decode(frames).mm_features
    records = received(features)
    (arrived,) = strip_covered_mm_data(features, _TOKENS)
    if records != [leased] or not is_lent(arrived):
        return "a record does not arrive"
    back = restored(arrived, {"pixels": pixels}).data.get_data()
    if not torch.equal(back.pop("grid"), grid) or list(back) != ["pixels"]:
        return "an item arrives changed"
    return None


def _request(item: MultiModalKwargsItem) -> EngineCoreRequest:
    feature = MultiModalFeatureSpec(item, "image", "an item", PlaceholderRange(offset=0, length=_TOKENS))
    return EngineCoreRequest(
        request_id="self-test",
        prompt_token_ids=[0] * _TOKENS,
        mm_features=[feature],
        sampling_params=None,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
