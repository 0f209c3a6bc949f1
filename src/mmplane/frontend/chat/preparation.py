"""Prepares a request: its media, its expanded prompt and its sampling. All of it is known before a pixel is decoded."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mmplane.config import Config
from mmplane.core.errors import RequestError, bad_request
from mmplane.core.plan import Sampling
from mmplane.core.records import Modality
from mmplane.frontend.body.request import Request
from mmplane.frontend.chat.prompt import Marks, Prompt, expand
from mmplane.frontend.request.intake import Intake, Media
from mmplane.frontend.request.reading import ParsedBody
from mmplane.frontend.sources.fetch import Grow
from mmplane.observe.journey import Journey
from mmplane.waiting.share import Share


@dataclass(frozen=True)
class Prepared:
    """The request for the ranks. `media` are the items, in order."""

    media: list[Media]
    prompt: Prompt
    sampling: Sampling


class Preparation:
    """Prepares requests for the model that clients call by one of `names`, with a context of `context_tokens`."""

    def __init__(
        self,
        config: Config,
        intake: Intake,
        marks: Mapping[Modality, Marks],
        *,
        context_tokens: int,
        vocabulary_tokens: int,
        names: Collection[str],
    ) -> None:
        self._config = config
        self._intake = intake
        self._marks = marks
        self.context_tokens = context_tokens
        self._vocabulary_tokens = vocabulary_tokens
        self._names = names
        self._samples_max = Share(config.running_max, config.tenants).each_max

    async def prepare(self, asked: ParsedBody, grow: Grow, journey: Journey) -> Prepared:
        """Prepare a request for the `journey`'s tenant; `grow` reserves memory for fetches. Raises RequestError."""
        self._check(asked.request)
        grammar = await _grammar(asked.request)
        media = await self._intake.take(asked.request, grow, asked.parked, journey, tenant=journey.tenant)
        journey.enter("prompt")
        prompt = expand(asked.ids, [item.recipe for item in media], self._marks)
        return Prepared(media, prompt, self._sampling(asked.request, prompt.length, grammar))

    def _check(self, request: Request) -> None:
        if request.mmplane and request.mmplane.fault and not self._config.fault_injection:
            raise bad_request("unsupported_parameter", "this server injects no faults", "mmplane.fault")
        if request.model not in self._names:
            raise RequestError(404, "model_not_found", "this server does not serve that model", param="model")
        if request.samples > self._samples_max:
            raise bad_request("invalid_value", f"this server decodes at most {self._samples_max} samples", "n")
        if len(request.media) > self._config.images_max:
            raise bad_request(
                "too_many_images",
                f"a request may hold at most {self._config.images_max} images, clips and sounds",
                "messages",
            )

    def _sampling(self, request: Request, prompt_tokens: int, grammar: str) -> Sampling:
        room = self.context_tokens - prompt_tokens
        wanted = request.tokens_wanted
        if room < (wanted or 1):
            raise bad_request(
                "context_length_exceeded",
                f"the prompt has {prompt_tokens} tokens and the answer may have {wanted or 1}, "
                f"but the model's context is {self.context_tokens} tokens",
                request.prompt_field,
            )
        return request.sampling(
            tokens_max=wanted or min(room, request.tokens_default),
            seed=secrets.randbits(62),
            vocabulary_tokens=self._vocabulary_tokens,
            ignore_end=bool(request.mmplane and request.mmplane.ignore_eos),
            logprobs=request.likely_tokens,
            grammar=grammar,
        )


async def _grammar(request: Request) -> str:
    """Return the grammar for the answer. Checking it takes CPU, but not the interpreter's lock."""
    if request.is_free:
        return ""
    return await asyncio.to_thread(request.constraint)
