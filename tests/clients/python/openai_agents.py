"""OpenAI Agents in Chat Completions mode: the result becomes the next input."""

from __future__ import annotations

from typing import Any

from agents import (
    Agent,
    ModelSettings,
    Runner,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from talk import TOKENS_MAX, Turn, talk


def converse(url: str, turns: list[Turn]) -> list[str]:
    set_tracing_disabled(True)
    set_default_openai_api("chat_completions")
    set_default_openai_client(AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0), use_for_tracing=False)
    agent = Agent(name="reader", model="tiny", model_settings=ModelSettings(temperature=0, max_tokens=TOKENS_MAX))
    said: list[Any] = []
    answers = []
    for turn in turns:
        content = [
            {"type": "input_text", "text": turn.text},
            {"type": "input_image", "image_url": turn.picture, "detail": "auto"},
        ]
        result = Runner.run_sync(agent, [*said, {"role": "user", "content": content}])
        said = result.to_input_list()
        answers.append(result.final_output)
    return answers


if __name__ == "__main__":
    talk(converse)
