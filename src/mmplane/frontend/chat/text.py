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
    either is held back until it is decided. Decoding starts at a whole character, and stop texts are matched character
    by character, so the cost of a token grows neither with the length of the answer nor with that of a stop text.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = (), before: Sequence[int] = ()) -> None:
        """`before` are tokens before the first one, for a text that goes on where another ends."""
        self._decode = decode
        self._stops = [StopText(stop) for stop in stops]
        self._tokens = list(before)
        """Those since the last whole character, after the ones before it: their context."""
        self._context = len(self._tokens)
        """How many of the tokens are context."""
        self._shown = len(decode(self._tokens)) if before else 0
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
        for at, character in enumerate(new, 1):
            complete = [len(stop) for stop in self._stops if stop.matches(character)]
            if complete:
                self.stopped = True
                text, self._held = self._held + new[:at], ""
                return text[: len(text) - max(complete)]
        text = self._held + new
        held = 0 if last else max((stop.matched for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


class StopText:
    """Finds one text in a stream of characters (Knuth, Morris and Pratt): each costs constant time on average."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._shorter = [0]
        """For each beginning of the text, the next shorter one that it ends with."""
        for character in text[1:]:
            self._shorter.append(self._longer(self._shorter[-1], character))
        self.matched = 0
        """Length of the longest beginning of the text that the stream ends with."""

    def __len__(self) -> int:
        return len(self._text)

    def matches(self, character: str) -> bool:
        """Whether the text is complete with this character."""
        self.matched = self._longer(self.matched, character)
        return self.matched == len(self._text)

    def _longer(self, matched: int, character: str) -> int:
        while matched and self._text[matched] != character:
            matched = self._shorter[matched - 1]
        return matched + (self._text[matched] == character)
