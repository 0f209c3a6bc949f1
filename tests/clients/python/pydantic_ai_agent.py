"""Pydantic AI: all messages of a run are the history of the next."""

from __future__ import annotations

import base64
from typing import Any

from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from talk import TOKENS_MAX, Turn, talk


def converse(url: str, turns: list[Turn]) -> list[str]:
    model = OpenAIChatModel("tiny", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
    agent = Agent(model, model_settings={"temperature": 0, "max_tokens": TOKENS_MAX})
    history: list[Any] = []
    answers = []
    for turn in turns:
        picture = BinaryContent(base64.b64decode(turn.picture.partition(",")[2]), media_type="image/png")
        result = agent.run_sync([turn.text, picture], message_history=history)
        history = result.all_messages()
        answers.append(result.output)
    return answers


if __name__ == "__main__":
    talk(converse)
