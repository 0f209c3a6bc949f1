"""LiteLLM: its message is appended, with the fields that it adds."""

from __future__ import annotations

from typing import Any

import litellm
from talk import TOKENS_MAX, Turn, talk


def converse(url: str, turns: list[Turn]) -> list[str]:
    messages: list[Any] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn.parts()})
        answer = litellm.completion(
            model="openai/tiny",
            api_base=f"{url}/v1",
            api_key="none",
            messages=messages,
            max_tokens=TOKENS_MAX,
            temperature=0,
        )
        messages.append(answer.choices[0].message)
    return [message.content for message in messages[1::2]]


if __name__ == "__main__":
    talk(converse)
