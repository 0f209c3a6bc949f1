"""OpenAI Agents in Chat Completions mode: the result becomes the next input."""

from __future__ import annotations

import json
from typing import Annotated, Any

from agents import (
    Agent,
    ModelSettings,
    Runner,
    ToolCallItem,
    function_tool,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import Field
from talk import DESCRIPTION, FORM_TOKENS_MAX, TOKENS_MAX, TOOL, Reading, Turn, called, talk


def set_up(url: str) -> None:
    set_tracing_disabled(True)
    set_default_openai_api("chat_completions")
    set_default_openai_client(AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0), use_for_tracing=False)


def message(turn: Turn) -> Any:
    content = [
        {"type": "input_text", "text": turn.text},
        {"type": "input_image", "image_url": turn.picture, "detail": "auto"},
    ]
    return {"role": "user", "content": content}


def converse(url: str, turns: list[Turn]) -> list[str]:
    set_up(url)
    agent = Agent(name="reader", model="tiny", model_settings=ModelSettings(temperature=0, max_tokens=TOKENS_MAX))
    said: list[Any] = []
    answers = []
    for turn in turns:
        result = Runner.run_sync(agent, [*said, message(turn)])
        said = result.to_input_list()
        answers.append(result.final_output)
    return answers


def use_tool(url: str, turn: Turn, result: Turn) -> list[dict[str, Any]]:
    """The client calls the tool, and sends its result back without the demand that it be called."""

    @function_tool(name_override=TOOL, description_override=DESCRIPTION)
    def look_up(number: Annotated[str, Field(pattern="^[0-9]{4}$")], sure: bool) -> str:
        return result.text

    set_up(url)
    settings = ModelSettings(temperature=0, max_tokens=FORM_TOKENS_MAX, tool_choice="required")
    run = Runner.run_sync(Agent(name="reader", model="tiny", model_settings=settings, tools=[look_up]), [message(turn)])
    (call,) = [item.raw_item for item in run.new_items if isinstance(item, ToolCallItem)]
    return [called(call.name, json.loads(call.arguments), run.final_output, picture=False)]


def read(url: str, turn: Turn) -> list[dict[str, Any]]:
    set_up(url)
    settings = ModelSettings(temperature=0, max_tokens=FORM_TOKENS_MAX)
    agent = Agent(name="reader", model="tiny", model_settings=settings, output_type=Reading)
    return [Runner.run_sync(agent, [message(turn)]).final_output.model_dump()]


if __name__ == "__main__":
    talk(converse, use_tool, read)
