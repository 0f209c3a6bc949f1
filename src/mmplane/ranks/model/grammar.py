"""Answers that follow a grammar: which tokens may come next, by llguidance, on rank 0 alone.

llguidance takes about 0.02 ms for a token of Qwen's vocabulary and lets go of the interpreter's lock. Its limits bound
what a hostile grammar may cost; the front end has already refused grammars that are wrong in themselves.
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

from mmplane.core.errors import bad_request

log = logging.getLogger("mmplane")

LIMITS = llguidance.LLParserLimits(verbose_errors=False)


class Grammar:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: Any, vocabulary_size: int, end_tokens: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size
        self._end_tokens = end_tokens

    def allowed(self) -> torch.Tensor:
        """Which tokens may come next: bool [vocabulary]. A complete answer, and one that is too complex, must end."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = torch.from_numpy(np.unpackbits(bits, count=self._vocabulary_size, bitorder="little")).bool()
        if self._matcher.is_error():
            log.warning("an answer ends, because its grammar is too complex: %s", self._matcher.get_error())
            allowed[:] = False
        if not allowed.any():
            allowed[sorted(self._end_tokens)] = True
        return allowed

    def advance(self, token: int) -> None:
        """This token has come."""
        if token not in self._end_tokens:
            self._matcher.consume_token(token)

    def fork(self) -> Grammar:
        """The same place, for another answer."""
        return Grammar(self._matcher.deep_copy(), self._vocabulary_size, self._end_tokens)


class Grammars:
    """Makes grammars for a checkpoint's tokenizer, in a thread: the loop of the ranks does not wait for it."""

    def __init__(self, model_folder: str, vocabulary_size: int, end_tokens: frozenset[int]) -> None:
        self._model_folder = model_folder
        self._vocabulary_size = vocabulary_size
        self._end_tokens = end_tokens
        self._thread = ThreadPoolExecutor(1, "grammars")

    def begin(self, grammar: str) -> Future[Grammar]:
        """Begin to make it. The future raises RequestError (400) for one that this tokenizer cannot follow."""
        return self._thread.submit(self._make, grammar)

    def _make(self, grammar: str) -> Grammar:
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, limits=LIMITS)
        matcher.compute_bitmask()  # most of the work is done at the first token
        if matcher.is_error():
            raise bad_request("invalid_value", "this grammar is too complex, or no text of it can be written")
        return Grammar(matcher, self._vocabulary_size, self._end_tokens)

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(self._model_folder, trust_remote_code=False)
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise bad_request("unsupported_parameter", "this model's tokenizer cannot follow a grammar")
        return from_tokenizer(tokenizer, n_vocab=self._vocabulary_size, eos_token=sorted(self._end_tokens))
