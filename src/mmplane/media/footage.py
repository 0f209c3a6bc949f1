"""The content of a clip's file, and which frames are used if decoding the chosen ones costs too much. Pure.

    chosen:   . . . v . . . . . . . . . v .      a frame needs all frames between it and the key frame before it
    packets:  I P P P P P P | I P P P P P P P
    earlier:  . v . . . . .   . . v . . . . .    each at a fraction of the way from its key frame: half, a quarter, none

Players that skip through a long clip show key frames as well. Times are those of the frames that are used.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mmplane.core.errors import bad_media
from mmplane.core.records import Clip
from mmplane.features.contract.video import ClipRules
from mmplane.media.gops import Unit, runs

RATE_OFF_MAX = 1.25
"""Maximum difference of a stated rate from the measured one; a clip of few frames may be off by one of them."""
FRAME_PIXELS_MIN = 100_000
"""Minimum cost of a small frame, which has a fixed price."""
SHARES = (1.0, 0.5, 0.25, 0.0)
"""Fractions of the way from its key frame to a chosen frame at which another frame may be used instead."""
EARLIER_SECONDS_MAX = 10.0
"""How much earlier the other frame may be, or the distance of the chosen frames: x264's default is a key frame every
ten seconds.
"""

Sample = Callable[[int], tuple[int, ...]]
"""Chooses frames by the checkpoint's rules, at most this many (0: as many as it wants)."""


@dataclass(frozen=True)
class Footage:
    """The content of a clip's file: frame size in pixels, the time of each frame, and the frame rate.

    `units`: what is known of each packet, if packets can be parsed. `keys`: otherwise, the packets that the container
    marks as key frames, and when each is shown.
    """

    width: int
    height: int
    seconds: tuple[float, ...]
    fps: float | None
    units: tuple[Unit, ...] = ()
    keys: tuple[tuple[int, float], ...] = ()

    @property
    def true_fps(self) -> float | None:
        """Frames per second by the container, or measured if it gives no rate or a very different one.

        Browsers write clips without a rate, and FFmpeg guesses one from the first frames. None: one frame has no rate.
        """
        spread_s = self.seconds[-1] - self.seconds[0]
        if spread_s <= 0:
            return self.fps
        measured = (len(self.seconds) - 1) / spread_s
        stated = self.fps is not None and measured / RATE_OFF_MAX < self.fps < measured * RATE_OFF_MAX
        return self.fps if stated else measured

    def clip(self, indices: tuple[int, ...]) -> Clip:
        """Return the record of these frames."""
        seconds = tuple(self.seconds[index] for index in indices)
        return self._clip(indices, runs(self.units, frozenset(seconds)))

    def earlier(self, indices: Sequence[int], share: float) -> Clip | None:
        """Return a record of earlier frames, nearer to key frames; None if one would be too much earlier."""
        apart_s = (self.seconds[indices[-1]] - self.seconds[indices[0]]) / max(len(indices) - 1, 1)
        limit_s = max(EARLIER_SECONDS_MAX, apart_s)
        moved = self._moved(indices, share) if self.units else self._at_keys(indices)
        pairs = list(moved)
        if any(self.seconds[index] - self.seconds[instead] > limit_s for index, instead, _ in pairs):
            return None
        taken = tuple(sorted({instead for _, instead, _ in pairs}))
        if self.units:
            return self.clip(taken)
        numbers = sorted({0, *(number for _, _, number in pairs)})
        return self._clip(taken, tuple((number, number + 1) for number in numbers))

    def _clip(self, indices: tuple[int, ...], needed: tuple[tuple[int, int], ...]) -> Clip:
        seconds = tuple(self.seconds[index] for index in indices)
        return Clip(
            self.width, self.height, len(self.seconds), self.fps, indices, seconds, needed, begins_s=self.seconds[0]
        )

    def _moved(self, indices: Sequence[int], share: float) -> Iterator[tuple[int, int, int]]:
        """For each frame: its number, the number of the frame used instead, and that frame's packet."""
        index_of = {at_s: index for index, at_s in enumerate(self.seconds)}
        wanted, taken, begin = set(indices), set[int](), 0
        for number, unit in enumerate(self.units):
            begin = number if unit.begins else begin
            index = None if unit.shown_s is None else index_of.get(unit.shown_s)
            if index not in wanted:
                continue
            assert index is not None
            for place in range(begin + int((number - begin) * share), number + 1):
                at_s = self.units[place].shown_s
                instead = None if at_s is None else index_of.get(at_s)
                if instead is not None and instead not in taken:
                    taken.add(instead)
                    yield index, instead, place
                    break

    def _at_keys(self, indices: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        shown = sorted((at_s, number) for number, at_s in self.keys)
        index_of = {at_s: index for index, at_s in enumerate(self.seconds)}
        for index in indices:
            place = bisect_right(shown, self.seconds[index], key=lambda key: key[0]) - 1
            at_s, number = shown[max(place, 0)]
            if at_s in index_of:
                yield index, index_of[at_s], number


def chosen(footage: Footage, sample: Sample, frames_max: int, rules: ClipRules) -> Clip:
    """Return the clip's frames: those of the checkpoint's rules, or earlier and then fewer ones if those cost too
    much.

    Only with the server's own rules; an engine would decode its own choice. Raises RequestError (400).
    """
    while True:
        indices = sample(frames_max)
        for clip in _ways(footage, indices, rules):
            if pixels_decoded(clip) <= rules.pixels_max:
                return clip
        frames_max = len(indices) // 2
        movable = rules.true_times and bool(footage.units or footage.keys)
        if not movable or not frames_max or len(sample(frames_max)) >= len(indices):
            raise bad_media(
                f"the clip has too many pixels in total: this server decodes at most {rules.pixels_max} per clip. Send "
                "a shorter or smaller one, or one with more key frames"
            )


def _ways(footage: Footage, indices: tuple[int, ...], rules: ClipRules) -> Iterator[Clip]:
    yield footage.clip(indices)
    if rules.true_times and (footage.units or footage.keys):
        for share in SHARES[1:] if footage.units else SHARES[-1:]:
            if (clip := footage.earlier(indices, share)) is not None and clip.indices:
                yield clip


def pixels_decoded(clip: Clip) -> int:
    """Pixels that have to be decoded for a clip's frames."""
    return clip.frames_decoded * max(clip.width * clip.height, FRAME_PIXELS_MIN)
