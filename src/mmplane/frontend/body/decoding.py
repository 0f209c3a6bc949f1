"""The sampling options of a request: OpenAI's fields, and those that vLLM and SGLang add."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mmplane.core.errors import bad_request
from mmplane.core.plan import Sampling
from mmplane.frontend.body.form import FormFields

SAMPLES_MAX = 16
STOPS_MAX = 4
STRING_MAX = 1024
"""Maximum characters of a stop text, a model's name and the like."""
BIASES_MAX = 512
END_TOKENS_MAX = 64
LOGPROBS_MAX = 20
TOKEN_MAX = 2**31 - 1

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Short = Annotated[str, msgspec.Meta(max_length=STRING_MAX)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Token = Annotated[int, msgspec.Meta(ge=0, le=TOKEN_MAX)]
TokenName = Annotated[str, msgspec.Meta(pattern=r"^\d{1,9}$")]
"""A token id as a key of a JSON object."""


class Decoding(FormFields, kw_only=True, omit_defaults=True):
    """The fields of a request that control sampling and the form of its answer. All may be null."""

    n: Annotated[int, msgspec.Meta(ge=1, le=SAMPLES_MAX)] | None = None
    max_tokens: Positive | None = None
    min_tokens: Natural | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """0 selects the most likely token, like a temperature of 0."""
    top_k: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    """-1 and 0: all tokens."""
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Short | Annotated[list[Short], msgspec.Meta(max_length=STOPS_MAX)] | None = None
    stop_token_ids: Annotated[list[Token], msgspec.Meta(max_length=END_TOKENS_MAX)] | None = None
    ignore_eos: bool | None = None
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=10)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: (
        Annotated[dict[TokenName, Annotated[float, msgspec.Meta(ge=-100, le=100)]], msgspec.Meta(max_length=BIASES_MAX)]
        | None
    ) = None

    def __post_init__(self) -> None:
        if self.top_p == 0:
            self.temperature, self.top_p = 0.0, None

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)

    def sampling(
        self,
        *,
        tokens_max: int,
        seed: int,
        vocabulary_tokens: int,
        ignore_end: bool = False,
        logprobs: int | None = None,
        grammar: str = "",
    ) -> Sampling:
        """Return the sampling options for the ranks. Raises RequestError (400) for unknown tokens."""
        self._check(tokens_max, vocabulary_tokens)
        return Sampling(
            tokens_max=tokens_max,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=seed if self.seed is None else self.seed,
            samples=self.n or 1,
            ignore_end=bool(ignore_end or self.ignore_eos),
            tokens_min=self.min_tokens or 0,
            top_k=max(self.top_k or 0, 0),
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
            end_tokens=tuple(self.stop_token_ids or ()),
            logprobs=logprobs,
            grammar=grammar,
        )

    def _check(self, tokens_max: int, vocabulary_tokens: int) -> None:
        if (self.min_tokens or 0) > tokens_max:
            raise bad_request("invalid_value", "min_tokens is more than the answer may have", "min_tokens")
        for name, tokens in (("stop_token_ids", self.stop_token_ids), ("logit_bias", self.logit_bias)):
            if any(int(token) >= vocabulary_tokens for token in tokens or ()):
                raise bad_request("invalid_value", f"the model has {vocabulary_tokens} tokens, from 0 on", name)
