"""huggingface_hub: the message is appended as the client gives it."""

from __future__ import annotations

import json
from typing import Any

from huggingface_hub import InferenceClient
from talk import DESCRIPTION, FORM_TOKENS_MAX, TOKENS_MAX, TOOL, Reading, Turn, called, talk

SCHEMA = Reading.model_json_schema()
TOOLS: list[Any] = [{"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}}]


def said(url: str, messages: list[Any], **more: Any) -> Any:
    """The message of one answer."""
    client = InferenceClient(base_url=f"{url}/v1", api_key="none")
    return client.chat_completion(messages, model="tiny", temperature=0, **more).choices[0].message


def converse(url: str, turns: list[Turn]) -> list[str]:
    messages: list[Any] = []
    for turn in turns:
        messages.append(turn.message())
        messages.append(said(url, messages, max_tokens=TOKENS_MAX))
    return [message.content for message in messages[1::2]]


def use_tool(url: str, turn: Turn, result: Turn) -> list[dict[str, Any]]:
    messages: list[Any] = [turn.message()]
    messages.append(said(url, messages, tools=TOOLS, tool_choice="required", max_tokens=FORM_TOKENS_MAX))
    (call,) = messages[-1].tool_calls
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result.parts()})
    after = said(url, messages, tools=TOOLS, max_tokens=TOKENS_MAX)
    return [called(call.function.name, json.loads(call.function.arguments), after.content)]


def read(url: str, turn: Turn) -> list[dict[str, Any]]:
    form: Any = {"type": "json_schema", "json_schema": {"name": "reading", "schema": SCHEMA, "strict": True}}
    answer = said(url, [turn.message()], response_format=form, max_tokens=FORM_TOKENS_MAX)
    return [json.loads(answer.content)]


if __name__ == "__main__":
    talk(converse, use_tool, read)
