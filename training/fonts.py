"""The fonts of the pictures: Pillow's own (Aileron, CC0) and three families from packages with a free licence.

Roboto is under the Apache licence; Source Sans Pro and Source Serif Pro are under the SIL Open Font Licence.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

FONTS: tuple[tuple[str, str] | None, ...] = (
    None,  # the one inside Pillow: what needs no other package comes first
    ("font_roboto", "Roboto-Regular.ttf"),
    ("font_source_sans_pro", "SourceSansPro-Semibold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    ("font_roboto", "Roboto-Bold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
)
"""Package and file of each font, by index."""


@lru_cache(maxsize=1024)
def load_font(index: int, size_px: int) -> Font:
    """The font at `index` of FONTS in a size."""
    entry = FONTS[index]
    if entry is None:
        font = ImageFont.load_default(size_px)
        assert isinstance(font, Font), "this Pillow was built without FreeType"
        return font
    package, name = entry
    return ImageFont.truetype(str(files(package) / "files" / name), size_px)
