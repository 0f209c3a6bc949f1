"""Readiness means progress (hazards R16, R23).

A busy server is ready as long as its ranks and workers make progress: a probe would have to wait in its queues, and a
load balancer must not remove a replica because it is saturated. An idle server passes a picture through all ranks to
check that it still can.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import time
import wave

import numpy as np
from PIL import Image

from mmplane.core.errors import RequestError
from mmplane.core.records import Modality
from mmplane.frontend.body.parts import AnyPart, AudioUrlPart, ImagePart, ImageUrl, MediaUrl
from mmplane.frontend.body.schema import ChatRequest, UserMessage
from mmplane.frontend.chat.chat import Chat
from mmplane.frontend.request.reading import ParsedBody
from mmplane.frontend.send.group import Group
from mmplane.items.pool import Pool

log = logging.getLogger("mmplane")

FRESH_SECONDS = 2.0
"""Progress within this time counts as proof."""
SIDE_PIXELS = 56
RATE_HZ = 16_000


class Readiness:
    """Answers `/ready`. Its probe pictures are never indexed and not counted anywhere else."""

    def __init__(
        self, chat: Chat, group: Group, pool: Pool, *, model: str, limit_s: float, modality: Modality = "image"
    ) -> None:
        self._chat = chat
        self._group = group
        self._pool = pool
        self._model = model
        self._modality = modality
        self._limit_s = limit_s
        self._served_s = float("-inf")
        self._probe: asyncio.Task[str | None] | None = None
        self._count = 0
        self.draining = False
        self.out_of_service: tuple[str, ...] = ()
        """Processes that are stalled, as reported by the supervisor."""

    def media_served(self) -> None:
        """A request with media has just been answered."""
        self._served_s = time.monotonic()

    def reset(self) -> None:
        """The processes that served the last picture are gone."""
        self._served_s = float("-inf")

    async def check(self) -> str | None:
        """Return None if the server is ready, otherwise the reason. Concurrent checks share one probe."""
        if self.draining:
            return "the server is shutting down"
        if self.out_of_service:
            return f"out of service: {', '.join(self.out_of_service)}"
        if self._pool.is_stuck(self._limit_s):
            return f"media waits, and no worker has finished anything for {self._limit_s:g} s"
        if _is_fresh(self._served_s) or self._gets_on():
            return None
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._run())
        return await asyncio.shield(self._probe)

    def _gets_on(self) -> bool:
        """Whether busy ranks and workers have made progress recently."""
        if not self._group.ready or not self._pool.any_ready:
            return False
        return _is_fresh(self._group.progressed_s) or (_is_fresh(self._pool.answered_s) and not self._group.in_flight)

    async def _run(self) -> str | None:
        try:
            async with asyncio.timeout(self._limit_s):
                await self._pass_picture()
        except TimeoutError:
            return "a probe picture did not pass in time"
        except RequestError as error:
            return error.message
        self.media_served()
        return None

    async def _pass_picture(self) -> None:
        self._count += 1
        content: list[AnyPart] = [ImagePart(image_url=ImageUrl.of(_picture(self._count)))]
        if self._modality == "audio":
            content = [AudioUrlPart(audio_url=MediaUrl.of(_sound(self._count)))]
        request = ChatRequest(
            model=self._model,
            messages=[UserMessage(content=content)],
            max_tokens=1,
            temperature=0.0,
        )
        asked = ParsedBody(request, self._chat.renderer.render(request))
        async with self._chat.answer(asked, _fetches_nothing, probe=True) as answer:
            async for _ in self._chat.pieces(answer):
                pass


def _is_fresh(at_s: float) -> bool:
    return time.monotonic() - at_s < FRESH_SECONDS


def _fetches_nothing(_: int) -> None:
    raise AssertionError("a probe brings its picture along")


def _picture(count: int) -> str:
    """A small PNG that no earlier probe had, as a data URI."""
    noise = np.random.default_rng(count).integers(0, 256, (SIDE_PIXELS, SIDE_PIXELS, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _sound(count: int) -> str:
    """Half a second of noise that no earlier probe had, as a data URI."""
    noise = np.random.default_rng(count).integers(-(2**12), 2**12, RATE_HZ // 2, np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE_HZ)
        sound.writeframes(noise.tobytes())
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()
