"""openai, streamed: the message is the one that the client accumulates, dumped with all of its fields."""

from __future__ import annotations

from typing import Any

from openai import OpenAI, pydantic_function_tool
from talk import DESCRIPTION, FORM_TOKENS_MAX, TOKENS_MAX, TOOL, Reading, Turn, called, talk


def said(url: str, messages: list[Any], **more: Any) -> Any:
    """The message of one answer, when all of it has come."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    fields: dict[str, Any] = {"model": "tiny", "messages": messages, "max_tokens": TOKENS_MAX, "temperature": 0}
    with client.chat.completions.stream(**fields | more) as stream:
        return stream.get_final_completion().choices[0].message


def converse(url: str, turns: list[Turn]) -> list[str]:
    messages: list[Any] = []
    for turn in turns:
        messages.append(turn.message())
        messages.append(said(url, messages).model_dump())
    return [message["content"] for message in messages[1::2]]


def use_tool(url: str, turn: Turn, result: Turn) -> list[dict[str, Any]]:
    messages: list[Any] = [turn.message()]
    tools = [pydantic_function_tool(Reading, name=TOOL, description=DESCRIPTION)]
    message = said(url, messages, tools=tools, tool_choice="required", max_tokens=FORM_TOKENS_MAX)
    (call,) = message.tool_calls
    messages += [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": result.parts()}]
    after = said(url, messages, tools=tools, tool_choice="none", max_tokens=FORM_TOKENS_MAX)
    return [called(call.function.name, call.function.parsed_arguments.model_dump(), after.content)]


def read(url: str, turn: Turn) -> list[dict[str, Any]]:
    message = said(url, [turn.message()], response_format=Reading, max_tokens=FORM_TOKENS_MAX)
    return [message.parsed.model_dump()]


if __name__ == "__main__":
    talk(converse, use_tool, read)
