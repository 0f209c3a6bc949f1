"""openai: the message is appended as the client gives it."""

from __future__ import annotations

from typing import Any

from openai import OpenAI, pydantic_function_tool
from talk import DESCRIPTION, FORM_TOKENS_MAX, TOKENS_MAX, TOOL, Reading, Turn, called, talk


def client_of(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def converse(url: str, turns: list[Turn]) -> list[str]:
    client = client_of(url)
    messages: list[Any] = []
    for turn in turns:
        messages.append(turn.message())
        answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=TOKENS_MAX, temperature=0)
        messages.append(answer.choices[0].message)
    return [message.content for message in messages[1::2]]


def use_tool(url: str, turn: Turn, result: Turn) -> list[dict[str, Any]]:
    client = client_of(url)
    messages: list[Any] = [turn.message()]
    tools = [pydantic_function_tool(Reading, name=TOOL, description=DESCRIPTION)]
    said = client.chat.completions.parse(
        model="tiny",
        messages=messages,
        tools=tools,
        tool_choice={"type": "function", "function": {"name": TOOL}},
        parallel_tool_calls=False,
        max_completion_tokens=FORM_TOKENS_MAX,
        temperature=0,
    )
    messages.append(said.choices[0].message)
    (call,) = said.choices[0].message.tool_calls
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result.parts()})
    after = client.chat.completions.create(
        model="tiny", messages=messages, tools=tools, max_completion_tokens=TOKENS_MAX, temperature=0
    )
    arguments = call.function.parsed_arguments.model_dump()
    return [called(call.function.name, arguments, after.choices[0].message.content)]


def read(url: str, turn: Turn) -> list[dict[str, Any]]:
    answer = client_of(url).chat.completions.parse(
        model="tiny",
        messages=[turn.message()],
        response_format=Reading,
        max_completion_tokens=FORM_TOKENS_MAX,
        temperature=0,
    )
    return [answer.choices[0].message.parsed.model_dump()]


if __name__ == "__main__":
    talk(converse, use_tool, read)
