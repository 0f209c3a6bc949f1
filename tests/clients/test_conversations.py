"""Clients that people use: a conversation of three turns with a picture each, our answers sent back as each does it.

The clients have environments of their own: `make test-clients`. Each has to get the answers that a conversation gets
with nothing in it but what must be there, and its prompts must be as long: nothing is lost on the way or added.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, serving

from mmplane.demo import LOOKS, QUESTION, draw
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
FOLDER = Path(__file__).parent
CLIENTS = [
    *sorted(path for path in (FOLDER / "python").glob("*.py") if path.stem != "talk"),
    *sorted(path for path in (FOLDER / "node").glob("*.mjs") if path.stem not in ("talk", "vercel")),
]
NUMBERS = ("4821", "7306", "1957")
HANG_S = 120.0
Turns = list[tuple[str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(folder, weights=SHIPPED_WEIGHTS)
    with serving(folder) as live:
        yield live


@pytest.fixture(scope="module")
def turns() -> Turns:
    pictures = [draw(number, *look) for number, look in zip(NUMBERS, LOOKS, strict=True)]
    return [(QUESTION, "data:image/png;base64," + base64.b64encode(each).decode()) for each in pictures]


@pytest.fixture(scope="module")
def plain(server: Live, turns: Turns) -> tuple[list[str], list[int]]:
    """The same conversation with nothing in it but what must be: its answers, and the tokens of its prompts."""
    messages: list[dict[str, object]] = []
    answers, tokens = [], []
    for text, picture in turns:
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": picture}}]
        messages.append({"role": "user", "content": content})
        body = {"model": "tiny", "messages": messages, "max_tokens": 16, "temperature": 0}
        answer = server.http.post("/v1/chat/completions", json=body).raise_for_status().json()
        messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
        answers.append(messages[-1]["content"])
        tokens.append(answer["usage"]["prompt_tokens"])
    return answers, tokens  # type: ignore[return-value]


def test_the_conversation_itself(plain: tuple[list[str], list[int]]) -> None:
    answers, tokens = plain
    assert answers[0] == NUMBERS[0], "the model is trained on single questions alone"
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("client", CLIENTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_conversation(client: Path, server: Live, turns: Turns, plain: tuple[list[str], list[int]]) -> None:
    command = [PYTHON, client] if client.suffix == ".py" else ["node", client]
    asked = json.dumps({"url": server.url, "turns": turns})
    ended = subprocess.run(
        command, input=asked, capture_output=True, text=True, timeout=HANG_S, cwd=client.parent, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    answers, tokens = plain
    assert json.loads(ended.stdout.splitlines()[-1]) == answers
    newest_first = server.http.get("/admin/requests").json()["requests"][:3]
    assert [request["prompt_tokens"] for request in reversed(newest_first)] == tokens
