"""The fonts of the pictures, by free licences: Pillow's own (Aileron, CC0) and families from packages.

Roboto and Caladea are under the Apache licence; the others are under the SIL Open Font Licence. Training draws with
FONTS only. The families of HELD_OUT_FONTS are for evaluation.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from PIL import ImageFont

Font = ImageFont.FreeTypeFont


def _family(package: str, family: str, styles: str) -> tuple[tuple[str, str], ...]:
    return tuple((package, f"{family}-{style}") for style in styles.split())


FONTS: tuple[tuple[str, str] | None, ...] = (
    None,  # the one inside Pillow: what needs no other package comes first
    ("font_roboto", "Roboto-Regular.ttf"),
    ("font_source_sans_pro", "SourceSansPro-Semibold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    ("font_roboto", "Roboto-Bold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
    *_family("font_roboto", "Roboto", "Light.ttf Medium.ttf Black.ttf Italic.ttf BoldItalic.ttf"),
    *_family("font_source_sans_pro", "SourceSansPro", "Light.ttf Regular.ttf Bold.ttf Black.ttf It.ttf"),
    *_family("font_source_serif_pro", "SourceSerifPro", "Light.ttf Semibold.ttf Black.ttf It.ttf BoldIt.ttf"),
    *_family("font_lato", "Lato", "Light.ttf Regular.ttf Bold.ttf Black.ttf Italic.ttf"),
    *_family("font_rhd", "RedHatDisplay", "Light.ttf Regular.ttf Bold.ttf Black.ttf Italic.ttf"),
    ("font_fredoka_one", "FredokaOne-Regular.ttf"),
)
"""Package and file of each font, by index."""

HELD_OUT_FONTS = (
    *_family("font_caladea", "Caladea", "Regular.ttf Bold.ttf Italic.ttf"),
    *_family("font_hanken_grotesk", "HankenGrotesk", "Light.otf Regular.otf Bold.otf"),
    *_family("font_manrope", "Manrope", "Light.ttf Regular.ttf Bold.ttf"),
)
"""Package and file of each font that training never uses."""


@lru_cache(maxsize=1024)
def load_font(index: int, size_px: int) -> Font:
    """The font at `index` of FONTS in a size."""
    return _open(FONTS[index], size_px)


@lru_cache(maxsize=1024)
def load_held_out_font(index: int, size_px: int) -> Font:
    """The font at `index` of HELD_OUT_FONTS in a size."""
    return _open(HELD_OUT_FONTS[index], size_px)


def _open(entry: tuple[str, str] | None, size_px: int) -> Font:
    if entry is None:
        font = ImageFont.load_default(size_px)
        assert isinstance(font, Font), "this Pillow was built without FreeType"
        return font
    package, name = entry
    return ImageFont.truetype(str(files(package) / "files" / name), size_px)
