"""Every image format over HTTP: the features are those of what a person would see; all else is told what is taken."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from blake3 import blake3
from live import Live
from pictures import photograph, text
from PIL import Image
from reference import Reference

from accepted import PHOTO, PICTURES, file_of, opened
from clips import recorded
from polling import until

LOW_PIXELS = 512


def image_part(media: bytes, **fields: Any) -> dict[str, Any]:
    url = "data:application/octet-stream;base64," + base64.b64encode(media).decode()
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def digest_of(image: Image.Image, reference: Reference) -> str:
    features = reference.image_processor(images=image, return_tensors="np")["pixel_values"]
    return blake3(features.tobytes()).hexdigest()


@pytest.mark.parametrize("name", PICTURES)
def test_what_a_person_sees(name: str, server: Live, reference: Reference) -> None:
    make, seen = PICTURES[name]
    media = make()
    answer = server.chat([image_part(media), text("?")], max_tokens=1, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    digest = digest_of(seen(media), reference)
    assert answer.json()["mmplane"]["trace"]["items"][0]["digests"] == {"0": digest, "1": digest}


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "JPEG2000", "EPS", "PDF"])
def test_any_other_format_is_told_which_are_taken(kind: str, server: Live) -> None:
    answer = server.chat([image_part(file_of(PHOTO, kind)), text("?")])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_media")
    assert "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG XL" in answer.json()["error"]["message"]


def test_an_arithmetic_jpeg_that_is_damaged_is_refused_by_that_name(server: Live) -> None:
    """It was shown as grey."""
    media = recorded("arithmetic.jpg")
    answer = server.chat([image_part(media[: len(media) * 2 // 3]), text("?")])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_media")
    assert "arithmetic coding" in answer.json()["error"]["message"]


def test_what_a_decoder_prints_is_a_line_of_the_log(server: Live) -> None:
    """libtiff says what is wrong with a client's file on standard error, which is not where the log's bounds hold."""
    media = bytearray(file_of(PHOTO, "TIFF", compression="tiff_lzw"))
    media[300:360] = bytes(byte ^ 0x5A for byte in media[300:360])
    assert server.chat([image_part(bytes(media)), text("?")]).status_code == 400

    def printed() -> list[str]:
        return [line for line in server.log if "Using code not yet in table" in line]

    lines = until(printed, 60, "it is in the log")
    assert all("a decoder printed for job" in line for line in lines)


def test_low_detail(server: Live, reference: Reference) -> None:
    """Shrunk to 512 pixels, and another item than the same file in full."""
    media = photograph("china")

    def ask(detail: str) -> dict[str, Any]:
        answer = server.chat([image_part(media, detail=detail), text("?")], max_tokens=1, mmplane={"trace": True})
        item: dict[str, Any] = answer.json()["mmplane"]["trace"]["items"][0]
        return item

    whole, low = opened(media), ask("low")
    size = (LOW_PIXELS, round(whole.height * LOW_PIXELS / whole.width))
    assert low["digests"]["0"] == digest_of(whole.resize(size, Image.Resampling.BICUBIC), reference)
    assert ask("high")["digests"]["0"] == ask("auto")["digests"]["0"] == digest_of(whole, reference)
    assert ask("low")["cache_hit"]
