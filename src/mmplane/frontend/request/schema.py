"""What a chat request may say: OpenAI's fields as types, and a clear 400 for everything that is not built.

Nothing is ignored: a field that OpenAI knows and this server does not is accepted only with a value that asks for what
happens anyway (`"logprobs": false`), because a client that sends another would get an answer it did not ask for.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import msgspec
import numpy as np

from mmplane.core.errors import RequestError, bad_request, too_large
from mmplane.core.faults import DELAY_MS_MAX, Fault, Point
from mmplane.core.plan import EVERY_RANK
from mmplane.core.records import Ask, Modality

SAMPLES_MAX = 16
STOPS_MAX = 4
MESSAGES_MAX = 4096
PARTS_MAX = 4096
"""In all messages together."""
TEXT_CHARACTERS_MAX = 1024 * 1024
"""Of all messages together."""
STRING_MAX = 1024
"""Characters of a stop text, a model's name and the like."""
METADATA_MAX = 16
QUOTES_MAX = TEXT_CHARACTERS_MAX + 20 * (MESSAGES_MAX + PARTS_MAX) + 4 * METADATA_MAX * STRING_MAX + 8 * STRING_MAX
"""Quotation marks in a body: a request within the limits above has fewer, whatever its texts. Every object that is
decoded has at least four, so the time and the memory that decoding takes are bounded before it begins."""
NEUTRAL_BYTES_MAX = 64
TEXT_SHOWN_MAX = 200
FRAMES_MAX = 1_000_000
DIGEST_RANK_MAX = 1023
LOW_DETAIL_PIXELS = 512
"""The longer side of an image with `detail` low, as OpenAI has it."""
UUID_MAX = 256
NOTHING = msgspec.Raw(b"null")


def given(raw: msgspec.Raw) -> msgspec.Raw | None:
    """A JSON value as it lies in the body; None of null and of an empty text."""
    return None if bytes(memoryview(raw)[:4]) in (b"null", b'""') else raw


class Part(msgspec.Struct, tag_field="type", forbid_unknown_fields=True):
    """One piece of a message's content."""


class TextPart(Part, tag="text"):
    """Plain text."""

    text: str


class MediaUrl(msgspec.Struct, forbid_unknown_fields=True):
    """Where an item's bytes are: a data URI, or an address on a host that the operator allows.

    `source` is the JSON string as it lies in the body, quotes and all: megabytes of base64 are decoded from there,
    without first becoming a string.
    """

    source: msgspec.Raw = msgspec.field(name="url")

    @classmethod
    def of(cls, url: str) -> Self:
        """An item at this URL."""
        return cls(msgspec.Raw(msgspec.json.encode(url)))


class ImageUrl(MediaUrl):
    """An image's. With `detail` low it is shrunk to `LOW_DETAIL_PIXELS` first."""

    detail: Literal["auto", "high", "low"] = "auto"


class InputAudio(msgspec.Struct, forbid_unknown_fields=True):
    """A sound itself: base64 of a file, as it lies in the body. Its type is detected from its first bytes."""

    source: msgspec.Raw = msgspec.field(name="data")
    format: Literal["wav", "mp3", "flac", "ogg", "opus", "m4a", "mp4", "webm", "mkv", "aac"]


class MediaPart(Part):
    """One item. `uuid` is the client's own name for it: a later part may have the name alone, and no bytes."""

    modality: ClassVar[Modality]
    is_base64: ClassVar[bool] = False
    """Whether the source is base64 rather than a URL."""
    uuid: Annotated[str, msgspec.Meta(min_length=1, max_length=UUID_MAX)] | None = None

    @property
    def held(self) -> MediaUrl | InputAudio | None:
        """The part's own object; None when only a name was sent."""
        raise NotImplementedError

    @property
    def source(self) -> msgspec.Raw | None:
        """The URL or the base64 as it lies in the body, quotes and all; None when only a name was sent."""
        return given(self.held.source) if self.held is not None else None

    @source.setter
    def source(self, raw: msgspec.Raw) -> None:
        assert self.held is not None
        self.held.source = raw

    @property
    def tag(self) -> str:
        """The part's type, as clients write it."""
        return str(type(self).__struct_config__.tag)

    @property
    def source_path(self) -> str:
        """Where in the part its source is, for errors."""
        return f"{self.tag}.url"

    @property
    def ask(self) -> Ask:
        """What is wanted of the item, as far as the part itself says."""
        return Ask(self.modality)


class ImagePart(MediaPart, tag="image_url"):
    """One image."""

    modality: ClassVar[Modality] = "image"
    image_url: ImageUrl | None = None

    @property
    def held(self) -> ImageUrl | None:
        """The part's own object."""
        return self.image_url

    @property
    def ask(self) -> Ask:
        """Shrunk or not."""
        low = self.image_url is not None and self.image_url.detail == "low"
        return Ask("image", side_max=LOW_DETAIL_PIXELS if low else 0)


class VideoPart(MediaPart, tag="video_url"):
    """One clip."""

    modality: ClassVar[Modality] = "video"
    video_url: MediaUrl | None = None

    @property
    def held(self) -> MediaUrl | None:
        """The part's own object."""
        return self.video_url


class AudioUrlPart(MediaPart, tag="audio_url"):
    """One sound, by address."""

    modality: ClassVar[Modality] = "audio"
    audio_url: MediaUrl | None = None

    @property
    def held(self) -> MediaUrl | None:
        """The part's own object."""
        return self.audio_url


class AudioPart(MediaPart, tag="input_audio"):
    """One sound, by its bytes."""

    modality: ClassVar[Modality] = "audio"
    is_base64: ClassVar[bool] = True
    input_audio: InputAudio | None = None

    @property
    def held(self) -> InputAudio | None:
        """The part's own object."""
        return self.input_audio

    @property
    def source_path(self) -> str:
        """Where in the part its source is, for errors."""
        return f"{self.tag}.data"


class EmbeddingsPart(MediaPart, tag="image_embeds"):
    """What the vision tower would make of one image, computed by the client: base64 of a safetensors file."""

    modality: ClassVar[Modality] = "image"
    is_base64: ClassVar[bool] = True
    image_embeds: msgspec.Raw = NOTHING

    @property
    def source(self) -> msgspec.Raw | None:
        """The base64 as it lies in the body, quotes and all; None when only a name was sent."""
        return given(self.image_embeds)

    @source.setter
    def source(self, raw: msgspec.Raw) -> None:
        self.image_embeds = raw

    @property
    def source_path(self) -> str:
        """Where in the part its source is, for errors."""
        return self.tag

    @property
    def ask(self) -> Ask:
        """Not an image, but what becomes of one: another key."""
        return Ask("image", embedded=True)


class Unbuilt(msgspec.Struct, tag_field="type"):
    """A part that OpenAI or other servers know and this one does not."""


class FilePart(Unbuilt, tag="file"):
    """A document."""


class RefusalPart(Unbuilt, tag="refusal"):
    """What the model refused before."""


AnyPart = TextPart | ImagePart | EmbeddingsPart | AudioPart | AudioUrlPart | VideoPart | FilePart | RefusalPart


class Message(msgspec.Struct, tag_field="role", forbid_unknown_fields=True):
    """One turn."""

    content: str | list[AnyPart]


class SystemMessage(Message, tag="system"):
    """Instructions."""


class DeveloperMessage(Message, tag="developer"):
    """Instructions, by OpenAI's newer name."""


class UserMessage(Message, tag="user"):
    """What a person says and shows."""


class AssistantMessage(Message, tag="assistant"):
    """What the model said before."""


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Options of a streamed answer."""

    include_usage: bool = False


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


Positive = Annotated[int, msgspec.Meta(ge=1)]
Short = Annotated[str, msgspec.Meta(max_length=STRING_MAX)]


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/chat/completions.

    The second half is OpenAI's fields that are not built. They are never decoded: `parse` looks at short values and
    refuses all others.
    """

    model: Short
    messages: Annotated[
        list[SystemMessage | DeveloperMessage | UserMessage | AssistantMessage],
        msgspec.Meta(min_length=1, max_length=MESSAGES_MAX),
    ]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=SAMPLES_MAX)] | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Short | Annotated[list[Short], msgspec.Meta(max_length=STOPS_MAX)] | None = None
    user: Short | None = None
    metadata: Annotated[dict[Short, Short], msgspec.Meta(max_length=METADATA_MAX)] | None = None
    mmplane: Extension | None = None

    audio: msgspec.Raw = NOTHING
    frequency_penalty: msgspec.Raw = NOTHING
    function_call: msgspec.Raw = NOTHING
    functions: msgspec.Raw = NOTHING
    logit_bias: msgspec.Raw = NOTHING
    logprobs: msgspec.Raw = NOTHING
    modalities: msgspec.Raw = NOTHING
    moderation: msgspec.Raw = NOTHING
    parallel_tool_calls: msgspec.Raw = NOTHING
    prediction: msgspec.Raw = NOTHING
    presence_penalty: msgspec.Raw = NOTHING
    prompt_cache_key: msgspec.Raw = NOTHING
    prompt_cache_options: msgspec.Raw = NOTHING
    prompt_cache_retention: msgspec.Raw = NOTHING
    reasoning_effort: msgspec.Raw = NOTHING
    response_format: msgspec.Raw = NOTHING
    safety_identifier: msgspec.Raw = NOTHING
    service_tier: msgspec.Raw = NOTHING
    store: msgspec.Raw = NOTHING
    tool_choice: msgspec.Raw = NOTHING
    tools: msgspec.Raw = NOTHING
    top_logprobs: msgspec.Raw = NOTHING
    verbosity: msgspec.Raw = NOTHING
    web_search_options: msgspec.Raw = NOTHING

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)

    @property
    def fault(self) -> Fault | None:
        """What a test wants to go wrong."""
        return self.mmplane.fault.record() if self.mmplane and self.mmplane.fault else None

    @property
    def parts(self) -> list[AnyPart]:
        """The parts of all messages, in order."""
        return [part for message in self.messages if isinstance(message.content, list) for part in message.content]

    @property
    def media(self) -> list[MediaPart]:
        """Every image, clip and sound of the conversation, in order."""
        return [part for part in self.parts if isinstance(part, MediaPart)]

    @property
    def text_characters(self) -> int:
        """Characters of all messages."""
        whole = sum(len(message.content) for message in self.messages if isinstance(message.content, str))
        return whole + sum(len(part.text) for part in self.parts if isinstance(part, TextPart))


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none",),
    "tools": ([],),
    "functions": ([],),
    "function_call": ("none",),
    "top_logprobs": (0,),
    "parallel_tool_calls": (True, False),
}
"""Values that ask for what happens anyway; null always does."""
_NOT_BUILT = tuple(ChatRequest.__struct_fields__[ChatRequest.__struct_fields__.index("audio") :])

_decoder = msgspec.json.Decoder(ChatRequest)
SLICE_BYTES = 256 * 1024


class Switch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /admin/delivery."""

    name: str
    share: float = 1.0
    cache: str | None = None
    ingress: str | None = None


_switch_decoder = msgspec.json.Decoder(Switch)


def parse_switch(body: bytes) -> Switch:
    """The switch in `body`. Raises RequestError (400)."""
    try:
        return _switch_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("invalid_json", "the body is not valid JSON") from None


def quotes_in(body: bytes | bytearray | memoryview) -> int:
    """How many quotation marks there are, which bounds what decoding costs."""
    content = np.frombuffer(body, np.uint8)
    slices = range(0, len(content), SLICE_BYTES)
    return sum(int(np.count_nonzero(content[start : start + SLICE_BYTES] == ord('"'))) for start in slices)


def parse(body: bytes | bytearray | memoryview, *, quotes: int | None = None) -> ChatRequest:
    """The request in `body`, whose `quotes` may be counted. Raises RequestError: 400 that names the field, 413."""
    if (quotes_in(body) if quotes is None else quotes) > QUOTES_MAX:
        raise too_large("the body has more fields and texts than this server takes")
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("invalid_json", "the body is not valid JSON") from None
    for name in _NOT_BUILT:
        _check_neutral(request, name)
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise bad_request("invalid_value", "give max_tokens or max_completion_tokens, not both", "max_tokens")
    if request.stream_options is not None and not request.stream:
        raise bad_request("invalid_value", "stream_options needs stream", "stream_options")
    _check_parts(request)
    if request.text_characters > TEXT_CHARACTERS_MAX:
        raise too_large(f"the messages have more than {TEXT_CHARACTERS_MAX} characters", "messages")
    return request


def _check_neutral(request: ChatRequest, name: str) -> None:
    """A field that is not built asks for what happens anyway; then it is dropped, with its hold on the body."""
    raw = cast("msgspec.Raw", getattr(request, name))
    if raw is NOTHING:
        return
    value: Any = msgspec.UNSET
    if len(memoryview(raw)) <= NEUTRAL_BYTES_MAX:
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise bad_request("invalid_json", "the body is not valid JSON") from None
    if value is not None and not any(value == neutral for neutral in _NEUTRAL.get(name, ())):
        raise bad_request("unsupported_parameter", f"this server does not support {name}", name)
    setattr(request, name, NOTHING)


def _check_parts(request: ChatRequest) -> None:
    count = sum(len(message.content) for message in request.messages if isinstance(message.content, list))
    if count > PARTS_MAX:
        raise bad_request("invalid_value", f"a request may have at most {PARTS_MAX} parts", "messages")
    for at, message in enumerate(request.messages):
        if not isinstance(message.content, str):
            for index, part in enumerate(message.content):
                _check_part(part, f"messages[{at}].content[{index}]")


def _check_part(part: AnyPart, path: str) -> None:
    if isinstance(part, Unbuilt):
        kind = type(part).__struct_config__.tag
        raise bad_request("unsupported_parameter", f"this server takes no {kind} parts", path)
    if isinstance(part, MediaPart):
        name = part.tag
        source = part.source
        if source is None and part.uuid is None:
            raise bad_request("invalid_value", f"give {name}, or the uuid of media sent before", f"{path}.{name}")
        if source is not None and bytes(memoryview(source)[:1]) != b'"':
            raise bad_request("invalid_value", "Expected `str`", f"{path}.{part.source_path}")


def _invalid(text: str) -> RequestError:
    """msgspec says what is wrong and where. Its text can quote megabytes of the client's: only its two ends count."""
    reason, found, path = text.rpartition(" - at `$")
    if not found:
        reason, path = text, ""
    reason = reason[:TEXT_SHOWN_MAX]
    param = path.removesuffix("`").removeprefix(".")[:TEXT_SHOWN_MAX] or None
    if unknown := re.match(r"Object contains unknown field `([\w-]{1,64})`", reason):
        name = f"{param}.{unknown.group(1)}" if param else unknown.group(1)
        return bad_request("unsupported_parameter", f"this server does not support {name}", name)
    if reason in ("Invalid value 'tool'", "Invalid value 'function'"):
        return bad_request("unsupported_parameter", "this server calls no tools", param)
    if reason.startswith("Object contains unknown field"):
        return bad_request("unsupported_parameter", "this server does not support that field", param)
    return bad_request("invalid_value", reason.partition(" '")[0], param)
