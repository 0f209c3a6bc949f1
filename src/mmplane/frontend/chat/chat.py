"""One chat request, from parsed body to tokens: calls all other stages in order.

    load media -> probe header -> layout -> expanded prompt, length check -> items in the arena -> ranks -> text

Each stage refuses as much as it can before the next, more expensive stage starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from mmplane.arena.errors import ArenaError
from mmplane.config import Config
from mmplane.core.errors import too_large
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.core.plan import EVERY_RANK, Sampling, Submit
from mmplane.core.records import PROMPT_INLINE_BYTES_MAX, Enclosed, Item, Modality, Recipe, Tensor
from mmplane.delivery.faults import strike
from mmplane.frontend.body.request import Request
from mmplane.frontend.chat.pieces import Piece, Pieces
from mmplane.frontend.chat.preparation import Preparation
from mmplane.frontend.chat.prompt import Prompt
from mmplane.frontend.request.reading import ParsedBody
from mmplane.frontend.request.renderer import Renderer
from mmplane.frontend.send.dispatch import Dispatch
from mmplane.frontend.send.freight import Load
from mmplane.frontend.send.group import Generation, Group
from mmplane.frontend.send.mirrored import plain
from mmplane.frontend.sources.fetch import Grow
from mmplane.items.store import ItemStore
from mmplane.observe.journey import Journey
from mmplane.wire.link import encode

SUBMIT_BYTES_MAX = 36 * 1024
BEFORE_TOKENS = 8
"""How many last tokens of a prompt affect how the next one is written: with a space, or as part of a character."""


Restored = Callable[[Modality, Tensor], tuple[tuple[int, ...], str]]


class Answer:
    """A request at the ranks. Iterate over its pieces of text; the figures are complete at the end."""

    def __init__(
        self,
        request: Request,
        prompt: Prompt,
        recipes: list[Recipe],
        delivery: str,
        load: Load,
        generation: Generation,
        journey: Journey,
        restored: Restored,
    ) -> None:
        self._restored = restored
        self._recipes = recipes
        self.request = request
        self.prompt = prompt
        self.delivery = delivery
        self.load = load
        self.generation = generation
        self.journey = journey
        self.token_ids: list[list[int]] = [[] for _ in range(request.samples)]
        self.began: Callable[[], object] = lambda: None
        """Called with the first token."""

    @property
    def completion_tokens(self) -> int:
        """Tokens of all samples, including end tokens."""
        return sum(len(tokens) for tokens in self.token_ids)

    def trace(self) -> dict[str, Any]:
        """The trace object of the contract."""
        return {
            "delivery": self.delivery,
            "request_id": self.journey.name,
            "items": [self._traced(index, item) for index, item in enumerate(self.load.items)],
            "token_ids": self.token_ids,
            "stages_ms": self.journey.stages_ms(),
            "ranks": [
                {
                    "materialised": work.materialised,
                    "materialise_ms": round(work.materialise_ms, 3),
                    "deliver_ms": round(work.deliver_ms, 3),
                    "hashed": work.hashed,
                    "hash_ms": round(work.hash_ms, 3),
                    "encoded": work.encoded,
                }
                for work in self.generation.work
            ],
        }

    def _traced(self, index: int, item: Item | Enclosed) -> dict[str, Any]:
        stored = item.tensors[0]
        shape, dtype = self._restored(item.modality, stored)
        # If the ranks had an item but it was materialised here anyway, before anyone could know, it does not count as a
        # hit.
        spared = index in self.generation.reused and isinstance(item, Enclosed) and item.media
        return {
            "content_key": item.content_key.hex(),
            "cache_hit": self.load.hits[index] or spared,
            "embedding_hit": index in self.generation.embedded,
            "modality": item.modality,
            "shape": list(shape),
            "dtype": dtype,
            "encoding": stored.dtype,
            "bytes": item.slot.length_bytes if isinstance(item, Item) else item.length_bytes,
            "digests": {
                str(rank): digests[index].hex() for rank, digests in enumerate(self.generation.digests) if digests
            },
            **_sampling(self._recipes[index]),
        }


def usage_of(answers: Sequence[Answer]) -> dict[str, Any]:
    """OpenAI's usage object; its details have the tokens of images, clips and sounds separately."""
    prompts = [answer.prompt for answer in answers]
    prompt_tokens = sum(prompt.length for prompt in prompts)
    completion_tokens = sum(answer.completion_tokens for answer in answers)
    cached_tokens = sum(answer.generation.cached_tokens for answer in answers)
    modalities: tuple[Modality, ...] = ("image", "video", "audio")
    of_media = {f"{each}_tokens": sum(prompt.tokens_of(each) for prompt in prompts) for each in modalities}
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens, **of_media},
    }


def _sampling(recipe: Recipe) -> dict[str, Any]:
    """Frames or seconds of a clip or a sound that were used."""
    if recipe.clip is not None:
        clip = recipe.clip
        shown = {"frames": list(clip.indices), "seconds": list(clip.seconds)}
        return {"sampling": {**shown, "frames_total": clip.frames_total, "fps": clip.fps}}
    return {"sampling": {"samples": recipe.samples}} if recipe.modality == "audio" else {}


class Chat:
    """Answers chat requests."""

    def __init__(
        self,
        *,
        config: Config,
        store: ItemStore,
        dispatch: Dispatch,
        group: Group,
        preparation: Preparation,
        renderer: Renderer,
        copies: Mapping[Modality, int],
    ) -> None:
        self._config = config
        self._store = store
        self._dispatch = dispatch
        self._group = group
        self._preparation = preparation
        self.renderer = renderer
        self._copies = copies

    @asynccontextmanager
    async def answer(
        self,
        asked: ParsedBody,
        grow: Grow,
        *,
        tenant: str = DEFAULT_TENANT,
        journey: Journey | None = None,
        probe: bool = False,
    ) -> AsyncIterator[Answer]:
        """Send a request to the ranks. Leaving the block early aborts it. Raises RequestError.

        `grow` reserves memory for fetched media. Once the block is entered, the caller releases that memory and the
        request's body, because the items are then where they are sent from. The `journey` follows the request through
        its phases. Items of a `probe` are materialised without looking at the index, and are not counted anywhere.
        """
        journey = journey or Journey()
        journey.tenant = tenant
        request = asked.request
        self._group.check_room()
        prepared = await self._preparation.prepare(asked, grow, journey)
        prompt, recipes = prepared.prompt, [item.recipe for item in prepared.media]
        journey.enter("materialise")
        request.let_go()
        request_id = self._group.next_request_id()
        async with self._dispatch.trip(probe=probe) as trip:
            journey.delivery, journey.request_id = trip.delivery, request_id
            load = await trip.load(prepared.media, request_id)
            prepared.media.clear()  # their bytes are where they are sent from
            journey.add(load.spans)
            journey.delivery, journey.hits = trip.delivery, sum(load.hits)
            journey.enter("hold")
            try:
                salt = b"" if probe or request.fault else self._dispatch.salt(tenant)
                generation = await self._submit(request, journey, prompt, load, prepared.sampling, salt)
            except BaseException:
                load.free()
                raise
            finally:
                load.release()  # from here on the ranks' own leases count
            generation.heard = journey.heard
            answer = Answer(request, prompt, recipes, trip.delivery, load, generation, journey, self._restore)
            try:
                yield answer
            except BaseException:
                self._group.abort(generation)
                raise
            finally:
                trip.work = generation.work
                journey.embedded = len(generation.embedded)
                journey.needless = sum(not load.hits[index] for index in generation.embedded)
            self._group.finished(generation)

    async def pieces(self, answer: Answer) -> AsyncIterator[Piece]:
        """The answer's text, sample by sample as it arrives. Raises RequestError."""
        request = answer.request
        before = answer.prompt.ids[-BEFORE_TOKENS:].tolist() if request.answers_prompt else []
        samples = [Pieces(sample, request, self._decode, before) for sample in range(request.samples)]
        first = True
        async for token in answer.generation:
            if first:
                answer.journey.enter("generate")
                answer.began()
                first = False
            answer.journey.drew(token.sample)
            answer.token_ids[token.sample].append(token.token)
            pieces = samples[token.sample]
            piece = pieces.push(token)
            if pieces.stopped and token.reason is None:
                self._group.stop(answer.generation, token.sample)
            if piece is not None:
                yield piece
        answer.journey.enter("reply")

    async def _submit(
        self, request: Request, journey: Journey, prompt: Prompt, load: Load, sampling: Sampling, salt: bytes
    ) -> Generation:
        request_id, delivery = journey.request_id, journey.delivery
        raw = prompt.ids.tobytes()
        slot = None
        reader = self._group.reader()
        self._group.check_room()
        strike(request.fault, "construct", 0)
        if len(raw) > PROMPT_INLINE_BYTES_MAX:
            slot = self._store.shelf.store(raw, reader, request_id)
        submit = Submit(
            request_id=request_id,
            prompt=b"" if slot else raw,
            prompt_slot=slot,
            prompt_tokens=prompt.length,
            items=load.items,
            placeholders=prompt.placeholders,
            sampling=sampling,
            digests=bool(request.mmplane and request.mmplane.trace),
            digest_rank=request.mmplane.digest_rank if request.mmplane else EVERY_RANK,
            delivery=delivery,
            parcel_bytes=sum(map(len, load.parcel)),
            relayed=self._dispatch.relays(delivery),
            cache=self._dispatch.caches(delivery),
            fault=request.fault,
            tenant=journey.tenant,
            feature_hash=self._config.feature_hash != "none",
            keep=self._dispatch.keeps(delivery),
            salt=salt,
        )
        try:
            if len(encode(submit)) > SUBMIT_BYTES_MAX:
                raise too_large("the request has too many items", request.prompt_field)
            items = [item for item in load.items if isinstance(item, Item)]
            await self._group.mirrored.everywhere(items if slot is None else [*items, plain(slot)])
        except BaseException:
            if slot is not None:
                with suppress(ArenaError):  # the ranks may have ended
                    self._store.shelf.take_back(slot, reader, request_id)
            raise
        return self._group.submit(submit, load.parcel, free=load.free)

    def _restore(self, modality: Modality, stored: Tensor) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of features after a rank has undone their encoding."""
        if stored.dtype != "uint8":
            return stored.shape, stored.dtype
        *sides, last = stored.shape
        return (*sides, last * self._copies[modality]), self._group.dtype

    def text_of(self, prompt: str | list[int]) -> str:
        """Return the prompt as a text, for a prompt without a template."""
        return prompt if isinstance(prompt, str) else str(self.renderer.tokenizer.decode(prompt))

    def _decode(self, tokens: list[int]) -> str:
        text: str = self.renderer.tokenizer.decode(tokens, skip_special_tokens=True)
        return text
