"""Clients that people use: a conversation of three turns with a picture each, a tool's call and its result, and JSON.

The clients have environments of their own: `make test-clients`. Each has to get the answers that a conversation gets
with nothing in it but what must be there, and its prompts must be as long: nothing is lost on the way or added. Calls
are forced and answers have a schema, streamed and not, and the client itself reads them.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live import Live

from mmplane.demo import LOOKS, QUESTION, draw

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
FOLDER = Path(__file__).parent
CLIENTS = [
    *sorted(path for path in (FOLDER / "python").glob("*.py") if path.stem != "talk"),
    *sorted(path for path in (FOLDER / "node").glob("*.mjs") if path.stem not in ("talk", "vercel")),
]
CALL_NO_TOOLS = ("pydantic_ai_agent",)
NUMBERS = ("4821", "7306", "1957")
RESULT = ("It is the number of a house.", "6042")
"""What the tool gives: a text, and a picture of a number."""
TOOL = "look_up"
HANG_S = 120.0
Turns = list[tuple[str, str]]


@dataclass(frozen=True)
class Said:
    """What a client printed, and the tokens of its requests' prompts."""

    client: str
    answers: list[str]
    rounds: list[dict[str, Any]]
    """Calls of the tool as the client read them, and what the model said then."""
    readings: list[dict[str, Any]]
    """Answers with a schema as the client read them."""
    prompt_tokens: list[int]


def picture(number: str, look: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(draw(number, *look)).decode()


def message(text: str, shown: str) -> dict[str, Any]:
    content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": shown}}]
    return {"role": "user", "content": content}


@pytest.fixture(scope="module")
def turns() -> Turns:
    return [(QUESTION, picture(number, look)) for number, look in zip(NUMBERS, LOOKS, strict=True)]


@pytest.fixture(scope="module")
def result() -> tuple[str, str]:
    text, number = RESULT
    return text, picture(number, LOOKS[0])


def ask(server: Live, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    body = {"model": "tiny", "messages": messages, "max_tokens": 16, "temperature": 0}
    answer: dict[str, Any] = server.http.post("/v1/chat/completions", json=body | fields).raise_for_status().json()
    return answer


@pytest.fixture(scope="module")
def plain(server: Live, turns: Turns) -> tuple[list[str], list[int]]:
    """The same conversation with nothing in it but what must be: its answers, and the tokens of its prompts."""
    messages: list[dict[str, Any]] = []
    answers, tokens = [], []
    for text, shown in turns:
        messages.append(message(text, shown))
        answer = ask(server, messages)
        answers.append(answer["choices"][0]["message"]["content"])
        messages.append({"role": "assistant", "content": answers[-1]})
        tokens.append(answer["usage"]["prompt_tokens"])
    return answers, tokens


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def said(request: pytest.FixtureRequest, server: Live, turns: Turns, result: tuple[str, str]) -> Said:
    """One client, after all that it does."""
    client: Path = request.param
    command = [PYTHON, client] if client.suffix == ".py" else ["node", client]
    asked = json.dumps({"url": server.url, "turns": turns, "result": result})
    server.settle()  # a stream that the last client left ends a moment later
    before = {timeline["id"] for timeline in timelines(server)}
    ended = subprocess.run(
        command, input=asked, capture_output=True, text=True, timeout=HANG_S, cwd=client.parent, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    server.settle()
    tokens = [timeline["prompt_tokens"] for timeline in reversed(timelines(server)) if timeline["id"] not in before]
    return Said(client.stem, **json.loads(ended.stdout.splitlines()[-1]), prompt_tokens=tokens)


def timelines(server: Live) -> list[dict[str, Any]]:
    """The last hundred requests, newest first."""
    found: list[dict[str, Any]] = server.http.get("/admin/requests").json()["requests"]
    return found


def test_the_conversation_itself(plain: tuple[list[str], list[int]]) -> None:
    answers, tokens = plain
    assert answers[0] == NUMBERS[0], "the model is trained on single questions alone"
    assert tokens == sorted(set(tokens))


def test_a_conversation(said: Said, plain: tuple[list[str], list[int]]) -> None:
    answers, tokens = plain
    assert said.answers == answers
    assert said.prompt_tokens[:3] == tokens


def test_a_call_and_its_result(said: Said, server: Live, turns: Turns, result: tuple[str, str]) -> None:
    """The prompt grows by the call and by what the tool gave, picture included, and by nothing else."""
    assert bool(said.rounds) == (said.client not in CALL_NO_TOOLS)
    for at, called in enumerate(said.rounds):
        assert called["name"] == TOOL
        check_reading(called["arguments"])
        assert called["after"], "the model goes on"
        before, after = said.prompt_tokens[3 + 2 * at :][:2]
        assert after - before == growth(server, turns[0], called, result)
    assert len({json.dumps(called["arguments"]) for called in said.rounds}) <= 1, "streamed or not"


def growth(server: Live, turn: tuple[str, str], called: dict[str, Any], result: tuple[str, str]) -> int:
    """By how many tokens a prompt grows with this call and its result, as they must be."""
    asked = message(*turn)
    function = {"name": called["name"], "arguments": json.dumps(called["arguments"])}
    call = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    content = message(*result)["content"] if called["picture"] else result[0]
    given = {"role": "tool", "tool_call_id": "1", "content": content}
    first, then = (ask(server, some, max_tokens=1) for some in ([asked], [asked, call, given]))
    tokens: int = then["usage"]["prompt_tokens"] - first["usage"]["prompt_tokens"]
    return tokens


def test_answers_with_a_schema(said: Said) -> None:
    assert said.readings
    for reading in said.readings:
        check_reading(reading)
    assert len(said.prompt_tokens) == 3 + 2 * len(said.rounds) + len(said.readings), "nothing was asked twice"


def check_reading(reading: dict[str, Any]) -> None:
    """What the clients' schemas say."""
    assert set(reading) == {"number", "sure"}
    assert re.fullmatch("[0-9]{4}", reading["number"])
    assert reading["sure"] in (True, False)
