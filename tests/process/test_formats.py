"""Every image format over HTTP: the features are those of what a person would see; all else is told what is taken."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
import pi_heif
import pytest
from blake3 import blake3
from live import Live
from pictures import photograph, text
from PIL import ExifTags, Image
from reference import Reference

from clips import recorded
from heic import coded, grid, heic, turn
from odd_pictures import XMP_6, bmp_with_alpha, chunk, exif_chunk, long_text, png_with, wrong_checksum

PHOTO = Image.open(io.BytesIO(photograph("china"))).resize((224, 140))
LOW_PIXELS = 512


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


def gradient_16_bit() -> Image.Image:
    return Image.fromarray((np.add.outer(np.arange(140), np.arange(224)) * 180).astype(np.uint16))


def see_through() -> Image.Image:
    image = PHOTO.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def opened(media: bytes) -> Image.Image:
    return Image.open(io.BytesIO(media)).convert("RGB")


def scaled_16_bit(media: bytes) -> Image.Image:
    values = np.asarray(Image.open(io.BytesIO(media))).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def turned(media: bytes) -> Image.Image:
    return opened(media).transpose(Image.Transpose.ROTATE_270)


def photo(_: bytes) -> Image.Image:
    return PHOTO


def photo_turned(_: bytes) -> Image.Image:
    return PHOTO.transpose(Image.Transpose.ROTATE_270)


def by_libheif(media: bytes) -> Image.Image:
    image: Image.Image = pi_heif.open_heif(media).to_pillow().convert("RGB")
    return image


CODED = coded(PHOTO)

FILES: dict[str, tuple[bytes, Callable[[bytes], Image.Image]]] = {
    "JPEG": (file_of(PHOTO, "JPEG"), opened),
    "JPEG, progressive": (file_of(PHOTO, "JPEG", progressive=True), opened),
    "JPEG, grey": (file_of(PHOTO.convert("L"), "JPEG"), opened),
    "JPEG, CMYK": (file_of(PHOTO.convert("CMYK"), "JPEG"), opened),
    "JPEG, turned": (file_of(PHOTO, "JPEG", exif=exif(6)), turned),
    "PNG": (file_of(PHOTO, "PNG"), opened),
    "PNG, 16 bit": (file_of(gradient_16_bit(), "PNG"), scaled_16_bit),
    "PNG, palette": (file_of(PHOTO.quantize(64), "PNG"), opened),
    "PNG, one bit": (file_of(PHOTO.convert("1"), "PNG"), opened),
    "PNG, see-through": (file_of(see_through(), "PNG"), lambda media: on_white(Image.open(io.BytesIO(media)))),
    "PNG, grey see-through": (
        file_of(see_through().convert("LA"), "PNG"),
        lambda media: on_white(Image.open(io.BytesIO(media))),
    ),
    "WebP": (file_of(PHOTO, "WEBP", lossless=True), opened),
    "WebP, turned": (file_of(PHOTO, "WEBP", lossless=True, exif=exif(6)), turned),
    "GIF, moving": (file_of(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(90)]), opened),
    "BMP": (file_of(PHOTO, "BMP"), opened),
    "TIFF": (file_of(PHOTO, "TIFF"), opened),
    "TIFF, 16 bit": (file_of(gradient_16_bit(), "TIFF"), scaled_16_bit),
    "AVIF": (file_of(PHOTO, "AVIF"), opened),
    "AVIF, turned": (file_of(PHOTO, "AVIF", exif=exif(6)), turned),
    "PNG, turned": (file_of(PHOTO, "PNG", exif=exif(6)), turned),
    "PNG, turned behind its pixels": (png_with(PHOTO, behind=exif_chunk(6)), photo_turned),
    "PNG, turned by XMP": (png_with(PHOTO, chunk(b"iTXt", XMP_6)), photo_turned),
    "PNG, two megabytes of text": (png_with(PHOTO, long_text(), long_text()), photo),
    "PNG, a text with a wrong checksum": (png_with(PHOTO, wrong_checksum(), wrong_checksum()), photo),
    "BMP, an alpha channel of zeros": (bmp_with_alpha(PHOTO, 0), photo),
    "JPEG, arithmetic": (recorded("arithmetic.jpg"), opened),
    "HEIC": (heic([CODED]), by_libheif),
    "HEIC, in tiles": (grid(PHOTO, 64), by_libheif),
    "HEIC, turned": (heic([replace(CODED, properties=(*CODED.properties, turn(3)))]), by_libheif),
    "JPEG XL": (imagecodecs.jpegxl_encode(np.asarray(PHOTO), lossless=True), photo),
    "JPEG XL, in a container": (imagecodecs.jpegxl_encode(np.asarray(PHOTO), lossless=True, usecontainer=True), photo),
}


def image_part(media: bytes, **fields: Any) -> dict[str, Any]:
    url = "data:application/octet-stream;base64," + base64.b64encode(media).decode()
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def digest_of(image: Image.Image, reference: Reference) -> str:
    features = reference.image_processor(images=image, return_tensors="np")["pixel_values"]
    return blake3(features.tobytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_what_a_person_sees(name: str, server: Live, reference: Reference) -> None:
    media, seen = FILES[name]
    answer = server.chat([image_part(media), text("?")], max_tokens=1, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    digest = digest_of(seen(media), reference)
    assert answer.json()["mmplane"]["trace"]["items"][0]["digests"] == {"0": digest, "1": digest}


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "JPEG2000", "EPS", "PDF"])
def test_any_other_format_is_told_which_are_taken(kind: str, server: Live) -> None:
    answer = server.chat([image_part(file_of(PHOTO, kind)), text("?")])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_media")
    assert "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG XL" in answer.json()["error"]["message"]


def test_what_a_decoder_prints_is_a_line_of_the_log(server: Live) -> None:
    """libtiff says what is wrong with a client's file on standard error, which is not where the log's bounds hold."""
    media = bytearray(file_of(PHOTO, "TIFF", compression="tiff_lzw"))
    media[300:360] = bytes(byte ^ 0x5A for byte in media[300:360])
    assert server.chat([image_part(bytes(media)), text("?")]).status_code == 400
    lines = [line for line in "".join(server.log).splitlines() if "Using code not yet in table" in line]
    assert lines
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
