"""Tools that the model may call, and its calls, as in OpenAI's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from mmplane.core.errors import bad_request
from mmplane.frontend.body.nulls import decode
from mmplane.frontend.body.unused import NOTHING

OPEN, CLOSE = "<tool_call>", "</tool_call>"
"""Tags around a call in a model's text, in the style of Hermes and Qwen."""
TOOLS_MAX = 128
CALLS_MAX = 128
NAME_MAX = 64

FunctionName = Annotated[str, msgspec.Meta(pattern=rf"^[\w.-]{{1,{NAME_MAX}}}$")]


class Function(msgspec.Struct, forbid_unknown_fields=True):
    """A tool's name, and a JSON schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """One tool."""

    type: Literal["function"]
    function: Function


class ChosenFunction(msgspec.Struct, forbid_unknown_fields=True):
    """The name of the tool to call."""

    name: FunctionName


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """The tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


ToolChoice = Literal["none", "auto", "required", ""] | Chosen


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A call's name and arguments: `arguments` are JSON, as the model wrote them."""

    name: FunctionName
    arguments: str = ""
    parsed_arguments: msgspec.Raw = NOTHING
    """A field that openai's client adds, with the arguments already parsed. It is dropped."""

    def __post_init__(self) -> None:
        self.parsed_arguments = NOTHING


class ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    """An earlier call of the model."""

    function: CalledFunction
    id: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    type: Literal["function"] = "function"
    index: int | None = None


if TYPE_CHECKING:
    ToolCalls = list[ToolCall] | None
else:  # some clients write an empty text or object if there is nothing
    Nothing = Literal[""] | Annotated[dict[str, None], msgspec.Meta(max_length=0)] | None
    ToolCalls = Annotated[list[ToolCall], msgspec.Meta(max_length=CALLS_MAX)] | Nothing

_tools = msgspec.json.Decoder(Annotated[list[Tool], msgspec.Meta(max_length=TOOLS_MAX)] | None)


def tools_in(raw: msgspec.Raw) -> list[Tool]:
    """Decode the tools of a request. Raises RequestError (400)."""
    try:
        tools: list[Tool] = decode(_tools, raw) or []
    except msgspec.ValidationError as error:
        raise bad_request("invalid_value", str(error).replace("`$", "`tools")[:200], "tools") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("invalid_json", "the tools are not valid JSON", "tools") from None
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise bad_request("invalid_value", "two tools have the same name", "tools")
    return tools
