"""What becomes of media where nothing is made: images by their headers, all else by the sidecar."""

from __future__ import annotations

import base64
import io
from typing import Any, cast

import pytest
from PIL import Image

from frontend_loop import in_loop
from mmplane.core.errors import RequestError
from mmplane.core.keys import content_key, media_digest
from mmplane.core.records import Ask, Layout
from mmplane.embed import client as client_module
from mmplane.embed.errors import BadMedia, Full, Lost, NotAttached, SidecarError, TooLarge, Unprofiled
from mmplane.embed.media import Layout as Described
from mmplane.features.choice import Processors
from mmplane.render import attached as attached_module
from mmplane.render.attached import Attached
from mmplane.render.looks import HeaderLooks
from mutation import mutated

EXPANSION = ((7, 3),)


class PlayedProcessor:
    """Layouts that can be told from the size by hand."""

    fingerprint = b"f" * 32

    def __init__(self, *, cheap: bool = True) -> None:
        self.layout_is_cheap = cheap

    def layout(self, width: int, height: int) -> Layout:
        return Layout((), ((268, width * height),), 0)


class PlayedSidecar:
    """What it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Ask, str]] = []

    async def layout(self, media: bytes, ask: Ask, *, tenant: str) -> Layout:
        self.asked.append((bytes(media), ask, tenant))
        return Layout((), EXPANSION, 0)


def looks(sidecar: PlayedSidecar, *, cheap: bool = True) -> HeaderLooks:
    image, clip = cast("Any", PlayedProcessor(cheap=cheap)), cast("Any", PlayedProcessor())
    return HeaderLooks(Processors("float32", image, clip), cast("Any", sidecar))


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 5)).save(file, "PNG")
    return file.getvalue()


@in_loop
async def test_nobody_is_asked_about_an_image() -> None:
    sidecar = PlayedSidecar()
    looking = looks(sidecar)
    ask = Ask("image")
    assert await looking.key(ask, picture(), uuid="mine", tenant="") == b""
    recipe = await looking.recipe(ask, b"", picture(), tenant="")
    assert recipe.layout.expansion == ((268, 30),)
    assert sidecar.asked == []


def test_a_mutant_that_asks_fails_it() -> None:
    piece = 'ask.modality == "image" and self._processors.for_images.layout_is_cheap'
    with mutated(HeaderLooks.recipe, piece, "False"), pytest.raises(AssertionError):
        test_nobody_is_asked_about_an_image()


@pytest.mark.parametrize("ask", [Ask("video", frames_max=4, fps_max=2.0), Ask("image", side_max=512)])
@in_loop
async def test_the_sidecar_looks_at_what_only_a_worker_knows(ask: Ask) -> None:
    sidecar = PlayedSidecar()
    looking = looks(sidecar, cheap=False)
    key = await looking.key(ask, b"media", uuid=None, tenant="alice")
    recipe = await looking.recipe(ask, key, b"media", tenant="alice")
    assert recipe.layout.expansion == EXPANSION
    assert sidecar.asked == [(b"media", ask, "alice")]
    if ask.modality == "video":
        fingerprint = looking._processors.fingerprint_of("video")
        assert key == content_key(ask, fingerprint=fingerprint, tenant="alice", media_digest=media_digest(b"media"))


@in_loop
async def test_what_is_refused() -> None:
    looking = looks(PlayedSidecar())
    with pytest.raises(RequestError) as unknown:
        await looking.key(Ask("image"), None, uuid="a name alone", tenant="")
    assert (unknown.value.status, unknown.value.code) == (404, "media_not_held")
    for media in (b"", base64.b64encode(b"no picture")):
        with pytest.raises(RequestError) as damaged:
            await looking.recipe(Ask("image"), b"", media, tenant="")
        assert (damaged.value.status, damaged.value.code) == (400, "invalid_media")
    for ask, status in ((Ask("audio"), 422), (Ask("image", embedded=True), 400)):
        with pytest.raises(RequestError) as refused:
            looking.check_taken(ask)
        assert refused.value.status == status


class PlayedClient:
    """Of a sidecar; `attached` counts them."""

    attached = 0
    fails: SidecarError | None = None

    def __init__(self, path: str) -> None:
        assert path == "/the/socket"
        type(self).attached += 1

    async def alayout(self, media: bytes, **how: Any) -> Described:
        if self.fails is not None:
            raise self.fails
        assert how == {
            "modality": "video",
            "options": {"side_max": 0, "frames": 4, "fps": 2.0},
            "tenant": "alice",
        }
        return Described("video", b"k" * 32, (), EXPANSION)


@in_loop
async def test_it_attaches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attached_module.Client is client_module.Client
    monkeypatch.setattr(attached_module, "Client", PlayedClient)
    monkeypatch.setattr(PlayedClient, "attached", 0)
    sidecar = Attached("/the/socket")
    assert PlayedClient.attached == 0
    for _ in range(2):
        layout = await sidecar.layout(b"media", Ask("video", frames_max=4, fps_max=2.0), tenant="alice")
        assert layout.expansion == EXPANSION
    assert PlayedClient.attached == 1


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadMedia("no clip"), 400, "invalid_media"),
        (Unprofiled("clips"), 400, "invalid_media"),
        (TooLarge("too long"), 413, "too_large"),
        (Full("no room"), 503, "overloaded"),
        (Lost("gone"), 503, "unavailable"),
        (NotAttached("refused"), 503, "unavailable"),
        (SidecarError("?"), 500, "internal_error"),
    ],
)
@in_loop
async def test_its_errors_are_a_requests(
    error: SidecarError, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached_module, "Client", PlayedClient)
    monkeypatch.setattr(PlayedClient, "fails", error)
    with pytest.raises(RequestError) as refused:
        await Attached("/the/socket").layout(b"media", Ask("video"), tenant="")
    assert (refused.value.status, refused.value.code) == (status, code)
