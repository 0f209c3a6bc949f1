"""Makes the corpus: hostile files, each with the status that the server must answer with.

    python tests/corpus/make.py FOLDER      writes them, for a look or for another server

Nothing is stored but this script. A file's name says what is wrong with it; `KIND` is the part that it is sent in.
Where an image says 200, it is strange but a picture, and the model must see what a person would.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
import wave
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imagecodecs
import numpy as np
import soundfile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

from heic import Item, coded, grid, grid_of, heic, overlay_of

WIDTH, HEIGHT = 64, 48


@dataclass(frozen=True)
class Case:
    """One file. `status` is what a server says whose model takes this kind; another says 422."""

    kind: str
    status: int
    make: Callable[[], bytes]


def picture(width: int = WIDTH, height: int = HEIGHT, mode: str = "RGB") -> Image.Image:
    """Every value next to every other, near enough."""
    pixels = np.add.outer(np.arange(height) * 5, np.arange(width) * 3).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """An image file."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, body: bytes | None = None, *, depth: int = 8, colour: int = 2, extra: bytes = b""
) -> bytes:
    """A PNG that says what it likes about itself."""
    rows = zlib.compress(body if body is not None else b"", 9)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def clip(
    frames: int,
    width: int = WIDTH,
    height: int = HEIGHT,
    *,
    codec: str = "mpeg4",
    container: str = "mp4",
    rate: int = 25,
) -> bytes:
    """A clip of one moving bar."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        pixels = np.zeros((height, width, 3), np.uint8)
        for number in range(frames):
            pixels[:, number % width] = 255
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()


def sound(
    samples: bytes = bytes(3200), *, rate: int = 16000, channels: int = 1, form: int = 1, bits: int = 16
) -> bytes:
    """A WAV that says what it likes about itself."""
    head = struct.pack(
        "<HHIIHH", form, channels, rate, rate * channels * bits // 8 & 0xFFFFFFFF, channels * bits // 8 & 0xFFFF, bits
    )
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def endless_gif() -> bytes:
    """Says that 10,000 frames follow, and then repeats forever."""
    frames = [picture(8, 8, "P")] * 500
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], loop=0)


def truncated(media: bytes, share: float) -> bytes:
    """Its first part."""
    return media[: int(len(media) * share)]


def flipped(media: bytes, seed: int) -> bytes:
    """Some bytes after the header are others."""
    noise = np.random.default_rng(seed)
    damaged = bytearray(media)
    for at in noise.integers(len(media) // 4, len(media), 40):
        damaged[at] ^= int(noise.integers(1, 256))
    return bytes(damaged)


def many_scans(scans: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each is a pass over all pixels, and tiny."""
    media = encoded(Image.new("RGB", (side, side), "grey"), "JPEG", progressive=True)
    tables = media.rindex(b"\xff\xc4")
    return media[:-2] + media[tables:-2] * scans + media[-2:]


def ogg(packets: list[bytes], granule: int, *, serial: int = 7) -> bytes:
    """An Ogg stream (RFC 3533): the first two packets are headers on pages of their own, the others are 255 to a page
    and as long in samples each as `granule` says."""
    pages = [packets[:1], packets[1:2], *(packets[at : at + 255] for at in range(2, len(packets), 255))]
    stream, position = [], 0
    for number, page in enumerate(pages):
        position += granule * len(page) if number > 1 else 0
        kind = 2 if number == 0 else 4 if number == len(pages) - 1 else 0
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, kind, position, serial, number, 0, len(page))
        whole = head + bytes(map(len, page)) + b"".join(page)
        stream.append(whole[:22] + struct.pack("<I", _ogg_checksum(whole)) + whole[26:])
    return b"".join(stream)


def _ogg_checksum(page: bytes) -> int:
    checksum = 0
    for byte in page:
        checksum = (checksum << 8) & 0xFFFFFFFF ^ _OGG_TABLE[checksum >> 24 ^ byte]
    return checksum


def _ogg_table() -> list[int]:
    table = []
    for entry in range(256):
        value = entry << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


_OGG_TABLE = _ogg_table()


def opus(seconds: int) -> bytes:
    """Silence: packets of one byte, each of which says that 120 ms follow in which nothing was sent."""
    head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, 48_000, 0, 0)
    tags = struct.pack("<8sI4sI", b"OpusTags", 4, b"none", 0)
    nothing = bytes([3 << 3 | 1])  # SILK, narrow band, 60 ms, two frames of equal length: none
    return ogg([head, tags] + [nothing] * (seconds * 1000 // 120), 5760)


def flac(rate: int = 16_000, channels: int = 1, claimed: tuple[int, int, int] | None = None) -> bytes:
    """A FLAC; `claimed` puts another rate, number of channels and number of samples into its header."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros((8000, channels), np.float32), rate, "PCM_16", format="FLAC")
    media = bytearray(file.getvalue())
    if claimed is not None:  # STREAMINFO: 20 bits rate, 3 bits channels - 1, 5 bits depth - 1, 36 bits samples
        rate, channels, samples = claimed
        media[18:26] = (rate << 44 | channels - 1 << 41 | 15 << 36 | samples).to_bytes(8, "big")
    return bytes(media)


def zipped() -> bytes:
    """A megabyte of nothing, in a kilobyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1_000_000))
    return file.getvalue()


def _images() -> dict[str, Case]:
    good = {name: lambda name=name: encoded(picture(), name) for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF")}
    good |= {
        "HEIC": lambda: heic([coded(picture())]),
        "JPEG XL": lambda: imagecodecs.jpegxl_encode(np.asarray(picture())),
    }
    cases: dict[str, tuple[int, Callable[[], bytes]]] = {
        "empty": (400, lambda: b""),
        "one byte": (400, lambda: b"\xff"),
        "zeros": (400, lambda: bytes(10_000)),
        "noise": (400, lambda: np.random.default_rng(1).bytes(100_000)),
        "text": (400, lambda: b"this is no picture " * 100),
        "svg": (400, lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
        "svg with an entity bomb": (400, lambda: b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 1000 + b'">]><svg>&b;</svg>'),
        "html": (400, lambda: b"<html><img src=http://169.254.169.254/></html>"),
        "pdf": (400, lambda: b"%PDF-1.4\n" + b"0 0 obj " * 100),
        "postscript": (400, lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "zip": (400, zipped),
        "gzip of a png": (400, lambda: gzip.compress(encoded(picture(), "PNG"))),
        "icon": (400, lambda: encoded(picture(), "ICO")),
        "portable pixmap": (400, lambda: encoded(picture(), "PPM")),
        "a clip as a picture": (400, lambda: clip(5)),
        "png bomb of 13000 x 13000, 1 bit": (400, lambda: png(13000, 13000, bytes(1626 * 13000), depth=1, colour=0)),
        "png of 2^31 x 1": (400, lambda: png(2**31 - 1, 1)),
        "png of 1 x 2^31": (400, lambda: png(1, 2**31 - 1)),
        "png without pixels": (400, lambda: png(0, 0)),
        "png of 7999 x 7999, too much to decode": (413, lambda: png(7999, 7999, bytes(7999 + 1) * 7999, colour=0)),
        "png without data": (400, lambda: png(64, 48)),
        "png with too few rows": (400, lambda: png(64, 48, bytes(500))),
        "png with a text bomb": (400, lambda: png(64, 48, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))))),
        "png with a text bomb beside its pixels": (200, lambda: _png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))))),
        "png whose text has a wrong checksum": (200, lambda: _png_with(chunk(b"tEXt", b"a\0b")[:-1] + b"\xff")),
        "png with a profile bomb": (400, lambda: png(64, 48, extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9_000_000))))),
        "png of a million empty chunks": (400, lambda: encoded(picture(), "PNG")[:33] + chunk(b"abCd", b"") * 1_000_000),
        "png with an unknown depth": (400, lambda: png(64, 48, bytes(9000), depth=7)),
        "png with an unknown colour": (400, lambda: png(64, 48, bytes(9000), colour=5)),
        "png with a wrong checksum": (400, lambda: encoded(picture(), "PNG").replace(b"IHDR", b"IHDX")),
        "png and a zip behind it": (200, lambda: encoded(picture(), "PNG") + zipped()),
        "png called jpeg": (200, lambda: encoded(picture(), "PNG")),
        "png of one pixel": (200, lambda: encoded(picture(1, 1), "PNG")),
        "png too long for its width": (400, lambda: encoded(picture(2, 1000), "PNG")),
        "jpeg of 65535 x 65535": (400, lambda: _resized_jpeg(65535, 65535)),
        "jpeg of 0 x 0": (400, lambda: _resized_jpeg(0, 0)),
        "jpeg that claims more than it has": (400, lambda: _resized_jpeg(7000, 7000)),
        "jpeg of a million empty segments": (400, lambda: b"\xff\xd8" + b"\xff\xe2\x00\x02" * 1_000_000),
        "jpeg of 1,000 scans of 16 megapixels": (400, lambda: many_scans(1000, 4000)),
        "jpeg that is all junk": (400, lambda: b"\xff\xd8\xff" + bytes(3_000_000)),
        "jpeg with a page of html in it": (200, lambda: encoded(picture(), "JPEG", comment=b"<script>alert(1)</script>")),
        "jpeg with broken exif": (200, lambda: encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")),
        "jpeg with an exif loop": (200, lambda: encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\0" * 30)),
        "jpeg in cmyk": (200, lambda: encoded(picture(mode="CMYK"), "JPEG")),
        "gif bomb of 65535 x 65535": (400, lambda: b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\x02\0\0\0;"),
        "gif whose frame leaves its screen": (400, lambda: b"GIF89a\x08\0\x08\0\0\0\0,\xf0\xff\xf0\xff\x08\0\x08\0\0\x08\x02\0\0\0;"),
        "gif that never ends": (200, endless_gif),
        "gif of 300 frames of 2000 x 2000, of which the first is shown": (200, _wide_gif),
        "apng of 1,000 frames, of which the first is shown": (200, lambda: _moving("PNG", 1000)),
        "webp of 200 frames, of which the first is shown": (200, lambda: _moving("WEBP", 200)),
        "gif of empty comments": (400, lambda: b"GIF89a\x08\0\x08\0\0\0\0" + b"!\xfe\x01a" * 500_000),
        "webp of 16384 x 16384": (400, lambda: b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0"),
        "webp without frames": (400, lambda: b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x3f\0\0\x3f\0\0"),
        "webp that lies about its length": (400, lambda: b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\x7f/\x3f\xc0\x0f\0"),
        "tiff that points at itself": (400, lambda: b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 330, 4, 1, 8) + b"\x08\0\0\0"),
        "tiff of 65535 entries": (400, lambda: b"II*\0\x08\0\0\0\xff\xff" + b"\1\1\3\0\1\0\0\0\1\0\0\0" * 65535),
        "tiff of 2^32 x 2^32": (400, lambda: _tiff(2**32 - 1, 2**32 - 1)),
        "tiff of 500 pages": (200, lambda: _moving("TIFF", 500)),
        "tiff whose strip inflates to 100 megabytes, of which few are read": (200, lambda: _inflating_tiff(100_000_000)),
        "tiff with a strip beyond its end": (400, lambda: _tiff(64, 48)),
        "bmp of 2^31 rows": (400, lambda: _bmp(64, -(2**31))),
        "bmp without pixels": (400, lambda: _bmp(64, 48)),
        "avif without an item": (400, lambda: b"\0\0\0\x18ftypavif\0\0\0\0avifmif1\0\0\0\x0cmeta\0\0\0\0"),
        "avif of empty boxes": (400, lambda: b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + b"\0\0\0\x08free" * 300_000),
        "avif that lies about its size": (400, lambda: encoded(picture(), "AVIF").replace(struct.pack(">II", 64, 48), struct.pack(">II", 9999, 9999))),
        "heic of 2^31 x 2^31": (400, lambda: heic([_claiming(2**31, 2**31)])),
        "heic that claims more than it has": (400, lambda: heic([_claiming(4000, 4000)])),
        "heic that claims less than it has": (400, lambda: heic([_claiming(16, 16)])),
        "heic that is made of itself": (400, lambda: heic([grid_of((64, 48), 1, 1, (1,))])),
        "heic of 900 pictures of 12 megapixels on each other": (400, lambda: heic([overlay_of((4000, 3000), tuple(range(2, 902))), *[_claiming(4000, 3000)] * 900])),
        "heic in which a tile is missing": (400, lambda: grid(picture(), 32)[:-200]),
        "heic of 999 pictures, of which the first is shown": (200, lambda: heic([coded(picture())] * 999)),
        "heic of 5,000 pictures": (400, lambda: heic([coded(picture())] * 5000)),
        "heic without a picture": (400, lambda: heic([Item(b"Exif", b"II*")])),
        "heic of empty boxes": (400, lambda: b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + b"\0\0\0\x08free" * 300_000),
        "jpeg xl of 2^30 x 2^30": (400, lambda: _jpegxl_head(2**30, 2**30)),
        "jpeg xl of 7999 x 7999, too much to decode": (413, lambda: _jpegxl_head(7999, 7999)),
        "jpeg xl without pixels": (400, lambda: _jpegxl_head(64, 48)),
        "jpeg xl of 300 frames, of which the first is shown": (200, lambda: imagecodecs.jpegxl_encode(np.stack([np.asarray(picture())] * 300))),
        "jpeg xl of floats": (400, lambda: imagecodecs.jpegxl_encode(np.zeros((48, 64, 3), np.float32))),
        "jpeg xl of empty boxes": (400, lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x08free" * 300_000),
        "16 bit png": (200, lambda: encoded(Image.fromarray(np.full((48, 64), 40_000, np.uint16)), "PNG")),
        "a transparent palette": (200, lambda: encoded(picture(mode="P"), "PNG", transparency=3)),
    }  # fmt: skip
    for name, make in good.items():
        for share in (0.1, 0.5):
            cases[f"{name.lower()}, its first {share:.0%}"] = (
                400,
                lambda make=make, share=share: truncated(make(), share),
            )
    return {f"image: {name}": Case("image", *case) for name, case in cases.items()}


def _claiming(width: int, height: int) -> Item:
    """A picture that says it has another size."""
    return coded(picture(), claimed=(width, height))


def _jpegxl_head(width: int, height: int) -> bytes:
    """A JPEG XL of so many pixels, each side a number of 30 bits, that ends behind them."""
    fields = 3 << 1 | height - 1 << 3 | 3 << 36 | width - 1 << 38 | 1 << 68
    return b"\xff\x0a" + fields.to_bytes(20, "little")


def _png_with(extra: bytes) -> bytes:
    media = encoded(picture(), "PNG")
    return media[:33] + extra + media[33:]


def _moving(image_format: str, frames: int) -> bytes:
    """All frames are different, or some formats would join them."""
    pictures = [Image.new("RGB", (32, 32), (number % 251, number // 251, 7)) for number in range(frames)]
    return encoded(pictures[0], image_format, save_all=True, append_images=pictures[1:])


def _inflating_tiff(length_bytes: int) -> bytes:
    strip = zlib.compress(bytes(length_bytes), 9)
    entries = ((256, 4, 64), (257, 4, 48), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 110), (279, 4, len(strip)))
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)).ljust(110, b"\0") + strip


def _resized_jpeg(width: int, height: int) -> bytes:
    media = encoded(picture(), "JPEG")
    return media.replace(struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", height, width), 1)


def _wide_gif(frames: int = 300, side: int = 2000) -> bytes:
    """One frame, many times."""
    frame = encoded(Image.new("P", (side, side), 7), "GIF")
    start = frame.index(b",\0\0\0\0" + struct.pack("<HH", side, side))
    delayed = b"!\xf9\x04\0\x04\0\0\0" + frame[start:-1]
    return frame[:start] + delayed * frames + b";"


def _tiff(width: int, height: int) -> bytes:
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 99_999_999),
        (279, 4, 99_999_999),
    ]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


def _bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def _clips() -> dict[str, Case]:
    cases: dict[str, tuple[int, Callable[[], bytes]]] = {
        "empty": (400, lambda: b""),
        "noise": (400, lambda: np.random.default_rng(2).bytes(50_000)),
        "a picture as a clip": (400, lambda: encoded(picture(), "PNG")),
        "a playlist": (400, lambda: b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/latest/\n"),
        "a list of files": (400, lambda: b"ffconcat version 1.0\nfile /etc/passwd\n"),
        "only its first tenth": (400, lambda: truncated(clip(50), 0.1)),
        "only its first half": (400, lambda: truncated(clip(50), 0.5)),
        "frames of 8192 x 4320": (400, lambda: clip(2, 8192, 4320, codec="mjpeg", container="matroska")),
        "5,000 frames, of which few are taken": (200, lambda: clip(5000)),
        "5,000 JPEGs one after the other (video/jpeg)": (400, lambda: encoded(picture(), "JPEG") * 5000),
        "ten hours of nothing, 36,000 frames": (400, lambda: clip(36_000, 16, 16, rate=1)),
        "ten hours of nothing, two frames": (400, lambda: _late_clip(36_000)),
        "two hours of nothing, two frames": (200, lambda: _late_clip(7_200)),
        "a table of 80 million frames, in a kilobyte": (400, lambda: _forged_table(80_000_000)),
        "300,000 parts beside one frame": (400, lambda: _many_parts(300_000)),
        "frames of two sizes": (200, _two_sizes),
        "webm in which no frame is shown": (400, _hidden_frames),
        "gif that never ends": (200, endless_gif),
        "gif of 20,001 frames": (400, lambda: _wide_gif(20_001, 8)),
        "gif of 1,100 frames of 2000 x 2000": (400, lambda: _wide_gif(1100)),
        "too long for its width": (400, lambda: clip(3, 1024, 4, codec="mjpeg", container="matroska")),
        "sound alone": (400, lambda: _sound_in_mp4()),
        "gif of 300 frames of 2000 x 2000, too many tokens": (400, _wide_gif),
    }
    return {f"clip: {name}": Case("video", *case) for name, case in cases.items()}


def _late_clip(seconds: int) -> bytes:
    """Two frames, the second of which is shown after so many seconds."""
    return _remuxed(clip(2, rate=1), "mp4", lambda number, packet: _timed(packet, number * seconds))


def _timed(packet: av.Packet, seconds: int) -> av.Packet:
    again = av.Packet(bytes(packet))
    again.pts = again.dts = int(seconds / packet.time_base)
    again.time_base, again.is_keyframe = packet.time_base, packet.is_keyframe
    return again


def _hidden_frames() -> bytes:
    """VP8 frames that are decoded and never shown (RFC 6386, 9.1)."""

    def hide(number: int, packet: av.Packet) -> av.Packet:
        content = bytearray(bytes(packet))
        content[0] &= ~0x10
        again = av.Packet(bytes(content))
        again.pts, again.dts, again.time_base = packet.pts, packet.dts, packet.time_base
        again.is_keyframe = packet.is_keyframe
        return again

    return _remuxed(clip(8, codec="libvpx", container="webm"), "webm", hide)


def _remuxed(media: bytes, container: str, change: Callable[[int, av.Packet], av.Packet]) -> bytes:
    """The same clip with other packets."""
    file = io.BytesIO()
    with av.open(io.BytesIO(media)) as source, av.open(file, "w", format=container) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            changed = change(number, packet)
            changed.stream = stream
            out.mux(changed)
    return file.getvalue()


def _forged_table(frames: int) -> bytes:
    """An MP4 that says it has so many frames of one byte, all in one chunk: its tables have one entry each."""
    media = bytearray(clip(1))

    def put(box: bytes, at: int, *numbers: int) -> None:
        start = media.index(box) + 4 + at
        media[start : start + 4 * len(numbers)] = struct.pack(f">{len(numbers)}I", *numbers)

    put(b"stsz", 4, 1, frames)  # the size of them all, and how many
    put(b"stts", 8, frames)
    put(b"stsc", 12, frames)
    return bytes(media)


def _many_parts(parts: int) -> bytes:
    """A frame, and a sound in pieces of one sample."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        video = out.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        audio = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.VideoFrame.from_ndarray(np.asarray(picture()), format="rgb24")
        out.mux([*video.encode(frame), *video.encode()])
        for number in range(parts):
            packet = av.Packet(b"\0\0")
            packet.pts = packet.dts = number // 16
            packet.time_base, packet.stream = Fraction(1, 1000), audio
            out.mux(packet)
    return file.getvalue()


def _two_sizes() -> bytes:
    """JPEGs of two sizes as the frames of one clip."""
    sizes = ((WIDTH, HEIGHT), (2 * WIDTH, 2 * HEIGHT))

    def change(number: int, packet: av.Packet) -> av.Packet:
        again = av.Packet(encoded(picture(*sizes[number % 2]), "JPEG"))
        again.pts, again.dts, again.time_base, again.is_keyframe = packet.pts, packet.dts, packet.time_base, True
        return again

    return _remuxed(clip(6, codec="mjpeg", container="matroska"), "matroska", change)


def _sound_in_mp4() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def _sounds() -> dict[str, Case]:
    cases: dict[str, tuple[int, Callable[[], bytes]]] = {
        "forged rate": (400, lambda: sound(rate=2**31)),
        "rate 0": (400, lambda: sound(rate=0)),
        "no channels": (400, lambda: sound(channels=0)),
        "65535 channels": (400, lambda: sound(channels=65535)),
        "not a number": (400, lambda: sound(struct.pack("<f", float("nan")) * 8000, form=3, bits=32)),
        "infinite": (400, lambda: sound(struct.pack("<f", float("inf")) * 8000, form=3, bits=32)),
        "noise": (400, lambda: np.random.default_rng(3).bytes(50_000)),
        "length beyond the file": (200, lambda: truncated(_tone(), 0.5)),
        "flac of 655,350 Hz and 8 channels": (400, lambda: flac(48_000, 8, (655_350, 8, 8000))),
        "flac that claims 50 days": (400, lambda: flac(claimed=(16_000, 1, 2**36 - 1))),
        "flac that does not say how long it is": (200, lambda: flac(claimed=(16_000, 1, 0))),
        "flac whose header lies about its channels": (400, lambda: flac(48_000, 2, (48_000, 8, 8000))),
        "opus of 8 hours in 300 kilobytes": (400, lambda: opus(8 * 3600)),
        "opus of a minute, most of which is not heard": (200, lambda: opus(60)),
        "ogg without a codec": (400, lambda: ogg([b"nothing", b"here", *[b"x"] * 500], 1)),
        "mp3 behind a tag of 256 megabytes": (400, lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100_000)),
        "mp3 of empty frames": (200, lambda: (b"\xff\xfb\x90\x64" + bytes(413)) * 2000),
        "m4a whose table has 80 million entries": (400, lambda: _forged_table(80_000_000)),
        "a clip without sound": (400, lambda: clip(5)),
        "300,000 parts": (400, lambda: _many_parts(300_000)),
        "midi": (400, lambda: b"MThd\0\0\0\x06\0\0\0\1\0\x60MTrk" + bytes(100)),
        "aiff": (400, lambda: b"FORM\0\0\x0f\xa0AIFFCOMM" + bytes(4000)),
        "a playlist": (400, lambda: b"#EXTM3U\nhttp://169.254.169.254/latest/\n"),
        "a list of sounds": (400, lambda: b"[playlist]\nFile1=/etc/passwd\n"),
    }
    return {f"sound: {name}": Case("audio", *case) for name, case in cases.items()}


def _tone() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(bytes(320_000))
    return file.getvalue()


CASES: dict[str, Case] = _images() | _clips() | _sounds()
WAS = {
    "image: png whose text has a wrong checksum": 400,
    "image: png with a text bomb beside its pixels": 400,
    "clip: frames of two sizes": 400,
    "sound: flac that does not say how long it is": 400,
}
"""The former status of files that are no fault of their senders: all players show them."""


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        (folder / name.replace(" ", "-").replace("/", "_")).write_bytes(case.make())
