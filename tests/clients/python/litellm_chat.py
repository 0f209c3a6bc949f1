"""LiteLLM: its message is appended, with the fields that it adds."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network for prices when it is imported

import litellm
from talk import DESCRIPTION, FORM_TOKENS_MAX, TOKENS_MAX, TOOL, Reading, Turn, called, talk

TOOLS = [
    {
        "type": "function",
        "function": {"name": TOOL, "description": DESCRIPTION, "parameters": Reading.model_json_schema()},
    }
]


def said(url: str, messages: list[Any], **more: Any) -> Any:
    """The message of one answer, streamed or not."""
    fields = {"model": "openai/tiny", "api_base": f"{url}/v1", "api_key": "none", "messages": messages}
    answer = litellm.completion(**fields | {"max_tokens": TOKENS_MAX, "temperature": 0} | more)
    if more.get("stream"):
        answer = litellm.stream_chunk_builder(list(answer), messages=messages)
    return answer.choices[0].message


def converse(url: str, turns: list[Turn]) -> list[str]:
    messages: list[Any] = []
    for turn in turns:
        messages.append(turn.message())
        messages.append(said(url, messages))
    return [message.content for message in messages[1::2]]


def use_tool(url: str, turn: Turn, result: Turn) -> list[dict[str, Any]]:
    """The client moves a tool's pictures into a user's message, with an instruction: the result is a text."""
    rounds = []
    for stream in (False, True):
        messages: list[Any] = [turn.message()]
        asked = {"tools": TOOLS, "stream": stream}
        messages.append(said(url, messages, tool_choice="required", max_tokens=FORM_TOKENS_MAX, **asked))
        (call,) = messages[-1].tool_calls
        messages.append({"role": "tool", "tool_call_id": call.id, "name": TOOL, "content": result.text})
        after = said(url, messages, tool_choice="auto", **asked)
        rounds.append(called(call.function.name, json.loads(call.function.arguments), after.content, picture=False))
    return rounds


def read(url: str, turn: Turn) -> list[dict[str, Any]]:
    answers = [
        said(url, [turn.message()], response_format=Reading, max_tokens=FORM_TOKENS_MAX, stream=stream)
        for stream in (False, True)
    ]
    return [Reading.model_validate_json(answer.content).model_dump() for answer in answers]


if __name__ == "__main__":
    talk(converse, use_tool, read)
