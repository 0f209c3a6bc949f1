"""Tokens to text: however the tokens cut it, the text that is shown is the text that decoding all at once gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, strategies
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from mmplane.frontend.chat.text import REPLACEMENT, Decode, TextStream

LETTER_OF_BYTE = bytes_to_unicode()
"""How byte-level tokenizers write each byte in their vocabulary."""

LETTERS = "ab€é😀" + REPLACEMENT
texts = strategies.text(alphabet=LETTERS, max_size=12)
stop_lists = strategies.lists(strategies.text(alphabet="ab€", min_size=1, max_size=4), max_size=3)
# Whole characters, halves of characters, and bytes that begin none.
pieces = strategies.sampled_from(
    [*(letter.encode() for letter in LETTERS), b"\xe2", b"\x82", b"\xf0\x9f", b"\xff", b"a"]
)
contents = strategies.lists(pieces, max_size=25).map(b"".join)


def shown(tokens: Sequence[int], decode: Decode, stops: Sequence[str] = ()) -> str:
    """All that a stream says of these tokens, up to the token at which it says that a stop text came."""
    stream = TextStream(decode, stops)
    text = ""
    for token in tokens:
        text += stream.push(token)
        if stream.stopped:
            return text
    return text + stream.finish()


def truncated(text: str, stops: Sequence[str]) -> str:
    """Up to the stop text that is complete first."""
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends)[1]] if ends else text


class Cutter:
    """A vocabulary made of the pieces that a text was cut into: token i is the i-th piece."""

    def __init__(self, content: bytes, seed: int) -> None:
        random = Random(seed)
        cuts = sorted({0, len(content), *(cut for cut in range(len(content)) if random.random() < 0.5)})
        self.pieces = [content[start:end] for start, end in pairwise(cuts)]

    @property
    def tokens(self) -> range:
        return range(len(self.pieces))

    def decode(self, tokens: list[int]) -> str:
        return b"".join(self.pieces[token] for token in tokens).decode(errors="replace")


@given(content=contents, stops=stop_lists, seed=strategies.integers(0, 99))
@example(content=b"abab", stops=["ba", "abab"], seed=4)
def test_any_cut_gives_the_same_text(content: bytes, stops: list[str], seed: int) -> None:
    cutter = Cutter(content, seed)
    assert shown(cutter.tokens, cutter.decode, stops) == truncated(content.decode(errors="replace"), stops)


@given(content=contents, stops=stop_lists)
@example(content=b"\xff" * 7 + "€".encode(), stops=[])
def test_a_byte_level_tokenizer_gives_the_same_text(
    tokenizer: PreTrainedTokenizerFast, content: bytes, stops: list[str]
) -> None:
    tokens, decode = byte_tokens(tokenizer, content)
    assert shown(tokens, decode, stops) == truncated(content.decode(errors="replace"), stops)


def byte_tokens(tokenizer: PreTrainedTokenizerFast, content: bytes) -> tuple[list[int], Decode]:
    """One token for each byte, also for bytes that are no text."""
    return [tokenizer.convert_tokens_to_ids(LETTER_OF_BYTE[byte]) for byte in content], tokenizer.decode


FALLBACK = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])


def fallback(tokens: list[int]) -> str:
    """How SentencePiece's vocabularies (Llama 2, LLaVA, Gemma) decode: letters, and bytes of what has no letter.

    A run of byte tokens that is no text becomes one replacement character for each byte.
    """
    text: str = FALLBACK.decode([f"<0x{token:02X}>" if token > 127 else chr(token) for token in tokens])
    return text


@pytest.mark.parametrize("text", ["a€b", "€", "你好", "😀😀", "a😀b€c", "é" * 20])
def test_a_vocabulary_that_falls_back_on_bytes(text: str) -> None:
    assert shown(list(text.encode()), fallback) == text


@given(text=strategies.text(alphabet="ab€é😀", max_size=12), stops=stop_lists)
def test_bytes_in_between_do_not_disturb_stop_texts(text: str, stops: list[str]) -> None:
    assert shown(list(text.encode()), fallback, stops) == truncated(text, stops)


def test_a_character_is_shown_when_its_last_byte_came(tokenizer: PreTrainedTokenizerFast) -> None:
    stream = TextStream(tokenizer.decode)
    said = [stream.push(token) for token in tokenizer.encode("a€😀b", add_special_tokens=False)]
    assert said == ["a", "", "", "€", "", "", "", "😀", "b"]
    assert stream.finish() == ""


def test_half_a_character_at_the_end_is_shown_as_such(tokenizer: PreTrainedTokenizerFast) -> None:
    stream = TextStream(tokenizer.decode)
    said = [stream.push(token) for token in tokenizer.encode("a€", add_special_tokens=False)[:-1]]
    assert (said, stream.finish()) == (["a", "", ""], REPLACEMENT)


def test_damaged_bytes_do_not_hold_the_text_back_for_good(tokenizer: PreTrainedTokenizerFast) -> None:
    lead = tokenizer.encode("€", add_special_tokens=False)[0]
    stream = TextStream(tokenizer.decode)
    assert "".join(stream.push(lead) for _ in range(200)).count(REPLACEMENT) > 100


def test_special_tokens_are_not_shown(tokenizer: PreTrainedTokenizerFast) -> None:
    def decode(tokens: list[int]) -> str:
        text: str = tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    tokens = tokenizer.encode("a<|im_end|>b", add_special_tokens=False)
    assert len(tokens) == 3
    assert shown(tokens, decode) == "ab"


@pytest.mark.parametrize(
    ("text", "stops", "said"),
    [
        ("one two", ["two"], "one "),
        ("one two", ["t", "two"], "one "),
        ("aab", ["ab"], "a"),
        ("ababac", ["abac"], "ab"),
        ("abc", ["abcd"], "abc"),
        ("stop", ["stop"], ""),
        ("a€b", ["€"], "a"),
        ("a stop and stop", ["stop"], "a "),
        ("nothing", [], "nothing"),
        ("abcd", ["bc", "abcd"], "a"),
    ],
)
def test_stop_texts(tokenizer: PreTrainedTokenizerFast, text: str, stops: list[str], said: str) -> None:
    for tokens, decode in (
        (tokenizer.encode(text, add_special_tokens=False), tokenizer.decode),
        ([0], lambda tokens: text * len(tokens)),  # all of it in one token
    ):
        stream = TextStream(decode, stops)
        shown = "".join(stream.push(token) for token in tokens) + stream.finish()
        assert shown == said
        assert stream.stopped == (said != text)


def test_only_what_may_begin_a_stop_text_is_held_back() -> None:
    stream = TextStream(lambda tokens: "".join(map(chr, tokens)), ["\n\nUser:", "END"])
    said = [stream.push(ord(letter)) for letter in "Hi\nEN\n\nUsx"]
    assert said == ["H", "i", "", "\n", "", "EN", "", "", "", "\n\nUsx"]


def test_nothing_comes_after_a_stop_text() -> None:
    stream = TextStream(lambda tokens: "".join(map(chr, tokens)), ["b"])
    assert [stream.push(ord(letter)) for letter in "abcab"] == ["a", "", "", "", ""]
    assert (stream.finish(), stream.stopped) == ("", True)


def test_a_neighbour_may_change_how_a_token_is_written() -> None:
    """Some tokenizers write a leading space only after another token."""

    def decode(tokens: list[int]) -> str:
        return "".join(f" {token}" for token in tokens).removeprefix(" ")

    assert shown([1, 2, 3], decode) == "1 2 3"


class Counted(str):
    """A text that counts how often one of its characters is looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> str:
        Counted.looks += 1
        return super().__getitem__(at)


def test_a_long_stop_text_costs_no_more_than_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each character of the answer is compared twice on average, however nearly it is the stop text."""
    monkeypatch.setattr(Counted, "looks", 0)
    stream = TextStream(lambda tokens: "".join(map(chr, tokens)), [Counted("a" * 200 + "b")])
    count = 600
    assert "".join(stream.push(ord("a")) for _ in range(count)) == "a" * (count - 200)
    assert Counted.looks <= 3 * (count + 201)


def test_the_cost_of_a_token_does_not_grow() -> None:
    longest = 0

    def decode(tokens: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(tokens))
        return "".join(map(chr, tokens))

    push: Callable[[int], str] = TextStream(decode, ["zzz"]).push
    for _ in range(1000):
        push(97)
    assert longest <= 4
