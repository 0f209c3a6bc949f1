"""The body of a chat request: OpenAI's fields as types, and a clear 400 for everything that is not built.

Nothing is ignored silently. A field that OpenAI has and this server does not support is accepted only with a value that
asks for the default behaviour (`"logprobs": false`). A client that sends another value would otherwise get an answer
that it did not ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, overload

import msgspec
import numpy as np

from mmplane.core.errors import RequestError, bad_request, too_large
from mmplane.core.parsing import Kind
from mmplane.frontend.body.completion import CompletionRequest
from mmplane.frontend.body.decoding import LOGPROBS_MAX, Positive, Short
from mmplane.frontend.body.form import FORM_BYTES_MAX
from mmplane.frontend.body.long_uris import put_back, take_out
from mmplane.frontend.body.nulls import UNKNOWN, decode
from mmplane.frontend.body.parts import AnyPart, MediaPart, TextPart, UnbuiltPart
from mmplane.frontend.body.request import STRINGS_MAX, Request
from mmplane.frontend.body.tools import Chosen, Tool, ToolCalls, ToolChoice, tools_in
from mmplane.frontend.body.unused import NEUTRAL_BYTES_MAX, NOTHING, Hint, Unused, check_unused

MESSAGES_MAX = 4096
PARTS_MAX = 4096
"""Maximum number of parts in all messages together."""
TEXT_CHARACTERS_MAX = 1024 * 1024
"""Maximum number of characters in all messages together."""
PIECE_QUOTES = 64
"""Maximum quotation marks of a message or a part without its texts, if a client writes all fields that it knows."""
QUOTES_MAX = TEXT_CHARACTERS_MAX + PIECE_QUOTES * (MESSAGES_MAX + PARTS_MAX) + STRINGS_MAX
"""Maximum quotation marks in a body.

A request within the limits above has fewer, whatever its texts. Every decoded object has at least four, so the time and
memory for decoding are bounded before decoding starts.
"""
TEXT_SHOWN_MAX = 200
if TYPE_CHECKING:
    Content = str | list[AnyPart]
else:
    Content = str | list[AnyPart] | None


class Fields(msgspec.Struct, kw_only=True):
    """Fields of a message beside its content.

    Clients send the server's own answers back with every field that OpenAI's answers have, and with fields of their own
    (`parsed` comes from openai's client, `provider_specific_fields` and `thinking_blocks` from LiteLLM).
    """

    name: Short | None = None
    """Name of the participant. The chat template decides how to use it."""
    annotations: Unused = NOTHING
    audio: Unused = NOTHING
    function_call: Unused = NOTHING
    parsed: Unused = NOTHING
    provider_specific_fields: Unused = NOTHING
    reasoning: Unused = NOTHING
    reasoning_content: Unused = NOTHING
    refusal: Unused = NOTHING
    thinking_blocks: Unused = NOTHING
    tool_call_id: Unused = NOTHING
    tool_calls: Unused = NOTHING


class Message(Fields, tag_field="role", forbid_unknown_fields=True, omit_defaults=True):
    """One turn. Content that is null counts as an empty text."""

    content: Content

    def __post_init__(self) -> None:
        self.content = self.content or ""


class SystemMessage(Message, tag="system"):
    """Instructions."""


class DeveloperMessage(Message, tag="developer"):
    """Instructions, under OpenAI's newer name."""


class UserMessage(Message, tag="user"):
    """A user's texts and media."""


class AssistantMessage(Message, tag="assistant"):
    """An earlier answer of the model, which may be empty, and the tools that it called."""

    content: Content = ""
    tool_calls: ToolCalls = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tool_calls = self.tool_calls or None


class ToolMessage(Message, tag="tool", kw_only=True):
    """The result of a tool: text, or parts with media."""

    tool_call_id: Short | None = None


class ChatRequest(Request, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The body of POST /v1/chat/completions: supported fields, then hints, then OpenAI's fields that are not built."""

    tokens_default: ClassVar[int] = 512
    prompt_field: ClassVar[str] = "messages"
    decoded_later: ClassVar[tuple[str, ...]] = (*Request.decoded_later, "tools", "chat_template_kwargs")

    messages: Annotated[
        list[SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage],
        msgspec.Meta(min_length=1, max_length=MESSAGES_MAX),
    ]
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=LOGPROBS_MAX)] | None = None
    tools: msgspec.Raw = NOTHING
    """Raw JSON; `mmplane.frontend.body.tools.tools_in` decodes it."""
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: msgspec.Raw = NOTHING
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    prompt_cache_key: Short | None = None
    prompt_cache_options: Hint = NOTHING
    prompt_cache_retention: Short | None = None
    safety_identifier: Short | None = None
    service_tier: Literal["auto", "default", "fast", "flex", "priority", "scale", ""] | None = None

    add_special_tokens: Unused = NOTHING
    audio: Unused = NOTHING
    best_of: Unused = NOTHING
    echo: Unused = NOTHING
    function_call: Unused = NOTHING
    functions: Unused = NOTHING
    include_stop_str_in_output: Unused = NOTHING
    length_penalty: Unused = NOTHING
    modalities: Unused = NOTHING
    moderation: Unused = NOTHING
    prediction: Unused = NOTHING
    priority: Unused = NOTHING
    prompt_logprobs: Unused = NOTHING
    reasoning_effort: Unused = NOTHING
    skip_special_tokens: Unused = NOTHING
    spaces_between_special_tokens: Unused = NOTHING
    store: Unused = NOTHING
    truncate_prompt_tokens: Unused = NOTHING
    use_beam_search: Unused = NOTHING
    verbosity: Unused = NOTHING
    web_search_options: Unused = NOTHING

    @property
    def tokens_wanted(self) -> int | None:
        """The limit, under either of its names."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def parts(self) -> list[AnyPart]:
        """The parts of all messages, in order."""
        return [part for message in self.messages if isinstance(message.content, list) for part in message.content]

    @property
    def media(self) -> list[MediaPart]:
        """Every image, clip and sound of the conversation, in order."""
        return [part for part in self.parts if isinstance(part, MediaPart)]

    @property
    def tool_list(self) -> list[Tool]:
        """The tools that the model may call. Raises RequestError (400)."""
        return tools_in(self.tools)

    @property
    def calls_tools(self) -> bool:
        """Whether calls in the model's text are returned as tool calls. Cheap: called per sample, on the event loop."""
        written = bytes(memoryview(self.tools)[:NEUTRAL_BYTES_MAX]).translate(None, b" \t\r\n")
        return self.tool_choice != "none" and written not in (b"null", b"[]")

    @property
    def names_tool(self) -> bool:
        """Whether the answer must be a call of one tool."""
        return isinstance(self.tool_choice, Chosen)

    @property
    def is_free(self) -> bool:
        """Whether the request does not constrain the form of the answer."""
        return super().is_free and self.tool_choice in (None, "", "auto", "none")

    @property
    def likely_tokens(self) -> int | None:
        """How many of the most likely tokens to return with each token; None without log probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def text_characters(self) -> int:
        """Characters of all messages and tools, including names and calls."""
        names = sum(len(message.name) for message in self.messages if message.name)
        names += len(memoryview(self.tools)) if self.tools is not NOTHING else 0
        names += sum(
            len(call.function.arguments)
            for message in self.messages
            if isinstance(message, AssistantMessage)
            for call in message.tool_calls or ()
        )
        whole = sum(len(message.content) for message in self.messages if isinstance(message.content, str))
        return names + whole + sum(len(part.text) for part in self.parts if isinstance(part, TextPart))

    @property
    def pieces(self) -> int:
        """The number of messages and their parts."""
        return len(self.messages) + len(self.parts)

    def constraint(self) -> str:
        """Return the grammar of the answer, or of the call that it must be."""
        return self.grammar(self.tool_list, self.tool_choice, several=self.parallel_tool_calls is not False)

    def let_go(self) -> None:
        """Drop the messages, which hold the base64 of media."""
        self.messages.clear()

    def check(self) -> None:
        """Check limits and unsupported options. Raises RequestError (400)."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise bad_request("invalid_value", "give max_tokens or max_completion_tokens, not both", "max_tokens")
        _check_messages(self)


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_special_tokens": (False,),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none",),
    "include_obfuscation": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "modalities": (["text"],),
    "priority": (0,),
    "reasoning_effort": ("none",),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "store": (False,),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
}
"""Values that ask for the default behaviour."""
NEUTRAL_OF = {"chat": NEUTRAL, "text": NEUTRAL | {"add_special_tokens": (True,)}}

_decoders: dict[Kind, msgspec.json.Decoder[Any]] = {
    "chat": msgspec.json.Decoder(ChatRequest),
    "text": msgspec.json.Decoder(CompletionRequest),
}
SLICE_BYTES = 256 * 1024


class Switch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /admin/delivery."""

    name: str
    share: float = 1.0
    cache: str | None = None
    ingress: str | None = None


_switch_decoder = msgspec.json.Decoder(Switch)


def parse_switch(body: bytes) -> Switch:
    """Decode a switch of the delivery. Raises RequestError (400)."""
    try:
        return _switch_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("invalid_json", "the body is not valid JSON") from None


def quotes_in(body: bytes | bytearray | memoryview) -> int:
    """Count the quotation marks, which bound the cost of decoding."""
    content = np.frombuffer(body, np.uint8)
    slices = range(0, len(content), SLICE_BYTES)
    return sum(int(np.count_nonzero(content[start : start + SLICE_BYTES] == ord('"'))) for start in slices)


@overload
def parse(body: bytes | bytearray | memoryview, *, quotes: int | None = None) -> ChatRequest: ...


@overload
def parse(
    body: bytes | bytearray | memoryview, *, kind: Kind, quotes: int | None = None
) -> ChatRequest | CompletionRequest: ...


def parse(
    body: bytes | bytearray | memoryview, *, kind: Kind = "chat", quotes: int | None = None
) -> ChatRequest | CompletionRequest:
    """Decode a request; `quotes` is its number of quotation marks, if known. Raises RequestError (400, 413)."""
    if (quotes_in(body) if quotes is None else quotes) > QUOTES_MAX:
        raise too_large("the body has more fields and texts than this server allows")
    try:
        request = _decoded(_decoders[kind], body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("invalid_json", "the body is not valid JSON") from None
    check_unused(request, neutral=NEUTRAL_OF[kind])
    _keep(request)
    if (options := request.stream_options) is not None:
        check_unused(options, "stream_options", NEUTRAL_OF[kind])
        if options.include_usage and not request.stream:
            raise bad_request("invalid_value", "stream_options needs stream", "stream_options")
    request.check()
    if request.text_characters > TEXT_CHARACTERS_MAX:
        raise too_large(f"the prompt has more than {TEXT_CHARACTERS_MAX} characters", request.prompt_field)
    return request


def _decoded(
    decoder: msgspec.json.Decoder[ChatRequest | CompletionRequest], body: bytes | bytearray | memoryview
) -> ChatRequest | CompletionRequest:
    short, uris = take_out(body)
    request = decode(decoder, short)
    return request if not uris or put_back(request.media, uris) else decode(decoder, body)


def _keep(request: ChatRequest | CompletionRequest) -> None:
    """Copy the parts that are decoded later, so that the body can be freed. Raises RequestError (400)."""
    for name in request.decoded_later:
        raw = getattr(request, name)
        if len(memoryview(raw)) > FORM_BYTES_MAX:
            raise bad_request("invalid_value", f"{name} is longer than {FORM_BYTES_MAX} bytes", name)
        setattr(request, name, raw.copy())


def _check_messages(request: ChatRequest) -> None:
    count = sum(len(message.content) for message in request.messages if isinstance(message.content, list))
    if count > PARTS_MAX:
        raise bad_request("invalid_value", f"a request may have at most {PARTS_MAX} parts", "messages")
    for at, message in enumerate(request.messages):
        check_unused(message, f"messages[{at}]")
        if not isinstance(message.content, str):
            for index, part in enumerate(message.content):
                _check_part(part, f"messages[{at}].content[{index}]")


def _check_part(part: AnyPart, path: str) -> None:
    if isinstance(part, UnbuiltPart):
        kind = type(part).__struct_config__.tag
        raise bad_request("unsupported_parameter", f"this server does not support {kind} parts", path)
    check_unused(part, path)
    if isinstance(part, MediaPart):
        name = part.tag
        source = part.source
        if source is None and part.uuid is None:
            raise bad_request("invalid_value", f"give {name}, or the uuid of media sent before", f"{path}.{name}")
        if source is not None and bytes(memoryview(source)[:1]) != b'"':
            raise bad_request("invalid_value", "Expected `str`", f"{path}.{part.source_path}")


def _invalid(text: str) -> RequestError:
    """Convert msgspec's message to an error. It can quote megabytes of the body, so only both ends are read."""
    reason, found, path = text.rpartition(" - at `$")
    if not found:
        reason, path = text, ""
    reason = reason[:TEXT_SHOWN_MAX]
    param = path.removesuffix("`").removeprefix(".")[:TEXT_SHOWN_MAX] or None
    if unknown := UNKNOWN.match(reason):
        name = f"{param}.{unknown.group(1)}" if param else unknown.group(1)
        return bad_request("unsupported_parameter", f"this server does not support {name}", name)
    if reason.startswith("Object contains unknown field"):
        return bad_request("unsupported_parameter", "this server does not support that field", param)
    return bad_request("invalid_value", reason.partition(" '")[0], param)
