"""Tokens to text, piece by piece, with stop texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What a decoder gives for bytes that are not a whole character yet."""

PENDING_MAX = 64
"""Tokens of nothing but broken characters after which they are taken for what they are."""

Decode = Callable[[list[int]], str]


class TextStream:
    """Turns one sample's tokens into text that may be shown.

    A token can end in the middle of a character, and a stop text can span tokens: what could still turn out to be
    either is held back until it is decided. Decoding starts at a whole character, so the cost of a token does not grow
    with the length of the answer.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = stops
        self._tokens: list[int] = []
        """Those since the last whole character, after the ones before it: their context."""
        self._context = 0
        """How many of the tokens are context."""
        self._shown = 0
        """How many characters of the decoded tokens have been handed on."""
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is sure after this token; "" when none is. Nothing comes after a stop text."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        # How many of the last characters are unfinished depends on the decoder: some write one replacement character
        # for an unfinished one, some one for each byte, and for the whole characters of the same run of bytes too.
        if text.endswith(REPLACEMENT) and len(self._tokens) - self._context <= PENDING_MAX:
            return ""
        new = text[self._shown :]
        # What came since the last whole character is the next one's context: some tokenizers write a token by its
        # neighbour (leading spaces), and a part of a character alone would spoil the bytes that follow it.
        del self._tokens[: self._context]
        self._context = len(self._tokens)
        self._shown = len(self._decode(self._tokens))
        return self._release(new, last=False)

    def finish(self) -> str:
        """What was held back, once no token comes any more."""
        return self._release(self._decode(self._tokens)[self._shown :], last=True)

    def _release(self, new: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]  # of the stop text that was complete first
        held = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
