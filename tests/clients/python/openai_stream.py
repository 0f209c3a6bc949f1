"""openai, streamed: the message is the one that the client accumulates, dumped with all of its fields."""

from __future__ import annotations

from typing import Any

from openai import OpenAI
from talk import TOKENS_MAX, Turn, talk


def converse(url: str, turns: list[Turn]) -> list[str]:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    messages: list[Any] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn.parts()})
        asked: dict[str, Any] = {"messages": messages, "max_tokens": TOKENS_MAX, "temperature": 0}
        with client.chat.completions.stream(model="tiny", **asked) as stream:
            messages.append(stream.get_final_completion().choices[0].message.model_dump())
    return [message["content"] for message in messages[1::2]]


if __name__ == "__main__":
    talk(converse)
