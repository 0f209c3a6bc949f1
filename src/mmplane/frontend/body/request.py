"""The fields that all requests share, whatever the prompt consists of: model, stream, mmplane's own options."""

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
    """vLLM's option: with `include_usage`, every event has the usage so far."""
    include_obfuscation: Unused = NOTHING


class FaultOption(msgspec.Struct, forbid_unknown_fields=True):
    """A fault that a test injects into its request; see `mmplane.core.faults.Fault`."""

    point: Point
    rank: Annotated[int, msgspec.Meta(ge=0)] = 0
    error: bool = True
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=DELAY_MS_MAX)] = 0

    def record(self) -> Fault:
        """The fault as it is sent to the ranks."""
        return Fault(self.point, self.rank, self.error, self.delay_ms)


class VideoOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How densely to sample clips; limited by the server's and the model's own configuration."""

    frames: Annotated[int, msgspec.Meta(ge=1, le=FRAMES_MAX)] | None = None
    fps: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None


class Extension(msgspec.Struct, forbid_unknown_fields=True):
    """mmplane's own options."""

    trace: bool = False
    digest_rank: Annotated[int, msgspec.Meta(ge=EVERY_RANK, le=DIGEST_RANK_MAX)] = EVERY_RANK
    """Which rank computes digests for the trace. Hashing the features on every rank may cost more than serving them."""
    ignore_eos: bool = False
    """Continue to max_tokens even if the model ends earlier, for load tests that need answers of one length."""
    video: VideoOptions | None = None
    fault: FaultOption | None = None


class Request(Decoding, kw_only=True, omit_defaults=True):
    """The fields of all requests. The properties here are those of a prompt that is only text."""

    tokens_default: ClassVar[int]
    """Longest answer if the client sets no limit; cache memory is reserved for all of it."""
    answers_prompt: ClassVar[bool] = False
    """Whether the answer continues the prompt in the middle of a text."""
    prompt_field: ClassVar[str]
    """The prompt field's name, for errors."""
    decoded_later: ClassVar[tuple[str, ...]] = ("response_format", "structured_outputs", "guided_json")
    """Fields that hold arbitrary JSON. Their size is checked before they are decoded."""

    model: Short
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Short | None = None
    metadata: Annotated[dict[Short, Short], msgspec.Meta(max_length=METADATA_MAX)] | None = None
    mmplane: Extension | None = None

    @property
    def samples(self) -> int:
        """The number of answers."""
        return self.n or 1

    @property
    def fault(self) -> Fault | None:
        """The faults that a test injects."""
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
        """Whether calls in the model's text are returned as tool calls."""
        return False

    @property
    def names_tool(self) -> bool:
        """Whether the answer must be a call of one tool."""
        return False

    @property
    def likely_tokens(self) -> int | None:
        """How many of the most likely tokens to return with each token; None without log probabilities."""
        return None

    @property
    def text_characters(self) -> int:
        """Characters to tokenise; a token id in the request counts as one character."""
        raise NotImplementedError

    @property
    def pieces(self) -> int:
        """The number of texts and media."""
        raise NotImplementedError

    @property
    def is_free(self) -> bool:
        """Whether the request does not constrain the form of the answer."""
        forms = (self.response_format, self.structured_outputs, self.guided_json)
        texts = (self.guided_regex, self.guided_choice, self.guided_grammar)
        return not any(texts) and all(bytes(memoryview(form)[:4]) == b"null" for form in forms)

    def constraint(self) -> str:
        """Return the grammar of the answer, or "" for any text. Raises RequestError (400). May take 0.1 s of CPU."""
        return self.grammar([], None, several=False)

    def let_go(self) -> None:
        """Drop the input of the prompt once the prompt has been made."""


STRINGS_MAX = 4 * METADATA_MAX * STRING_MAX + 8 * STRING_MAX
"""The maximum number of quotation marks in these fields."""
