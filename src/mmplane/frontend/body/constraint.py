"""The required form of an answer as an llguidance grammar: from response_format, guided_*, or a forced tool call.

The front end checks a grammar and sends its text; rank 0 follows it token by token (`mmplane.ranks.model.grammar`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from mmplane.core.errors import bad_request
from mmplane.frontend.body.tools import CLOSE, OPEN

GRAMMAR_BYTES_MAX = 16 * 1024
"""Maximum length of a grammar, which is part of the request's record."""
MESSAGE_CHARACTERS_MAX = 200
JSON_OPTIONS: Any = {"whitespace_pattern": r"[ \n]?"}
"""At most one space or line break between the parts of JSON, because small models write endless white space."""
LIMITS = LLParserLimits(verbose_errors=False)
"""llguidance's own limits: a grammar may take 10^6 steps to build, and 2 x 10^5 for each token."""


def json_object() -> str:
    """Any JSON object."""
    return json_schema({"type": "object"})


def json_schema(schema: Any) -> str:
    """A JSON value that matches this schema."""
    try:
        return LLMatcher.grammar_from_json_schema(schema, defaults=JSON_OPTIONS)
    except ValueError:
        raise bad_request("invalid_value", "the schema must be an object") from None


def regex(pattern: str) -> str:
    """A text that the whole pattern matches."""
    return LLMatcher.grammar_from_regex(pattern)


def choice(texts: Sequence[str]) -> str:
    """One of these texts."""
    return lark(f"start: {' | '.join(map(json.dumps, texts))}")


def lark(grammar: str) -> str:
    """A text of this grammar, in llguidance's variant of Lark."""
    return LLMatcher.grammar_from_lark(grammar)


def tool_call(tools: Sequence[tuple[str, Any]], *, several: bool) -> str:
    """A call of one of these tools (name, schema), or several, as `mmplane.frontend.chat.tool_calls` parses them."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": parameters or {"type": "object"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, parameters in tools
    ]
    schema = {"anyOf": calls, "x-guidance": JSON_OPTIONS}
    more = r' ("\n" call)*' if several else ""
    return lark(
        f"start: call{more}\n"
        f"call: {json.dumps(OPEN)} /\\n/ body /\\n/ {json.dumps(CLOSE)}\n"
        f"body: %json {json.dumps(schema)}\n"
    )


def check(grammar: str, param: str) -> str:
    """Return the grammar if it is valid. Raises RequestError (400) that names the field and the problem.

    This may take 0.1 s of CPU for a hostile grammar, so call it in a thread (llguidance releases the GIL).
    """
    if len(grammar.encode()) > GRAMMAR_BYTES_MAX:
        raise bad_request("invalid_value", f"the grammar is longer than {GRAMMAR_BYTES_MAX} bytes", param)
    wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=LIMITS)
    if wrong:
        raise bad_request("invalid_value", " ".join(" ".join(messages).split())[:MESSAGE_CHARACTERS_MAX], param)
    return grammar
