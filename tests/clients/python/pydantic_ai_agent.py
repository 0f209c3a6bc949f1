"""Pydantic AI: all messages of a run are the history of the next."""

from __future__ import annotations

import base64
from typing import Any

from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from talk import FORM_TOKENS_MAX, TOKENS_MAX, Reading, Turn, talk


def agent_of(url: str, tokens_max: int, **more: Any) -> Agent[None, Any]:
    model = OpenAIChatModel("tiny", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
    return Agent(model, model_settings={"temperature": 0, "max_tokens": tokens_max}, **more)


def said(turn: Turn) -> list[Any]:
    return [turn.text, BinaryContent(base64.b64decode(turn.picture.partition(",")[2]), media_type="image/png")]


def converse(url: str, turns: list[Turn]) -> list[str]:
    agent = agent_of(url, TOKENS_MAX)
    history: list[Any] = []
    answers = []
    for turn in turns:
        result = agent.run_sync(said(turn), message_history=history)
        history = result.all_messages()
        answers.append(result.output)
    return answers


def read(url: str, turn: Turn) -> list[dict[str, Any]]:
    """By a schema, and by a call of a tool that the client makes up."""
    agents = [agent_of(url, FORM_TOKENS_MAX, output_type=form(Reading)) for form in (NativeOutput, ToolOutput)]
    return [agent.run_sync(said(turn)).output.model_dump() for agent in agents]


if __name__ == "__main__":
    talk(converse, read=read)
