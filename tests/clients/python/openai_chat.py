"""openai: the message is appended as the client gives it."""

from __future__ import annotations

from typing import Any

from openai import OpenAI
from talk import TOKENS_MAX, Turn, talk


def converse(url: str, turns: list[Turn]) -> list[str]:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    messages: list[Any] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn.parts()})
        answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=TOKENS_MAX, temperature=0)
        messages.append(answer.choices[0].message)
    return [message.content for message in messages[1::2]]


if __name__ == "__main__":
    talk(converse)
