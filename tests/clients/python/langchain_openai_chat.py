"""LangChain: the AIMessage is appended."""

from __future__ import annotations

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_openai import ChatOpenAI
from talk import TOKENS_MAX, Turn, talk


def converse(url: str, turns: list[Turn]) -> list[str]:
    model = ChatOpenAI(model="tiny", base_url=f"{url}/v1", api_key="none", temperature=0, max_tokens=TOKENS_MAX)
    messages: list[BaseMessage] = []
    for turn in turns:
        messages.append(HumanMessage(content=turn.parts()))
        messages.append(model.invoke(messages))
    return [message.content for message in messages[1::2]]


if __name__ == "__main__":
    talk(converse)
