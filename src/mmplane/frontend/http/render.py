"""POST /v1/chat/completions/render: what a router needs of a request, in the shape of vLLM's answer, without pixels."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from mmplane.frontend.chat.chat import Chat
from mmplane.frontend.chat.rendering import Rendering
from mmplane.frontend.http.endpoint import Taken, Work
from mmplane.frontend.http.reply import JSON, Reply
from mmplane.frontend.request.schema import ChatRequest

SAMPLING = ("n", "temperature", "top_p", "seed")


class Renderings(Work):
    """Answers from headers and bytes alone; no rank hears of it."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def __call__(self, taken: Taken, reply: Reply) -> int:
        """vLLM's `GenerateRequest` without `kwargs_data`: whoever gets it has the pixels, or makes them."""
        request, journey = taken.asked.request, taken.journey
        rendering = await self._chat.render(taken.asked, taken.reserved.grow, tenant=journey.tenant, journey=journey)
        journey.enter("reply")
        journey.prompt_tokens = len(rendering.prompt.ids)
        await reply.whole(200, JSON, msgspec.json.encode(_object(request, rendering)))
        return 200


def _object(request: ChatRequest, rendering: Rendering) -> dict[str, Any]:
    given = {name: value for name in SAMPLING if (value := getattr(request, name)) is not None}
    return {
        "request_id": f"chatcmpl-{secrets.token_hex(16)}",
        "token_ids": rendering.prompt.ids.tolist(),
        "features": _features(rendering) if rendering.names else None,
        "sampling_params": {**given, "max_tokens": rendering.sampling.tokens_max, "stop": list(request.stops)},
        "model": request.model,
        "stream": bool(request.stream),
    }


def _features(rendering: Rendering) -> dict[str, Any]:
    hashes: dict[str, list[str]] = {}
    placeholders: dict[str, list[dict[str, int]]] = {}
    prompt = rendering.prompt
    for modality, name, (offset, length) in zip(prompt.modalities, rendering.names, prompt.spans, strict=True):
        hashes.setdefault(modality, []).append(name)
        placeholders.setdefault(modality, []).append({"offset": offset, "length": length})
    return {"mm_hashes": hashes, "mm_placeholders": placeholders, "kwargs_data": None, "mm_metadata": None}
