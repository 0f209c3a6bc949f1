"""The required form of an answer: `response_format`, vLLM's `guided_*` and `structured_outputs`, or a forced call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from mmplane.core.errors import RequestError, bad_request
from mmplane.frontend.body import constraint
from mmplane.frontend.body.nulls import decode
from mmplane.frontend.body.tools import Chosen, Tool, ToolChoice
from mmplane.frontend.body.unused import NOTHING

FORM_BYTES_MAX = 64 * 1024
"""Maximum bytes of a schema, of all tools, and of other arbitrary JSON in the body. Decoded, it takes more memory."""
CHOICES_MAX = 1024

Choices = Annotated[list[str], msgspec.Meta(min_length=1, max_length=CHOICES_MAX)]


class NamedSchema(msgspec.Struct, forbid_unknown_fields=True):
    """A JSON schema. It is always followed strictly."""

    name: str
    schema: dict[str, Any] | bool = {}
    description: str | None = None
    strict: bool | None = None


class TextFormat(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Any text."""


class ObjectFormat(msgspec.Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object, or JSON that matches a schema: `schema` in llama.cpp's API, `value` in Hugging Face's."""

    schema: dict[str, Any] | bool | None = None
    value: dict[str, Any] | bool | None = None


class SchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON that matches a schema."""

    json_schema: NamedSchema


class Structured(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """vLLM's `structured_outputs`: exactly one of these fields."""

    json: Any = None
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None


Format = TextFormat | ObjectFormat | SchemaFormat | None
_format = msgspec.json.Decoder(Format)
_structured = msgspec.json.Decoder(Structured | None)
_any = msgspec.json.Decoder()


class FormFields(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The fields of a request that require a form. At most one of them may be set."""

    response_format: msgspec.Raw = NOTHING
    structured_outputs: msgspec.Raw = NOTHING
    guided_json: msgspec.Raw = NOTHING
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None

    def grammar(self, tools: list[Tool], choice: ToolChoice | None, *, several: bool) -> str:
        """Return the grammar of the answer, or "" for any text. Raises RequestError (400). May take 0.1 s of CPU."""
        wanted = {name: made for name, made in self._wanted(tools, choice, several).items() if made is not None}
        if len(wanted) > 1:
            raise bad_request("invalid_value", f"give one of {' and '.join(wanted)}, not both", next(iter(wanted)))
        for name, make in wanted.items():
            try:
                return constraint.check(make(), name)
            except RequestError as error:
                raise bad_request(error.code, error.message, name) from None
        return ""

    def _wanted(self, tools: list[Tool], choice: ToolChoice | None, several: bool) -> dict[str, Made]:
        return {
            "response_format": _of_format(_decoded(self.response_format, _format, "response_format")),
            "structured_outputs": _of_structured(_decoded(self.structured_outputs, _structured, "structured_outputs")),
            "guided_json": _of_json(_decoded(self.guided_json, _any, "guided_json")),
            "guided_regex": _made(constraint.regex, self.guided_regex),
            "guided_choice": _made(constraint.choice, self.guided_choice),
            "guided_grammar": _made(constraint.lark, self.guided_grammar),
            "tool_choice": _of_choice(tools, choice, several),
        }


Made = Callable[[], str] | None


def _made(make: Callable[[Any], str], value: Any) -> Made:
    return None if value is None else lambda: make(value)


def _of_json(value: Any) -> Made:
    """Return a schema, also if it is given as text, which vLLM accepts."""
    return _made(
        constraint.json_schema,
        _decoded(msgspec.Raw(value.encode()), _any, "guided_json") if isinstance(value, str) else value,
    )


def _of_format(value: Format) -> Made:
    match value:
        case ObjectFormat(None, None):
            return constraint.json_object
        case ObjectFormat(schema, None) | ObjectFormat(None, schema):
            return _made(constraint.json_schema, schema)
        case ObjectFormat():
            raise bad_request("invalid_value", "give schema or value, not both", "response_format")
        case SchemaFormat(json_schema):
            return lambda: constraint.json_schema(json_schema.schema)
        case _:
            return None


def _of_structured(value: Structured | None) -> Made:
    if value is None:
        return None
    made = [
        _of_json(value.json),
        _made(constraint.regex, value.regex),
        _made(constraint.choice, value.choice),
        _made(constraint.lark, value.grammar),
        constraint.json_object if value.json_object else None,
    ]
    given = [each for each in made if each is not None]
    if len(given) > 1:
        raise bad_request("invalid_value", "structured_outputs must have one constraint", "structured_outputs")
    return given[0] if given else None


def _of_choice(tools: list[Tool], choice: ToolChoice | None, several: bool) -> Made:
    if not (choice == "required" or isinstance(choice, Chosen)):
        return None
    chosen = [tool.function for tool in tools if choice == "required" or tool.function.name == choice.function.name]
    if not chosen:
        raise bad_request("invalid_value", "tool_choice names a tool that is not in tools", "tool_choice")
    named = [(function.name, function.parameters) for function in chosen]
    return lambda: constraint.tool_call(named, several=several and choice == "required")


def _decoded(raw: msgspec.Raw, decoder: msgspec.json.Decoder[Any], name: str) -> Any:
    try:
        return decode(decoder, raw)
    except msgspec.ValidationError as error:
        raise bad_request("invalid_value", str(error).replace("`$", f"`{name}")[:200], name) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("invalid_json", f"{name} is not valid JSON", name) from None
