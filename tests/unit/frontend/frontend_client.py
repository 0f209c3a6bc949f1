"""Chat requests as an HTTP server hands them over (ASGI), on a rig: no socket, no server, and clients that leave."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from frontend_rig import PlayedLeader, PlayedWorker, Rig, rigged
from PIL import Image
from transformers import PreTrainedTokenizerFast

from frontend_loop import HANG_S, settle
from mmplane.config import Config
from mmplane.core.plan import Submit
from mmplane.delivery.delivery import Sends
from mmplane.frontend.chat.chat import Chat
from mmplane.frontend.chat.preparation import Preparation
from mmplane.frontend.chat.prompt import Marks
from mmplane.frontend.chat.readiness import Readiness
from mmplane.frontend.chat.texts import TEXT
from mmplane.frontend.http.completions import Completions
from mmplane.frontend.http.endpoint import Endpoint
from mmplane.frontend.http.render import Renderings
from mmplane.frontend.request.intake import Intake
from mmplane.frontend.request.looks import StoreLooks
from mmplane.frontend.send.dispatch import Dispatch
from mmplane.frontend.send.freight import SlotFreight
from mmplane.frontend.send.rollout import Rollout
from mmplane.frontend.sources.addresses import Allowed
from mmplane.frontend.sources.source import Source
from mmplane.observe.counters import Counters
from mmplane.observe.journal import Journal
from mmplane.waiting.budget import Budget
from mmplane.waiting.share import Share

IMAGE_TOKEN = 268
BUDGET_BYTES = 1_000_000


def picture(seed: int = 0, width: int = 20, height: int = 10) -> str:
    """A picture of one colour, as a data URI."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (seed, 0, 0)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def question(*urls: str, text: str = "What is this?", **fields: Any) -> dict[str, Any]:
    """The body of a request about these pictures."""
    content = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 8} | fields


class Call:
    """One request of one client, who may leave at any time."""

    def __init__(
        self, endpoint: Endpoint, body: bytes, *, headers: dict[str, str] | None = None, whole: bool = True
    ) -> None:
        half = len(body) // 2
        self._chunks = [body[:half], body[half:]] if whole else [body[:half]]
        self._whole = whole
        self._gone = asyncio.Event()
        self.messages: list[dict[str, Any]] = []
        named = {"content-length": str(len(body))} if headers is None else headers
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        self.task = asyncio.create_task(endpoint(scope, self._receive, self._send))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        if self._chunks:
            chunk = self._chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks) or not self._whole}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.messages.append(message)

    async def leave(self) -> None:
        """Close the connection; back when the server has noticed."""
        self._gone.set()
        await self.task
        await settle()

    async def done(self) -> Call:
        await self.task
        return self

    @property
    def status(self) -> int | None:
        return next((message["status"] for message in self.messages if "status" in message), None)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def answer(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> Any:
        return self.answer["error"]

    @property
    def events(self) -> list[Any]:
        lines = self.content.decode().split("\n\n")
        assert lines.pop() == ""
        return [line.removeprefix("data: ") if "[DONE]" in line else json.loads(line[6:]) for line in lines]


class Service:
    """A chat endpoint on a rig with one worker and one rank group."""

    def __init__(
        self, rig: Rig, tokenizer: PreTrainedTokenizerFast, worker: PlayedWorker, leader: PlayedLeader
    ) -> None:
        self.rig = rig
        self.worker = worker
        self.leader = leader
        self.budget = Budget(BUDGET_BYTES)
        self.counters = Counters()
        self.journal = Journal()
        self.source = Source(Allowed(()))
        config = Config(
            model="tiny",
            model_folder="",
            served_name="tiny",
            images_max=3,
            body_bytes_max=BUDGET_BYTES // 4,
            running_max=4,
        )
        preparation = Preparation(
            config,
            Intake(StoreLooks(rig.store), self.source, frames_max=8),
            {"image": Marks(IMAGE_TOKEN, IMAGE_TOKEN)},
            context_tokens=rig.renderer.context_tokens,
            vocabulary_tokens=rig.renderer.vocabulary_tokens,
            names={"tiny"},
        )
        self.chat = Chat(
            config=config,
            store=rig.store,
            dispatch=Dispatch(
                Rollout("arena"), {Sends.SLOTS: SlotFreight(rig.store)}, rig.store, largest_item_bytes=1, cache="auto"
            ),
            group=rig.group,
            preparation=preparation,
            renderer=rig.renderer,
            copies={"image": 1},
        )
        self.readiness = Readiness(self.chat, rig.group, rig.pool, model="tiny", limit_s=HANG_S)
        completions = partial(Completions, self.chat, counters=self.counters, readiness=self.readiness, seats=Share(3))
        self.endpoint, self.rendering, self.completing = (
            Endpoint(
                work,
                bodies=rig.bodies,
                budget=self.budget,
                counters=self.counters,
                journal=self.journal,
                standing=self.readiness,
                closing=asyncio.get_running_loop().create_future(),
                seats=Share(100),
                config=config,
            )
            for work in (
                completions(),
                Renderings(preparation, model_id="tiny"),
                completions(form=TEXT),
            )
        )
        self._tokenizer = tokenizer

    def limit_requests(self, limit_s: float) -> None:
        """Requests may take so long until their first token."""
        self.endpoint._config = msgspec.structs.replace(self.endpoint._config, request_seconds=limit_s)

    def call(self, body: dict[str, Any] | bytes, **how: Any) -> Call:
        return Call(self.endpoint, body if isinstance(body, bytes) else json.dumps(body).encode(), **how)

    def render(self, body: dict[str, Any]) -> Call:
        return Call(self.rendering, json.dumps(body).encode())

    def complete(self, **fields: Any) -> Call:
        return Call(self.completing, json.dumps({"model": "tiny"} | fields).encode())

    async def admitted(self) -> Submit:
        """The next request that comes to the ranks; they hold it."""
        submit: Submit = await self.leader.hear()
        self.leader.admit(submit)
        return submit

    def say(self, submit: Submit, text: str, reason: str = "length", sample: int = 0) -> None:
        """What the model says in one sample, to its end."""
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        reasons = [None] * (len(ids) - 1) + [reason]
        self.leader.tell(submit, *((sample, token, why) for token, why in zip(ids, reasons, strict=True)))

    def check_nothing_is_left(self) -> None:
        """Of the requests that have ended."""
        self.rig.check_nothing_is_held()
        assert self.budget.statistics().reserved_bytes == 0
        assert self.counters.now == 0
        assert self.rig.group.statistics().in_flight == 0
        assert self.rig.pool.statistics().waiting == 0


@asynccontextmanager
async def serving(tokenizer: PreTrainedTokenizerFast, **options: Any) -> AsyncIterator[Service]:
    """A service whose books must balance at the end."""
    async with rigged(**options) as rig:
        service = Service(rig, tokenizer, await rig.worker(), await rig.leader())
        yield service
        await settle()
        service.check_nothing_is_left()
        await service.source.close()
