"""Decode profiles: how each consumer's own loader converts images that are not plain RGB.

    kind of pixels                      mmplane           vllm              sglang
    RGB                                 as it is          as it is          as it is
    RGB with a transparent colour       over white        as it is          as it is
    alpha, or a transparent grey        over white        over white        alpha dropped
    a BMP's alpha that is 0 everywhere  opaque            over white        alpha dropped
    16-bit grey                         divided by 257    Pillow's          Pillow's
    16-bit grey with a transparent one  divided by 257    over white        Pillow's
    32-bit integers or floats           refused           Pillow's          Pillow's
    grey, palette, CMYK, 1 bit          Pillow's          Pillow's          Pillow's
    turned upright                      by our header     by Pillow         never (but TIFF, which Pillow turns)

All take the first frame. `mmplane` is this project's own normaliser. The others make the same calls as vLLM's
`ImageMediaIO.load_bytes` and SGLang's `BaseMultimodalProcessor._load_single_item`, in the same order, so that damaged
files give the same result too. `tests/unit/media/decoding` has what the engines themselves make of each kind of file.

With an engine's profile an image fails in one of two ways. `invalid_media`: the engine would fail too. `unprofiled`: it
is not known what the engine would make of it, so it has to take the engine's own path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mmplane.core.errors import RequestError, UnprofiledReason, bad_media, unprofiled
from mmplane.core.records import Modality
from mmplane.features.contract.image import Pixels
from mmplane.media.header import ImageHeader

Kind = Literal["rgb", "keyed rgb", "transparent", "16-bit grey", "keyed 16-bit grey", "wide", "other"]
"""The kind of pixels, by Pillow's mode; `keyed`: with a transparent colour instead of an alpha channel."""
Rule = Callable[[Image.Image], Image.Image]
Turning = Literal["by header", "by Pillow", "never"]
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Profile:
    """How one consumer decodes. `modalities` are those whose decoding is known to match the consumer's.

    `apart` are the architectures (of `config.json`) whose images the engine loads in a special way.
    """

    name: str
    load: Rule
    rules: Mapping[Kind, Rule]
    turning: Turning
    modalities: tuple[Modality, ...] = ("image",)
    apart: frozenset[str] = frozenset()

    def rgb(self, image: Image.Image) -> Image.Image:
        """The first frame in mode RGB. Raises whatever Pillow raises, and RequestError (400)."""
        image = self.load(image)
        return self.rules[kind_of(image)](image)

    def seen(self, header: ImageHeader) -> ImageHeader:
        """The header of the image that `rgb` returns after turning: as stored if it is not turned."""
        return header.as_stored() if self.turning == "never" else header

    def trusts(self, header: ImageHeader, image: Image.Image) -> bool:
        """Whether an opened JPEG or PNG is turned as its header says, so that Pillow need not decode it."""
        return self.turning != "by Pillow" or _pillows_orientation(image) == header.orientation

    def check_modality(self, modality: Modality) -> None:
        """Raise RequestError (`unprofiled`) for a modality that is not covered."""
        if modality not in self.modalities:
            raise unprofiled("modality", f"the decode profile {self.name} only covers images")

    def check_architectures(self, architectures: list[str]) -> None:
        """Raise ValueError if the engine loads this model's images in a special way."""
        if found := self.apart.intersection(architectures):
            models = ", ".join(sorted(found))
            raise ValueError(
                f"--decode-profile {self.name}: the engine loads the images of {models} in a different way"
            )

    def own_way(self, reason: UnprofiledReason) -> AbstractContextManager[None]:
        """Inside the block, bad media becomes `unprofiled`, unless the profile is mmplane's own."""
        return nullcontext() if self is MMPLANE else self._own_way(reason)

    @contextmanager
    def _own_way(self, reason: UnprofiledReason) -> Iterator[None]:
        try:
            yield
        except RequestError as error:
            if error.code != "invalid_media":
                raise
            raise unprofiled(reason, f"the decode profile {self.name} does not cover it: {error.message}") from None


def kind_of(image: Image.Image) -> Kind:
    """The kind of an opened image."""
    keyed = "transparency" in image.info
    if image.mode == "RGB":
        return "keyed rgb" if keyed else "rgb"
    if image.mode.startswith("I;16"):
        return "keyed 16-bit grey" if keyed else "16-bit grey"
    if image.mode in ("I", "F"):
        return "wide"
    return "transparent" if keyed or image.mode in ("RGBA", "LA", "PA") else "other"


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def _upright(image: Image.Image) -> Image.Image:
    """vLLM's `normalize_image`, and its loading after it: a second attempt may load what a first one could not.

    If there was no memory for a turned copy, the unturned image must not be used instead.
    """
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as there
        return _loaded(image)


def _pillows_orientation(image: Image.Image) -> int:
    """The orientation that `exif_transpose` would undo, without decoding; none if it cannot write the other EXIF."""
    with suppress(Exception):
        found: int = Image.Image.getexif(image).get(_ORIENTATION, 1)  # a PNG's own method would decode it first
        if found in range(2, 9):
            blank = Image.new("L", (1, 1))
            blank.info = dict(image.info)
            ImageOps.exif_transpose(blank)
            return found
    return 1


def _as_it_is(image: Image.Image) -> Image.Image:
    return image


def _converted(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Like vLLM's `rgba_to_rgb` with its default background."""
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.split()[3])
    return white


def _seen_through(image: Image.Image) -> Image.Image:
    """Draw over white. A BMP whose alpha is 0 everywhere has none: its writer left the fourth byte empty."""
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return _over_white(image)


def _scaled(image: Image.Image) -> Image.Image:
    """0..65535 to 0..255, rounded to the nearest: v / 257."""
    grey: npt.NDArray[np.uint16] = np.asarray(image)
    pixels: Pixels = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(pixels).convert("RGB")


def _refused(_: Image.Image) -> Image.Image:
    """Refused, because no range is defined for these."""
    raise bad_media("the image's pixel format is not supported")


MMPLANE = Profile(
    "mmplane",
    _loaded,
    {
        "rgb": _as_it_is,
        "keyed rgb": _over_white,
        "transparent": _seen_through,
        "16-bit grey": _scaled,
        "keyed 16-bit grey": _scaled,
        "wide": _refused,
        "other": _converted,
    },
    "by header",
    modalities=("image", "video", "audio"),
)
VLLM = Profile(
    "vllm",
    _upright,
    {
        "rgb": _as_it_is,
        "keyed rgb": _as_it_is,
        "transparent": _over_white,
        "16-bit grey": _converted,
        "keyed 16-bit grey": _over_white,
        "wide": _converted,
        "other": _converted,
    },
    "by Pillow",
)
SGLANG = Profile(
    "sglang",
    _loaded,
    {
        "rgb": _as_it_is,
        "keyed rgb": _as_it_is,
        "transparent": _converted,
        "16-bit grey": _converted,
        "keyed 16-bit grey": _converted,
        "wide": _converted,
        "other": _converted,
    },
    "never",
    apart=frozenset(
        {
            "Glm4vForConditionalGeneration",
            "Glm4vMoeForConditionalGeneration",
            "Glm5NextForConditionalGeneration",
            "GlmOcrForConditionalGeneration",
            "KimiK3ForConditionalGeneration",
            "MiMoV2ForCausalLM",
        }
    ),
)
PROFILES = {profile.name: profile for profile in (MMPLANE, VLLM, SGLANG)}
"""By the name in `--decode-profile`."""
