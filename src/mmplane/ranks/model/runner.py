"""The runner: one rank's share of any vision-language model of transformers, on packed segments.

A request's items are encoded when it is prepared. No collective is entered there (tensor parallelism in transformers
does not shard vision towers), so one rank alone may fail at it. A step is one forward pass over the packed tokens of
all its segments; every rank enters it with the same shapes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from mmplane.core.errors import Failure, RequestError, internal, unsupported
from mmplane.core.plan import Held, Submit, Work
from mmplane.core.records import Enclosed, Item, Modality
from mmplane.delivery.delivery import Features
from mmplane.delivery.faults import strike
from mmplane.features.contract.embeddings import EMBEDDINGS
from mmplane.features.facts import MODALITIES
from mmplane.ranks.model.anatomy import Anatomy, parameters_of
from mmplane.ranks.model.attention import NAME, PackedAttention
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.crossing import Crossing
from mmplane.ranks.model.drawing import Drawing
from mmplane.ranks.model.encoded import Encoded
from mmplane.ranks.model.gathering import Gathering
from mmplane.ranks.model.graphs import Graphs, Recorded, Run, Shape
from mmplane.ranks.model.head import Head, Scores
from mmplane.ranks.model.packing import pack
from mmplane.ranks.model.prompt import Prompt, Rows
from mmplane.ranks.model.rebuild import Rebuild
from mmplane.ranks.model.sampling import draw
from mmplane.ranks.model.spans import Span
from mmplane.ranks.model.states import States
from mmplane.ranks.model.transfer import Transfer
from mmplane.ranks.model.wanted import Wanted
from mmplane.ranks.plan.hashing import Hashing
from mmplane.ranks.plan.inbox import Inbox
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.port import Drawn, Turn
from mmplane.ranks.plan.room import Sizes
from mmplane.ranks.plan.runs import image_runs
from mmplane.ranks.plan.step import Segment, Step

log = logging.getLogger("mmplane")


class Runner:
    """Computes the schedule's steps on this rank's share of the model."""

    def __init__(
        self,
        model: Any,
        inbox: Inbox,
        memory: Memory,
        *,
        rank: int,
        device: torch.device,
        clock: LoopClock,
        rebuild: Mapping[Modality, Rebuild] | None = None,
        row_bytes: int = 0,
        drawing: Drawing | None = None,
        gathering: Gathering | None = None,
        transfer: Transfer | None = None,
    ) -> None:
        self._model = model
        self._clock = clock
        self._hashing = Hashing(clock)
        self._inbox = inbox
        self.memory = memory
        self._rank = rank
        self._device = device
        self._rebuild = rebuild or {}
        self._transfer = transfer or Transfer(device)
        self._anatomy = anatomy = Anatomy.of(model)
        self._language = anatomy.language
        self._embed = model.get_input_embeddings()
        self._encoders = anatomy.encoders
        self._encoded = Encoded()
        self._row_bytes = row_bytes
        self.widest_bytes = 0
        """The size of the widest row of embeddings in a prompt, among all that were encoded here."""
        self._rope_index = anatomy.rope_index
        self._attention = PackedAttention(memory, device)
        self._attention.register()
        self._language.config._attn_implementation = NAME
        self._states = States(anatomy.language)
        self._crossing = Crossing(model, anatomy.language)
        self.trial = False
        """Whether this is a trial before the server serves: a failure then is the checkpoint's failure."""
        self._drawing = drawing or Drawing()
        self._head = Head(model.lm_head, gathering or Gathering())
        self._prompts: dict[int, Prompt] = {}
        self._graphs: Graphs | None = None

    def prepare(
        self,
        submit: Submit,
        features: Sequence[Features],
        *,
        keep: frozenset[int] = frozenset(),
        reused_tokens: int = 0,
    ) -> Iterator[Turn]:
        """Encode the request's items, one in each turn of the iterator; the last turn gives `Held`.

        A turn that gives a future has started work that continues outside the loop; the next turn may come when it is
        done.

        `features` has one entry for each item: its tensors as they were delivered. Embeddings of the items in `keep`
        are kept; those that are kept already are used as they are. An item whose rows are all in the first
        `reused_tokens` of the prompt is not encoded: its keys and values are in memory.

        One item at a time, so that the loop is never blocked for longer than one item takes. A failure here is this
        request's error only.
        """
        failure: Failure | None = None
        digests: tuple[bytes, ...] = ()
        encoded = 0
        try:
            if submit.digested_by(self._rank):
                digests = yield from self._digests(submit, features)
            embeddings: list[Rows] = []
            crossed: list[torch.Tensor] = []
            for index, (item, tensors, runs) in enumerate(
                zip(submit.items, features, submit.placeholders, strict=True)
            ):
                strike(submit.fault, "encode", self._rank)
                if runs and max(start + length for start, length in runs) <= reused_tokens:
                    continue
                rows = self._encoded.get(item.content_key) if index in keep else None
                if rows is None:
                    rows = self._rows(item, tensors, keep=index in keep)
                    encoded += 1
                if self._crossing.present:
                    crossed.append(rows)
                else:
                    embeddings += self._place(rows, runs, kept=index in keep)
                yield None
            prompt = self._prompt(submit, features, embeddings)
            if self._rank == 0:
                yield from self._drawing.prepare(submit, prompt.ids)
            self._prompts[submit.request_id] = prompt
            self._crossing.add(submit.request_id, prompt.ids, crossed, features)
        except RequestError as error:
            failure = error.failure()
        except Exception as error:  # whatever a model raises is this request's failure (invariant 4)
            if self.trial:
                raise
            log.exception("request %d could not be prepared", submit.request_id)
            failure = internal(f"this request could not be prepared ({type(error).__name__})").failure()
        yield from self._transfer.arrived()  # from then on, the owner of the features may give their memory to others
        yield Held(submit.request_id, self._rank, digests, failure, Work(encoded=encoded))

    def run(self, step: Step) -> tuple[Drawn, ...]:
        """Drop what the step drops, copy blocks, compute its segments. Returns the tokens in the order of `step.drawn`.

        Every rank must call this for every step. Only rank 0's tokens count, so only rank 0 samples.
        """
        self._states.drop(step.drop)
        self._crossing.drop(step.drop_requests)
        for sequence_id in step.drop:
            self._drawing.drop(sequence_id)
        for request_id in step.drop_requests:
            self._prompts.pop(request_id, None)
            self._drawing.drop((request_id, 0))
        if not step.segments:
            return ()
        with torch.inference_mode():
            self.memory.copy(step.copies)
            hidden = self._hidden(step.segments)
            self._states.fork(step.drawn)
            for segment in step.segments:
                self._prompts[segment.sequence[0]].computed(segment)
            drawing = [segment for segment in step.segments if segment.draws]
            scores = self._head(hidden, [*map(self._takes_largest, drawing)]) if drawing else None
            return () if scores is None else self._drawing.drew(step.drawn, self._drawn(drawing, scores))

    def forget(self, keys: Sequence[bytes]) -> None:
        """Drop the embeddings under these content keys."""
        self._encoded.forget(keys)

    @property
    def embedding_bytes(self) -> tuple[int, int]:
        """The bytes of embeddings: those kept for later requests, and those that pass through."""
        passing = (rows for prompt in self._prompts.values() for rows in prompt.embeddings if not rows.kept)
        return self._encoded.kept_bytes, sum(each.rows.nbytes for each in passing)

    def record(self, shapes: Iterable[Shape], how: Recorded, record: Callable[[Run], Run]) -> None:
        """Record decoding as graphs of these shapes, which later steps use. Raises whatever cannot be recorded."""
        with torch.inference_mode():
            self._graphs = Graphs(shapes, self._through, self._attention, how, record)

    @property
    def keeps_states(self) -> bool:
        """Whether layers keep more than keys and values, so that no graph can be recorded."""
        return self._states.present or self._crossing.present

    @property
    def axes(self) -> int:
        """The number of axes of positions, which all prompts share. There must be a prompt."""
        return len(next(iter(self._prompts.values())).positions)

    @property
    def sizes(self) -> Sizes:
        """What the model keeps, as far as it has computed something here."""
        return Sizes(self.memory.bytes_per_token, self._states.bytes_each, self._crossing.bytes_each)

    @property
    def language(self) -> Any:
        """The language model."""
        return self._language

    @property
    def whole_runs(self) -> bool:
        """Whether the tokens of an image attend to each other, so that a segment contains all of them or none."""
        return self._anatomy.whole_runs

    @property
    def takes(self) -> frozenset[str]:
        """The argument names of the whole model's `forward`."""
        return self._anatomy.takes

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the model computes."""
        dtype: torch.dtype = self._model.dtype
        return dtype

    def reference(self, inputs: Mapping[str, torch.Tensor], ends: Sequence[int]) -> torch.Tensor:
        """Logits [ends, vocabulary] of the model's own forward pass over a prompt, after these numbers of tokens."""
        kept = torch.tensor(ends, device=self._device) - 1
        logits: torch.Tensor = self._whole(inputs, use_cache=False, logits_to_keep=kept).logits[0]
        return logits if len(logits) == len(kept) else logits[kept]  # some models return all of them

    def noise(self, ids: torch.Tensor) -> float:
        """The difference between the model's own forward pass and itself if a text [1, tokens] comes in two chunks."""
        half = ids.shape[1] // 2
        whole = self._whole({"input_ids": ids}, use_cache=False).logits[:, half:].float()
        kept = self._whole({"input_ids": ids[:, :half]}, use_cache=True).past_key_values
        again = self._whole({"input_ids": ids[:, half:]}, past_key_values=kept).logits.float()
        return float((whole - again).abs().max() / whole.abs().max())

    def _whole(self, inputs: Mapping[str, torch.Tensor], **options: Any) -> Any:
        own = {
            name: tensor.to(self._device, self.dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
        }
        self._language.config._attn_implementation = "sdpa"
        try:
            with torch.inference_mode():
                return self._model(**own, **options)
        finally:
            self._language.config._attn_implementation = NAME

    def _drawn(self, drawing: Sequence[Segment], scores: Scores) -> list[Drawn]:
        """The tokens of these segments, in order."""
        wanted = [self._wanted(segment) for segment in drawing if not self._takes_largest(segment)]
        largest, others = iter(scores.largest), iter(draw(scores.logits, wanted))
        drawn: list[Drawn] = []
        for segment in drawing:
            if self._takes_largest(segment):
                drawn += [Drawn(next(largest))] * segment.draws
            else:
                drawn += islice(others, segment.draws)
        return drawn

    def _takes_largest(self, segment: Segment) -> bool:
        return self._prompts[segment.sequence[0]].submit.sampling.takes_largest

    def _wanted(self, segment: Segment) -> Wanted:
        return self._drawing.wanted(self._prompts[segment.sequence[0]].submit, segment)

    def forward(self, segments: tuple[Segment, ...]) -> torch.Tensor:
        """Logits [segments that sample, vocabulary], on every rank."""
        logits: torch.Tensor = self._model.lm_head(self._hidden(segments))[0]
        return logits

    def _hidden(self, segments: tuple[Segment, ...]) -> torch.Tensor:
        """Hidden states [1, segments that sample, size] after their last tokens."""
        spans = tuple(map(self._span, segments))
        packed = pack(segments, self._prompts, self._device)
        hidden = self._graphs.run(segments, packed, spans) if self._graphs is not None else None
        if hidden is None:
            self._attention.begin_spans(spans)
            self._states.begin(segments)
            hidden = self._through(
                packed.ids, packed.positions, lambda rows: packed.place(rows) | self._crossing.begin(segments)
            )
        return hidden[:, packed.drawing]

    def _through(
        self, ids: torch.Tensor, positions: torch.Tensor, place: Callable[[torch.Tensor], dict[str, Any]] = lambda _: {}
    ) -> torch.Tensor:
        """Hidden states [1, tokens, size]. `place` changes the embeddings, and returns additional arguments."""
        embeddings: torch.Tensor = self._embed(ids)
        hidden: torch.Tensor = self._language(
            **place(embeddings),
            inputs_embeds=embeddings[None],
            # [1, tokens] for one-dimensional positions, [3, 1, tokens] for time, height and width.
            position_ids=positions if len(positions) == 1 else positions[:, None],
            use_cache=False,
        ).last_hidden_state
        return hidden

    def _span(self, segment: Segment) -> Span:
        runs = () if segment.tokens else self._prompts[segment.sequence[0]].runs
        return Span.of(segment, self.memory.block_tokens, runs)

    def _digests(self, submit: Submit, features: Sequence[Features]) -> Generator[Turn, None, tuple[bytes, ...]]:
        """The digest of each item's first tensor, with one turn that waits for a thread."""
        named = zip(submit.items, features, strict=True)
        first = [self._tensors(item, tensors)[item.tensors[0].name] for item, tensors in named]
        hashed = self._hashing.begin(lambda: first)
        yield hashed
        return hashed.result()

    def _prompt(self, submit: Submit, features: Sequence[Features], embeddings: list[Rows]) -> Prompt:
        raw = submit.prompt if submit.prompt_slot is None else self._inbox.content(submit.prompt_slot)
        ids = torch.frombuffer(bytearray(raw), dtype=torch.int32).long().to(self._device)
        positions, shift = self._index(submit, ids, features)
        runs = image_runs(submit) if self._anatomy.whole_runs else ()
        return Prompt(submit, ids.cpu(), positions.cpu(), shift, embeddings, runs)

    def _tensors(self, item: Item | Enclosed, delivered: Features) -> Features:
        """The item's arrays on this rank's device, decoded to the form that the model takes; in place on a CPU."""
        tensors = self._transfer.take(delivered)
        first = item.tensors[0].name
        if tensors[first].dtype == torch.uint8:
            tensors[first] = self._rebuild[item.modality](tensors[first])
        return tensors

    def _rows(self, item: Item | Enclosed, delivered: Features, *, keep: bool) -> torch.Tensor:
        """The item's rows, encoded now."""
        with self._clock.computing():
            rows = self._encode(item, self._tensors(item, delivered))
        if not self._crossing.present:
            self.widest_bytes = max(self.widest_bytes, rows.shape[1] * rows.element_size())
        return self._keep(item.content_key, rows) if keep else rows

    def _encode(self, item: Item | Enclosed, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """The rows [tokens, hidden] that the tower makes of one item, or that a client has sent for it.

        Rows from a client are copied: the slot is reused once the request is held, and the rows are needed until it
        ends.
        """
        if EMBEDDINGS in tensors:
            return tensors[EMBEDDINGS].to(self._embed.weight.dtype, copy=True)
        with torch.inference_mode():
            return self._encoders[item.modality](tensors).to(self._embed.weight.dtype)

    def _keep(self, key: bytes, rows: torch.Tensor) -> torch.Tensor:
        assert self.widest_bytes <= self._row_bytes, "the leader counts rows of the probe's width"
        return self._encoded.keep(key, rows)

    def _place(self, rows: torch.Tensor, runs: tuple[tuple[int, int], ...], *, kept: bool) -> list[Rows]:
        """Which rows go where. Raises RequestError if the counts differ (hazard R3)."""
        if len(rows) != sum(length for _, length in runs):
            raise unsupported("the model made a different number of tokens for an item than its prompt has")
        parts = torch.split(rows, [length for _, length in runs])
        return [Rows(start, part, kept) for (start, _), part in zip(runs, parts, strict=True)]

    def _index(self, submit: Submit, ids: torch.Tensor, features: Sequence[Features]) -> tuple[torch.Tensor, int]:
        """Positions [1 or 3, tokens], and what to add to a later token's index to get its position."""
        if self._rope_index is None:
            return torch.arange(len(ids), device=self._device)[None], 0
        kinds = _kinds(submit, ids)
        together: dict[str, list[torch.Tensor]] = {}
        names = parameters_of(self._rope_index)
        for tensors in features:
            wanted = {name: tensor for name, tensor in tensors.items() if name in names}
            for name, tensor in self._transfer.take(wanted).items():
                together.setdefault(name, []).append(tensor)
        of_text = {"mm_token_type_ids": kinds[None], "attention_mask": torch.ones_like(ids)[None]}
        companions = {name: torch.cat(parts) for name, parts in together.items()}
        companions |= {name: value for name, value in of_text.items() if name in names}
        positions, shift = self._rope_index(input_ids=ids[None], **companions)
        return positions[:, 0], int(shift.flatten()[0])


def _kinds(submit: Submit, ids: torch.Tensor) -> torch.Tensor:
    """`mm_token_type_ids` of transformers: 0 for text, 1 for images, 2 for clips, 3 for sounds."""
    kinds = torch.zeros_like(ids, dtype=torch.int32)
    for item, runs in zip(submit.items, submit.placeholders, strict=True):
        for start, length in runs:
            kinds[start : start + length] = 1 + MODALITIES.index(item.modality)
    return kinds
