"""Turns tokens into text, piece by piece, and finds stop texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""The character that a decoder returns for bytes that are not a whole character yet."""

PENDING_MAX = 64
"""Broken characters count as final after this many tokens of nothing else."""

Decode = Callable[[list[int]], str]


class TextStream:
    """Turns one sample's tokens into text that may be shown.

    A token can end in the middle of a character, and a stop text can span tokens. Text that could still turn out to be
    either is held back until it is certain. Decoding starts at a whole character, and stop texts are matched character
    by character, so the cost of a token does not grow with the length of the answer or of a stop text.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = (), before: Sequence[int] = ()) -> None:
        """`before` are tokens before the first one, for a text that continues another."""
        self._decode = decode
        self._stops = [StopText(stop) for stop in stops]
        self._tokens = list(before)
        """Tokens since the last whole character, after their context: the tokens before it."""
        self._context = len(self._tokens)
        """How many of the tokens are context."""
        self._shown = len(decode(self._tokens)) if before else 0
        """How many characters of the decoded tokens have been returned."""
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Return the text that is certain after this token, or "". Nothing follows a stop text."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        # How many of the last characters are unfinished depends on the decoder. Some write one replacement character
        # for an unfinished character, some write one for each byte, also for the whole characters in the same run of
        # bytes.
        if text.endswith(REPLACEMENT) and len(self._tokens) - self._context <= PENDING_MAX:
            return ""
        new = text[self._shown :]
        # The tokens since the last whole character are the context of the next one. Some tokenizers write a token
        # depending on the one before it (leading spaces), and only a part of a character would corrupt the bytes that
        # follow.
        del self._tokens[: self._context]
        self._context = len(self._tokens)
        self._shown = len(self._decode(self._tokens))
        return self._release(new, last=False)

    def finish(self) -> str:
        """Return the text that was held back, after the last token."""
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
    """Finds one text in a stream of characters (Knuth, Morris and Pratt) at constant average cost per character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._shorter = [0]
        """For each prefix of the text, the next shorter prefix that it ends with."""
        for character in text[1:]:
            self._shorter.append(self._longer(self._shorter[-1], character))
        self.matched = 0
        """Length of the longest prefix of the text that the stream ends with."""

    def __len__(self) -> int:
        return len(self._text)

    def matches(self, character: str) -> bool:
        """Take a character. Return whether the text is complete with it."""
        self.matched = self._longer(self.matched, character)
        return self.matched == len(self._text)

    def _longer(self, matched: int, character: str) -> int:
        while matched and self._text[matched] != character:
            matched = self._shorter[matched - 1]
        return matched + (self._text[matched] == character)
