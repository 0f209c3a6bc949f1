"""huggingface_hub: the message is appended as the client gives it."""

from __future__ import annotations

from typing import Any

from huggingface_hub import InferenceClient
from talk import TOKENS_MAX, Turn, talk


def converse(url: str, turns: list[Turn]) -> list[str]:
    client = InferenceClient(base_url=f"{url}/v1", api_key="none")
    messages: list[Any] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn.parts()})
        answer = client.chat_completion(messages, model="tiny", max_tokens=TOKENS_MAX, temperature=0)
        messages.append(answer.choices[0].message)
    return [message.content for message in messages[1::2]]


if __name__ == "__main__":
    talk(converse)
