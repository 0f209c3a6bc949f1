"""What is accepted: one real file of each kind, and the table of docs/http.md, which is made of their names."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import pi_heif
from pictures import photograph
from PIL import ExifTags, Image

from clips import encode, moving, recorded
from heic import Item, coded, grid, heic, turn
from odd_pictures import XMP_6, bmp_with_alpha, chunk, exif_chunk, long_text, png_with, wrong_checksum
from sounds import speech_like, write, write_in_container

PHOTO = Image.open(io.BytesIO(photograph("china"))).resize((224, 140))

FRAMES, FPS = 24, 25
SOUND_SECONDS, SOUND_HZ = 1.2, 48_000


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


def turned_item() -> Item:
    item = coded(PHOTO)
    return replace(item, properties=(*item.properties, turn(3)))


PICTURES: dict[str, tuple[Callable[[], bytes], Callable[[bytes], Image.Image]]] = {
    "JPEG": (lambda: file_of(PHOTO, "JPEG"), opened),
    "JPEG, progressive": (lambda: file_of(PHOTO, "JPEG", progressive=True), opened),
    "JPEG, grey": (lambda: file_of(PHOTO.convert("L"), "JPEG"), opened),
    "JPEG, CMYK": (lambda: file_of(PHOTO.convert("CMYK"), "JPEG"), opened),
    "JPEG, turned": (lambda: file_of(PHOTO, "JPEG", exif=exif(6)), turned),
    "PNG": (lambda: file_of(PHOTO, "PNG"), opened),
    "PNG, 16 bit": (lambda: file_of(gradient_16_bit(), "PNG"), scaled_16_bit),
    "PNG, palette": (lambda: file_of(PHOTO.quantize(64), "PNG"), opened),
    "PNG, one bit": (lambda: file_of(PHOTO.convert("1"), "PNG"), opened),
    "PNG, see-through": (lambda: file_of(see_through(), "PNG"), lambda media: on_white(Image.open(io.BytesIO(media)))),
    "PNG, grey see-through": (
        lambda: file_of(see_through().convert("LA"), "PNG"),
        lambda media: on_white(Image.open(io.BytesIO(media))),
    ),
    "WebP": (lambda: file_of(PHOTO, "WEBP", lossless=True), opened),
    "WebP, turned": (lambda: file_of(PHOTO, "WEBP", lossless=True, exif=exif(6)), turned),
    "GIF, moving": (lambda: file_of(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(90)]), opened),
    "BMP": (lambda: file_of(PHOTO, "BMP"), opened),
    "TIFF": (lambda: file_of(PHOTO, "TIFF"), opened),
    "TIFF, 16 bit": (lambda: file_of(gradient_16_bit(), "TIFF"), scaled_16_bit),
    "AVIF": (lambda: file_of(PHOTO, "AVIF"), opened),
    "AVIF, turned": (lambda: file_of(PHOTO, "AVIF", exif=exif(6)), turned),
    "PNG, turned": (lambda: file_of(PHOTO, "PNG", exif=exif(6)), turned),
    "PNG, turned behind its pixels": (lambda: png_with(PHOTO, behind=exif_chunk(6)), photo_turned),
    "PNG, turned by XMP": (lambda: png_with(PHOTO, chunk(b"iTXt", XMP_6)), photo_turned),
    "PNG, two megabytes of text": (lambda: png_with(PHOTO, long_text(), long_text()), photo),
    "PNG, a text with a wrong checksum": (lambda: png_with(PHOTO, wrong_checksum(), wrong_checksum()), photo),
    "BMP, an alpha channel of zeros": (lambda: bmp_with_alpha(PHOTO, 0), photo),
    "JPEG, arithmetic": (lambda: recorded("arithmetic.jpg"), opened),
    "HEIC": (lambda: heic([coded(PHOTO)]), by_libheif),
    "HEIC, in tiles": (lambda: grid(PHOTO, 64), by_libheif),
    "HEIC, turned": (lambda: heic([turned_item()]), by_libheif),
    "JPEG XL": (lambda: imagecodecs.jpegxl_encode(np.asarray(PHOTO), lossless=True), photo),
    "JPEG XL, in a container": (
        lambda: imagecodecs.jpegxl_encode(np.asarray(PHOTO), lossless=True, usecontainer=True),
        photo,
    ),
}
"""The file, and what a person sees of it."""


def clip(codec: str, container: str, width: int = 96, height: int = 64) -> bytes:
    """24 frames by FFmpeg."""
    return encode(moving(FRAMES, width, height), codec, container, fps=FPS)


CLIPS: dict[str, Callable[[], bytes]] = {
    f"{codec} in {container}": partial(clip, encoder, muxer)
    for codec, container, encoder, muxer in (
        ("H.264", "MP4", "libx264", "mp4"),
        ("H.265", "MP4", "libx265", "mp4"),
        ("AV1", "MP4", "libsvtav1", "mp4"),
        ("MPEG-4", "MP4", "mpeg4", "mp4"),
        ("H.264", "MOV", "libx264", "mov"),
        ("MJPEG", "MOV", "mjpeg", "mov"),
        ("ProRes", "MOV", "prores", "mov"),
        ("VP8", "WebM", "libvpx", "webm"),
        ("VP9", "WebM", "libvpx-vp9", "webm"),
        ("H.264", "MKV", "libx264", "matroska"),
        ("MPEG-4", "AVI", "mpeg4", "avi"),
        ("DivX 3", "AVI", "msmpeg4", "avi"),
        ("MJPEG", "AVI", "mjpeg", "avi"),
        ("H.264", "AVI", "libx264", "avi"),
        ("H.264", "MPEG-TS", "libx264", "mpegts"),
        ("H.265", "MPEG-TS", "libx265", "mpegts"),
        ("MPEG-2", "MPEG-TS", "mpeg2video", "mpegts"),
        ("MPEG-2", "MPEG", "mpeg2video", "vob"),
        ("MPEG-1", "MPEG", "mpeg1video", "mpeg"),
        ("GIF", "GIF", "gif", "gif"),
    )
} | {
    "H.263 in 3GP": partial(clip, "h263", "3gp", 176, 144),
    "H.264 in MOV without a ftyp": lambda: clip("libx264", "mov").replace(b"ftyp", b"wide", 1),
}


def sound(codec: str, container: str) -> bytes:
    """1.2 seconds by FFmpeg."""
    return write_in_container(speech_like(SOUND_SECONDS, SOUND_HZ), SOUND_HZ, codec, container)


def whole_sound(kind: str, subtype: str | None = None) -> bytes:
    """1.2 seconds by libsndfile."""
    return write(speech_like(SOUND_SECONDS, SOUND_HZ), SOUND_HZ, kind, subtype)


SOUNDS: dict[str, Callable[[], bytes]] = {
    f"{codec} in {container}": partial(whole_sound, kind, subtype)
    for codec, container, kind, subtype in (
        ("PCM of 8 bits", "WAV", "WAV", "PCM_U8"),
        ("PCM of 16 bits", "WAV", "WAV", "PCM_16"),
        ("PCM of 24 bits", "WAV", "WAV", "PCM_24"),
        ("PCM of 32 bits", "WAV", "WAV", "PCM_32"),
        ("floats", "WAV", "WAV", "FLOAT"),
        ("doubles", "WAV", "WAV", "DOUBLE"),
        ("A-law", "WAV", "WAV", "ALAW"),
        ("mu-law", "WAV", "WAV", "ULAW"),
        ("FLAC", "FLAC", "FLAC", None),
        ("MP3", "MP3", "MP3", None),
        ("Vorbis", "Ogg", "OGG", "VORBIS"),
        ("Opus", "Ogg", "OGG", "OPUS"),
    )
} | {
    f"{codec} in {container}": partial(sound, encoder, muxer)
    for codec, container, encoder, muxer in (
        ("FLAC", "Ogg", "flac", "ogg"),
        ("AAC", "ADTS", "aac", "adts"),
        ("AC-3", "AC-3", "ac3", "ac3"),
        ("AAC", "M4A", "aac", "ipod"),
        ("ALAC", "M4A", "alac", "ipod"),
        ("AAC", "MP4", "aac", "mp4"),
        ("E-AC-3", "MP4", "eac3", "mp4"),
        ("Opus", "WebM", "libopus", "webm"),
        ("floats", "MKV", "pcm_f32le", "matroska"),
        ("PCM of 16 bits, big-endian", "MOV", "pcm_s16be", "mov"),
        ("PCM of 24 bits", "MOV", "pcm_s24le", "mov"),
        ("PCM of 16 bits", "AVI", "pcm_s16le", "avi"),
        ("MP3", "AVI", "libmp3lame", "avi"),
        ("AC-3", "MPEG-TS", "ac3", "mpegts"),
        ("MP2", "MPEG-TS", "mp2", "mpegts"),
    )
}
"""All last 1.2 seconds."""


def table() -> str:
    """What the page says of them: a row for each kind of file."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name in PICTURES:
        form, _, variant = name.partition(", ")
        rows.setdefault(("picture", form), []).append(variant or "plain")
    for kind, files in (("clip", CLIPS), ("sound", SOUNDS)):
        for name in files:
            codec, _, form = name.partition(" in ")
            rows.setdefault((kind, form), []).append(codec)
    lines = ["| part | file | in it |", "|---|---|---|"]
    lines += [f"| {kind} | {form} | {'; '.join(found)} |" for (kind, form), found in rows.items()]
    return "\n".join(lines)
