"""POST /v1/chat/completions/render: what a router needs to know of a request, in vLLM's format, without pixels."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from mmplane.core.parsing import Kind
from mmplane.frontend.body.request import Request
from mmplane.frontend.chat.naming import name_of
from mmplane.frontend.chat.preparation import Preparation, Prepared
from mmplane.frontend.chat.prompt import Prompt
from mmplane.frontend.http.endpoint import Taken, Work
from mmplane.frontend.http.reply import JSON, Reply

SAMPLING = ("n", "temperature", "top_p", "seed")


class Renderings(Work):
    """Answers from headers and bytes only, without the ranks. `model_id` is vLLM's `--model`."""

    kind: Kind = "chat"

    def __init__(self, preparation: Preparation, *, model_id: str) -> None:
        self._preparation = preparation
        self._model_id = model_id

    async def __call__(self, taken: Taken, reply: Reply) -> int:
        """vLLM's `GenerateRequest` without `kwargs_data`: the receiver has the pixels, or makes them."""
        journey = taken.journey
        prepared = await self._preparation.prepare(taken.asked, taken.reserved.grow, journey)
        names = [await name_of(item, self._model_id) for item in prepared.media]
        journey.enter("reply")
        journey.prompt_tokens = prepared.prompt.length
        await reply.whole(200, JSON, msgspec.json.encode(_object(taken.asked.request, prepared, names)))
        return 200


def _object(request: Request, prepared: Prepared, names: Sequence[str]) -> dict[str, Any]:
    given = {name: value for name in SAMPLING if (value := getattr(request, name)) is not None}
    return {
        "request_id": f"chatcmpl-{secrets.token_hex(16)}",
        "token_ids": msgspec.Raw(prepared.prompt.json()),
        "features": _features(prepared.prompt, names) if names else None,
        "sampling_params": {**given, "max_tokens": prepared.sampling.tokens_max, "stop": list(request.stops)},
        "model": request.model,
        "stream": bool(request.stream),
    }


def _features(prompt: Prompt, names: Sequence[str]) -> dict[str, Any]:
    hashes: dict[str, list[str]] = {}
    placeholders: dict[str, list[dict[str, int]]] = {}
    for modality, name, (offset, length) in zip(prompt.modalities, names, prompt.spans, strict=True):
        hashes.setdefault(modality, []).append(name)
        placeholders.setdefault(modality, []).append({"offset": offset, "length": length})
    return {"mm_hashes": hashes, "mm_placeholders": placeholders, "kwargs_data": None, "mm_metadata": None}
