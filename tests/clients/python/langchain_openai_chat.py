"""LangChain: the AIMessage is appended."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from talk import DESCRIPTION, FORM_TOKENS_MAX, TOKENS_MAX, TOOL, Reading, Turn, called, talk


def model_of(url: str, tokens_max: int) -> ChatOpenAI:
    return ChatOpenAI(
        model="tiny", base_url=f"{url}/v1", api_key="none", temperature=0, max_tokens=tokens_max, max_retries=0
    )


def converse(url: str, turns: list[Turn]) -> list[str]:
    model = model_of(url, TOKENS_MAX)
    messages: list[BaseMessage] = []
    for turn in turns:
        messages.append(HumanMessage(content=turn.parts()))
        messages.append(model.invoke(messages))
    return [message.content for message in messages[1::2]]


def use_tool(url: str, turn: Turn, result: Turn) -> list[dict[str, Any]]:
    look_up = StructuredTool.from_function(
        lambda number, sure: result.parts(), name=TOOL, description=DESCRIPTION, args_schema=Reading
    )
    forced = model_of(url, FORM_TOKENS_MAX).bind_tools([look_up], tool_choice="any", strict=True)
    free = model_of(url, TOKENS_MAX).bind_tools([look_up], strict=True)

    def streamed(model: Any, messages: list[BaseMessage]) -> Any:
        return whole(model.stream(messages))

    rounds = []
    for ask in (lambda model, messages: model.invoke(messages), streamed):
        messages: list[BaseMessage] = [HumanMessage(content=turn.parts())]
        messages.append(ask(forced, messages))
        (call,) = messages[-1].tool_calls
        messages.append(look_up.invoke(call))
        assert isinstance(messages[-1], ToolMessage)
        rounds.append(called(call["name"], call["args"], ask(free, messages).content))
    return rounds


def whole(chunks: Iterable[Any]) -> Any:
    """The message that the chunks of a stream add up to."""
    return reduce(add, chunks)


def read(url: str, turn: Turn) -> list[dict[str, Any]]:
    model = model_of(url, FORM_TOKENS_MAX)
    messages = [HumanMessage(content=turn.parts())]
    by_schema = model.with_structured_output(Reading, method="json_schema", strict=True)
    by_call = model.with_structured_output(Reading, method="function_calling", strict=True)
    *_, last = by_schema.stream(messages)
    return [reading.model_dump() for reading in (by_schema.invoke(messages), by_call.invoke(messages), last)]


if __name__ == "__main__":
    talk(converse, use_tool, read)
