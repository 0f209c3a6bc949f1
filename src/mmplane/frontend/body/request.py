"""What every request may say, whatever its prompt is made of: its model, its stream, mmplane's own options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from mmplane.core.faults import DELAY_MS_MAX, Fault, Point
from mmplane.core.plan import EVERY_RANK
from mmplane.frontend.body.decoding import STRING_MAX, Decoding, Short
from mmplane.frontend.body.parts import MediaPart
from mmplane.frontend.body.unused import NOTHING, Unused

METADATA_MAX = 16
FRAMES_MAX = 1_000_000
DIGEST_RANK_MAX = 1023


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Options of a streamed answer."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """vLLM's: with `include_usage`, every event has the usage so far."""
    include_obfuscation: Unused = NOTHING


class FaultOption(msgspec.Struct, forbid_unknown_fields=True):
    """What a test wants to go wrong with its request; see `mmplane.core.faults.Fault`."""

    point: Point
    rank: Annotated[int, msgspec.Meta(ge=0)] = 0
    error: bool = True
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=DELAY_MS_MAX)] = 0

    def record(self) -> Fault:
        """As it travels to the ranks."""
        return Fault(self.point, self.rank, self.error, self.delay_ms)


class VideoOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How densely to look at clips: never more than the server and the model's own configuration say."""

    frames: Annotated[int, msgspec.Meta(ge=1, le=FRAMES_MAX)] | None = None
    fps: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None


class Extension(msgspec.Struct, forbid_unknown_fields=True):
    """mmplane's own options."""

    trace: bool = False
    digest_rank: Annotated[int, msgspec.Meta(ge=EVERY_RANK, le=DIGEST_RANK_MAX)] = EVERY_RANK
    """Which rank's digests the trace has: hashing the features on every one may cost more than serving them."""
    ignore_eos: bool = False
    """Go on to max_tokens whatever the model says: for load tests that need answers of one length."""
    video: VideoOptions | None = None
    fault: FaultOption | None = None


class Request(Decoding, kw_only=True, omit_defaults=True):
    """The fields of all requests. Its properties hold for a prompt that is nothing but text."""

    tokens_default: ClassVar[int]
    """Longest answer when the client does not say: cache memory is reserved for all of it."""
    answers_prompt: ClassVar[bool] = False
    """Whether the answer goes on where the prompt ends, in the middle of a text."""
    prompt_field: ClassVar[str]
    """Its name, for errors."""
    decoded_later: ClassVar[tuple[str, ...]] = ("response_format", "structured_outputs", "guided_json")
    """Fields that hold any JSON. They are bounded before they are decoded."""

    model: Short
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Short | None = None
    metadata: Annotated[dict[Short, Short], msgspec.Meta(max_length=METADATA_MAX)] | None = None
    mmplane: Extension | None = None

    @property
    def samples(self) -> int:
        """How many answers are wanted."""
        return self.n or 1

    @property
    def fault(self) -> Fault | None:
        """What a test wants to go wrong."""
        return self.mmplane.fault.record() if self.mmplane and self.mmplane.fault else None

    @property
    def tokens_wanted(self) -> int | None:
        """The longest answer that the client wants."""
        return self.max_tokens

    @property
    def media(self) -> Sequence[MediaPart]:
        """Every image, clip and sound, in order."""
        return ()

    @property
    def calls_tools(self) -> bool:
        """Whether calls in the model's text are passed on as calls."""
        return False

    @property
    def names_tool(self) -> bool:
        """Whether the answer must be a call of one tool."""
        return False

    @property
    def likely_tokens(self) -> int | None:
        """How many of the most likely tokens are wanted with each token; None without log probabilities."""
        return None

    @property
    def text_characters(self) -> int:
        """What there is to tokenise; a token that the client names counts as a character."""
        raise NotImplementedError

    @property
    def pieces(self) -> int:
        """How many texts and media it has."""
        raise NotImplementedError

    @property
    def is_free(self) -> bool:
        """Whether nothing is said of the answer's form."""
        forms = (self.response_format, self.structured_outputs, self.guided_json)
        texts = (self.guided_regex, self.guided_choice, self.guided_grammar)
        return not any(texts) and all(bytes(memoryview(form)[:4]) == b"null" for form in forms)

    def constraint(self) -> str:
        """The grammar of the answer, "" if any text will do. Raises RequestError (400). It may take 0.1 s of CPU."""
        return self.grammar([], None, several=False)

    def let_go(self) -> None:
        """Drop what the prompt was made of, once it is made."""


STRINGS_MAX = 4 * METADATA_MAX * STRING_MAX + 8 * STRING_MAX
"""Quotation marks that these fields may have."""
