"""Makes the files whose decoding is compared with the engines': one of each kind, all of one small picture.

    python tests/unit/media/decoding/make.py

The files are kept, so that another version of an encoder changes nothing. After a change here record the engines again:
`tools/peers/record_decoding.py`.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

FOLDER = Path(__file__).with_name("files")
WIDTH, HEIGHT = 37, 23
ORIENTATION = 0x0112
Bytes = npt.NDArray[np.uint8]


def scene(channels: int, *, seed: int = 7) -> Bytes:
    """Smooth colours with some noise: every channel has values near both ends."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(x / (3 + c) + y / (5 - c) + c) for c in range(channels)]
    noise = np.random.default_rng(seed).normal(0, 9, (HEIGHT, WIDTH, channels))
    return np.clip(np.stack(waves, axis=2) * 140 + 128 + noise, 0, 255).astype(np.uint8)


PICTURE = Image.fromarray(scene(3))
OTHER = Image.fromarray(scene(3, seed=8))
GREY = Image.fromarray(scene(1)[..., 0])
ALPHA = Image.fromarray(scene(4)[..., 3])
GREY_16 = (scene(1)[..., 0].astype(np.uint16) * 251 + np.arange(WIDTH, dtype=np.uint16)).astype(np.uint16)


def transparent(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(ALPHA)
    return image


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    frames = {"append_images": [each.copy() for each in options.pop("append_images", [])]}
    image.copy().save(file, image_format, **options, **frames)  # savers leave their settings behind
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


def xmp(orientation: int) -> bytes:
    return b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation


def jpeg_with(media: bytes, marker: int, body: bytes) -> bytes:
    """A segment more, right behind the start."""
    return media[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + media[2:]


def jpegs() -> Iterator[tuple[str, bytes]]:
    plain = encoded(PICTURE, "JPEG", quality=88)
    for name, subsampling in (("444", "4:4:4"), ("422", "4:2:2"), ("420", "4:2:0")):
        yield f"jpeg-{name}", encoded(PICTURE, "JPEG", quality=88, subsampling=subsampling)
        yield f"jpeg-progressive-{name}", encoded(PICTURE, "JPEG", progressive=True, subsampling=subsampling)
    yield "jpeg-grey", encoded(GREY, "JPEG")
    yield "jpeg-rgb", encoded(PICTURE, "JPEG", keep_rgb=True)
    cmyk = encoded(Image.fromarray(scene(4), "CMYK"), "JPEG", quality=90)
    adobe = cmyk.index(b"\xff\xee")
    yield "jpeg-cmyk-adobe", cmyk
    yield "jpeg-cmyk", cmyk[:adobe] + cmyk[adobe + 16 :]
    yield "jpeg-ycck", cmyk[: adobe + 15] + b"\2" + cmyk[adobe + 16 :]
    for orientation in range(1, 9):
        yield f"jpeg-orientation-{orientation}", encoded(PICTURE, "JPEG", exif=exif(orientation))
    yield "jpeg-orientation-9", encoded(PICTURE, "JPEG", exif=exif(9))
    yield "jpeg-orientation-xmp", jpeg_with(plain, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))
    yield "jpeg-orientation-damaged", jpeg_with(plain, 0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")
    # the orientation can be read; what stands beside it cannot be written again, which ends Pillow's turning
    entries = struct.pack(">HHI4s", 0x0100, 2, 4, b"wide") + struct.pack(">HHIHH", ORIENTATION, 3, 1, 6, 0)
    body = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + bytes(4)
    yield "jpeg-orientation-odd", jpeg_with(plain, 0xE1, body)
    yield "jpeg-grey-orientation-6", encoded(GREY, "JPEG", exif=exif(6))
    yield "jpeg-mpo", encoded(PICTURE, "MPO", save_all=True, append_images=[OTHER])
    yield "jpeg-cut", plain[: len(plain) * 2 // 3]
    yield "jpeg-without-end", plain[:-2]
    yield "jpeg-with-more-behind", plain + bytes(100)
    scan = plain.index(b"\xff\xda") + 20
    yield "jpeg-damaged", plain[:scan] + bytes(reversed(plain[scan:-2])) + plain[-2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples: npt.NDArray[Any], colour: int, depth: int, *, interlaced: bool = False, before: bytes = b"") -> bytes:
    """A PNG of (height, width, channels) samples, without filters."""
    height, width = samples.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    rows = b"".join(b"\0" + packed(row, depth) for each in passes if each.size for row in each)
    return MAGIC + chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


MAGIC = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def packed(row: npt.NDArray[Any], depth: int) -> bytes:
    if depth >= 8:
        return row.astype(f">u{depth // 8}").tobytes()
    bits = (row.reshape(-1, 1) >> np.arange(depth)[::-1]) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def pngs() -> Iterator[tuple[str, bytes]]:
    rgb, rgba, la = scene(3), np.asarray(transparent(PICTURE)), np.asarray(transparent(GREY))
    wide = scene(4).astype(np.uint16) * 251 + 3
    plain = encoded(PICTURE, "PNG")
    palette = PICTURE.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    yield "png-rgb", plain
    yield "png-rgb-interlaced", png(rgb, 2, 8, interlaced=True)
    yield "png-rgb-16", png(wide[..., :3], 2, 16)
    yield "png-rgb-keyed", encoded(PICTURE, "PNG", transparency=PICTURE.getpixel((3, 4)))
    yield "png-rgba", png(rgba, 6, 8)
    yield "png-rgba-16", png(wide, 6, 16)
    yield "png-grey", encoded(GREY, "PNG")
    yield "png-grey-keyed", encoded(GREY, "PNG", transparency=GREY.getpixel((8, 2)))
    yield "png-grey-16", png(GREY_16[..., None], 0, 16)
    yield "png-grey-16-interlaced", png(GREY_16[..., None], 0, 16, interlaced=True)
    key = chunk(b"tRNS", struct.pack(">H", int(GREY_16[4, 3])))
    yield "png-grey-16-keyed", png(GREY_16[..., None], 0, 16, before=key)
    yield "png-la", png(la, 4, 8)
    yield "png-la-16", png(wide[..., 2:], 4, 16)
    for depth in (1, 2, 4):
        yield f"png-grey-{depth}", png(scene(1) >> (8 - depth), 0, depth)
    yield "png-palette", encoded(palette, "PNG")
    yield "png-palette-alpha", encoded(palette, "PNG", transparency=bytes(range(0, 256, 4)))
    yield "png-palette-keyed", encoded(palette, "PNG", transparency=palette.getpixel((3, 4)))
    yield "png-gamma", plain[:33] + chunk(b"gAMA", struct.pack(">I", 100_000)) + plain[33:]
    yield "png-orientation-6", encoded(PICTURE, "PNG", exif=exif(6))
    yield "png-rgba-orientation-8", encoded(transparent(PICTURE), "PNG", exif=exif(8))
    late = chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))
    yield "png-orientation-behind", plain[:-12] + late + plain[-12:]
    note = PngInfo()
    note.add_itxt("XML:com.adobe.xmp", xmp(6).decode())
    yield "png-orientation-xmp", encoded(PICTURE, "PNG", pnginfo=note)
    for orientation in (1, 3, 6):
        body = exif(orientation).tobytes()
        note = PngInfo()
        note.add_text("Raw profile type exif", f"\nexif\n{len(body):8}\n{body.hex()}\n", zip=True)
        yield f"png-orientation-text-{orientation}", encoded(PICTURE, "PNG", pnginfo=note)
    yield "png-animated", encoded(PICTURE, "PNG", save_all=True, append_images=[OTHER])
    yield "png-animated-apart", encoded(PICTURE, "PNG", save_all=True, append_images=[OTHER], default_image=True)
    yield "png-cut", plain[: len(plain) * 2 // 3]
    yield "png-without-end", plain[:-12]
    middle = len(plain) // 2
    yield "png-checksum", plain[:-16] + bytes(4) + plain[-12:]
    damaged = plain[:middle] + bytes([plain[middle] ^ 0xFF] * 20) + plain[middle + 20 :]
    yield "png-damaged", damaged
    yield "png-two-headers", plain[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 20, 8, 2, 0, 0, 0)) + plain[8:]


def webps() -> Iterator[tuple[str, bytes]]:
    plain = encoded(PICTURE, "WEBP", quality=80)
    yield "webp", plain
    yield "webp-lossless", encoded(PICTURE, "WEBP", lossless=True)
    yield "webp-alpha", encoded(transparent(PICTURE), "WEBP", quality=80)
    yield "webp-lossless-alpha", encoded(transparent(PICTURE), "WEBP", lossless=True, exact=True)
    yield "webp-animated", encoded(PICTURE, "WEBP", save_all=True, append_images=[OTHER])
    clear = [transparent(PICTURE), transparent(OTHER)]
    yield "webp-animated-alpha", encoded(clear[0], "WEBP", save_all=True, append_images=clear[1:], lossless=True)
    yield "webp-orientation-6", encoded(PICTURE, "WEBP", exif=exif(6))
    yield "webp-orientation-xmp", encoded(PICTURE, "WEBP", xmp=xmp(8))
    yield "webp-cut", plain[: len(plain) * 2 // 3]


def gifs() -> Iterator[tuple[str, bytes]]:
    palette = PICTURE.quantize(64)
    plain = encoded(palette, "GIF")
    yield "gif", plain
    yield "gif-grey", encoded(GREY, "GIF")
    yield "gif-transparent", encoded(palette, "GIF", transparency=palette.getpixel((3, 4)))
    frames = [palette, OTHER.quantize(64)]
    yield "gif-animated", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "gif-cut", plain[: len(plain) * 2 // 3]


def bmps() -> Iterator[tuple[str, bytes]]:
    plain = encoded(PICTURE, "BMP")
    yield "bmp", plain
    yield "bmp-palette", encoded(PICTURE.quantize(64), "BMP")
    yield "bmp-grey", encoded(GREY, "BMP")
    yield "bmp-1", encoded(GREY.convert("1"), "BMP")
    yield "bmp-alpha", encoded(transparent(PICTURE), "BMP")
    yield "bmp-cut", plain[: len(plain) * 2 // 3]


def tiffs() -> Iterator[tuple[str, bytes]]:
    plain = encoded(PICTURE, "TIFF")
    yield "tiff", plain
    yield "tiff-lzw", encoded(PICTURE, "TIFF", compression="tiff_lzw")
    yield "tiff-jpeg", encoded(PICTURE, "TIFF", compression="jpeg")
    yield "tiff-grey", encoded(GREY, "TIFF")
    yield "tiff-1", encoded(GREY.convert("1"), "TIFF")
    yield "tiff-grey-16", encoded(Image.fromarray(GREY_16), "TIFF")
    yield "tiff-integers", encoded(GREY.convert("I").point(lambda v: v * 7 - 300), "TIFF")
    yield "tiff-floats", encoded(GREY.convert("F").point(lambda v: v * 1.7 - 60.4), "TIFF")
    yield "tiff-cmyk", encoded(Image.fromarray(scene(4), "CMYK"), "TIFF")
    yield "tiff-lab", encoded(Image.fromarray(scene(3), "LAB"), "TIFF")
    yield "tiff-palette", encoded(PICTURE.quantize(64), "TIFF")
    yield "tiff-rgba", encoded(transparent(PICTURE), "TIFF")
    yield "tiff-la", encoded(transparent(GREY), "TIFF")
    yield "tiff-la-premultiplied", premultiplied(transparent(GREY))
    yield "tiff-rgba-premultiplied", premultiplied(transparent(PICTURE))
    for orientation in (3, 6):
        yield f"tiff-orientation-{orientation}", encoded(PICTURE, "TIFF", tiffinfo={ORIENTATION: orientation})
    yield "tiff-lzw-orientation-8", encoded(PICTURE, "TIFF", compression="tiff_lzw", tiffinfo={ORIENTATION: 8})
    yield "tiff-pages", encoded(PICTURE, "TIFF", save_all=True, append_images=[OTHER])
    yield "tiff-cut", plain[: len(plain) * 2 // 3]


def premultiplied(image: Image.Image) -> bytes:
    """A TIFF whose colours are multiplied by alpha, as its ExtraSamples say."""
    return encoded(image, "TIFF").replace(
        struct.pack("<HHI", 338, 3, 1) + b"\2", struct.pack("<HHI", 338, 3, 1) + b"\1", 1
    )


def avifs() -> Iterator[tuple[str, bytes]]:
    plain = encoded(PICTURE, "AVIF")
    yield "avif", plain
    yield "avif-grey", encoded(GREY, "AVIF")
    yield "avif-alpha", encoded(transparent(PICTURE), "AVIF")
    yield "avif-orientation-6", encoded(PICTURE, "AVIF", exif=exif(6))
    yield "avif-orientation-7", encoded(PICTURE, "AVIF", exif=exif(7))
    yield "avif-animated", encoded(PICTURE, "AVIF", save_all=True, append_images=[OTHER])
    yield "avif-cut", plain[: len(plain) * 2 // 3]


def others() -> Iterator[tuple[str, bytes]]:
    """What the engines open, and we do not."""
    yield "jpeg2000", encoded(PICTURE, "JPEG2000")
    yield "ppm", encoded(PICTURE, "PPM")
    yield "tga", encoded(PICTURE, "TGA")
    yield "ico", encoded(PICTURE, "ICO", sizes=[(16, 16)])
    yield "png-long", encoded(Image.new("RGB", (1, 300), "teal"), "PNG")
    yield "text", b"no image at all, whatever a loader tries"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for make in (jpegs, pngs, webps, gifs, bmps, tiffs, avifs, others):
        for name, media in make():
            (FOLDER / name).write_bytes(media)


if __name__ == "__main__":
    main()
