"""Answers that follow a grammar: llguidance computes which tokens may come next, only on rank 0.

llguidance takes about 0.02 ms for a token of Qwen's vocabulary and releases the interpreter's lock. Its limits bound
the cost of a hostile grammar: if a request's grammar needs more for one token, only that request fails. The front end
has already rejected grammars that are invalid.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import llguidance
import numpy as np
import torch
from llguidance.hf import from_tokenizer
from transformers import AutoTokenizer

from mmplane.core.errors import Failure, bad_request

log = logging.getLogger("mmplane")

LIMITS = llguidance.LLParserLimits(verbose_errors=False, step_lexer_fuel=50_000)
"""llguidance's own limits, except for the work on one token's mask: about 4 ms at most with Qwen's vocabulary."""
TOO_COMPLEX = bad_request("invalid_value", "this grammar is too complex, or no text can match it")
TOO_MUCH_WORK = bad_request(
    "invalid_value",
    "the answer ended because its grammar takes too much work for one token: use fewer counted repetitions, such "
    "as .{20}, behind parts that match anything",
)


class Grammar:
    """The position of one answer in its grammar."""

    def __init__(self, matcher: Any, vocabulary_size: int, end_tokens: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size
        self._end_tokens = end_tokens

    @property
    def failure(self) -> Failure | None:
        """Why it cannot be followed any further."""
        return TOO_MUCH_WORK.failure() if self._matcher.is_error() else None

    def allowed(self) -> torch.Tensor | None:
        """Which tokens may come next: bool [vocabulary]. A complete answer must end. None if there is a `failure`."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            log.warning("a request fails, because its grammar takes too much work: %s", self._matcher.get_error())
            return None
        allowed = torch.from_numpy(np.unpackbits(bits, count=self._vocabulary_size, bitorder="little")).bool()
        if not allowed.any():
            allowed[sorted(self._end_tokens)] = True
        return allowed

    def advance(self, token: int) -> None:
        """Advance by this token."""
        if token not in self._end_tokens and not self._matcher.is_stopped():
            self._matcher.consume_token(token)

    def fork(self) -> Grammar:
        """A copy at the same position, for another answer."""
        return Grammar(self._matcher.deep_copy(), self._vocabulary_size, self._end_tokens)


class Grammars:
    """Makes grammars for a checkpoint's tokenizer, in a thread, so that the loop of the ranks does not wait."""

    def __init__(self, model_folder: str, vocabulary_size: int, end_tokens: frozenset[int]) -> None:
        self._model_folder = model_folder
        self._vocabulary_size = vocabulary_size
        self._end_tokens = end_tokens
        self._thread = ThreadPoolExecutor(1, "grammars")

    def begin(self, grammar: str) -> Future[Grammar]:
        """Start making it. The future raises RequestError (400) if this tokenizer cannot follow the grammar."""
        return self._thread.submit(self._make, grammar)

    def _make(self, grammar: str) -> Grammar:
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, limits=LIMITS)
        matcher.compute_bitmask()  # the first token needs most of the work
        if matcher.is_error():
            raise TOO_COMPLEX
        return Grammar(matcher, self._vocabulary_size, self._end_tokens)

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(self._model_folder, trust_remote_code=False)
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise bad_request("unsupported_parameter", "this model's tokenizer cannot follow a grammar")
        return from_tokenizer(tokenizer, n_vocab=self._vocabulary_size, eos_token=sorted(self._end_tokens))
