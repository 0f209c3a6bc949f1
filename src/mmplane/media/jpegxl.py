"""Reads a JPEG XL's header (ISO/IEC 18181-1): its size, its orientation, and the meaning of its numbers. Pure.

    codestream   FF 0A, then fields of bits, the lowest first
    container    boxes: the codestream is in a jxlc, or in pieces in several jxlp

Pixels come from libjxl (imagecodecs), which turns them itself and returns numbers with as many bits as the file has.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmplane.media.boxes import Size, boxes

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
HEAD_BYTES_MAX = 4096
"""Bytes of a codestream that contain everything that is read here."""
BITS_MAX = 16
_ALPHA, _BLACK, _OPTIONAL = 0, 4, 16
"""Kinds of extra channels (table D.4)."""

_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Width to height."""
_SIDE = ((1, 9), (1, 13), (1, 18), (1, 30))
_PREVIEW_SIDE = ((1, 6), (65, 8), (321, 10), (1345, 12))
_PREVIEW_EIGHTHS = ((16, 0), (32, 0), (1, 5), (33, 9))


@dataclass(frozen=True)
class Facts:
    """Width and height in pixels, as stored; `bits` per colour; `premultiplied`: colours are multiplied by alpha.

    `plain`: the numbers are what a screen shows. They are not if they are floats or inks, or if colours need a profile
    that libjxl does not apply, because it then returns linear light.
    """

    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    premultiplied: bool = False
    plain: bool = True


def begins(head: bytes) -> bool:
    """Whether a file starts as a JPEG XL."""
    return head.startswith((_CODESTREAM, _CONTAINER))


def size(view: memoryview) -> Size:
    """Read the header for `mmplane.media.header`. Raises ValueError."""
    facts = facts_of(view)
    return facts.width, facts.height, facts.orientation


def facts_of(media: bytes | memoryview) -> Facts:
    """Return the codestream. Raises ValueError if bytes are missing."""
    head = _codestream(memoryview(media))
    if head[:2] != _CODESTREAM:
        raise ValueError
    bits = _Bits(head[2:])
    width, height = _size(bits)
    if bits.flag():
        return Facts(width, height)
    orientation = _shown(bits) if bits.flag() else 1
    floats, depth = _depth(bits)
    bits.flag()  # whether 16 bits are enough for an integer decoder
    extra = [_extra_channel(bits) for _ in range(bits.one_of((0, 0), (1, 0), (2, 4), (1, 12)))]
    in_xyb, is_srgb = bits.flag(), bits.flag()
    needs_profile = in_xyb and not is_srgb and bits.flag()
    plain = not floats and not needs_profile and depth <= BITS_MAX and all(kind != _BLACK for kind, _ in extra)
    return Facts(width, height, orientation, depth, any(times_alpha for _, times_alpha in extra), plain)


def _codestream(view: memoryview) -> bytes:
    """The first bytes of the codestream."""
    if bytes(view[:2]) == _CODESTREAM:
        return bytes(view[:HEAD_BYTES_MAX])
    found = b""
    for kind, body in boxes(view):
        if kind == b"jxlc":
            return found + bytes(body[:HEAD_BYTES_MAX])
        if kind == b"jxlp":
            found += bytes(body[4 : 4 + HEAD_BYTES_MAX])
            if len(found) >= HEAD_BYTES_MAX:
                break
    return found


class _Bits:
    """Reads fields of bits, the lowest first. Raises ValueError at the end."""

    def __init__(self, head: bytes) -> None:
        self._left = int.from_bytes(head, "little")
        self._count = 8 * len(head)

    def take(self, count: int) -> int:
        self._count -= count
        if self._count < 0:
            raise ValueError
        value = self._left & (1 << count) - 1
        self._left >>= count
        return value

    def flag(self) -> bool:
        return self.take(1) == 1

    def one_of(self, *forms: tuple[int, int]) -> int:
        """Read a number in one of four forms (B.2.2): an offset, and its number of bits."""
        least, count = forms[self.take(2)]
        return least + self.take(count)


def _size(bits: _Bits) -> tuple[int, int]:
    """D.2: width and height; the width may follow from the height."""
    in_eighths = bits.flag()

    def side() -> int:
        return 8 * (1 + bits.take(5)) if in_eighths else bits.one_of(*_SIDE)

    height = side()
    return (_by_ratio(height, ratio) if (ratio := bits.take(3)) else side()), height


def _by_ratio(height: int, ratio: int) -> int:
    width, of_height = _RATIOS[ratio]
    return height * width // of_height


def _shown(bits: _Bits) -> int:
    """Return the orientation; skip the intrinsic size, a preview and a frame rate (D.3)."""
    orientation = 1 + bits.take(3)
    if bits.flag():
        _size(bits)
    if bits.flag():
        eighths = _PREVIEW_EIGHTHS if bits.flag() else _PREVIEW_SIDE
        bits.one_of(*eighths)
        if not bits.take(3):
            bits.one_of(*eighths)
    if bits.flag():
        bits.one_of((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.one_of((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.one_of((0, 0), (0, 3), (0, 16), (0, 32))
        bits.flag()
    return orientation


def _depth(bits: _Bits) -> tuple[bool, int]:
    """Return whether a number is a float, and its bits."""
    if bits.flag():
        depth = bits.one_of((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
        return True, depth
    return False, bits.one_of((8, 0), (10, 0), (12, 0), (1, 6))


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """Return its kind, and whether colours are premultiplied (D.3.6). Raises ValueError for an unknown kind."""
    if bits.flag():
        return _ALPHA, False
    kind = bits.one_of((0, 0), (1, 0), (2, 4), (18, 6))
    _depth(bits)
    bits.one_of((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.one_of((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.take(8)
    if kind == _ALPHA:
        return kind, bits.flag()
    if kind == 2:  # a spot colour: red, green, blue and its solidity
        bits.take(64)
    elif kind == 5:  # the colour in a sensor's grid
        bits.one_of((1, 0), (0, 2), (3, 4), (19, 8))
    elif kind > _OPTIONAL:
        raise ValueError
    return kind, False
