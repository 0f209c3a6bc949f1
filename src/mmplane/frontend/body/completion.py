"""The body of a text completion: a prompt without a chat template, as text or as tokens, or several of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from mmplane.core.errors import bad_request
from mmplane.frontend.body.decoding import LOGPROBS_MAX, SAMPLES_MAX, Token
from mmplane.frontend.body.request import Request
from mmplane.frontend.body.unused import NOTHING, Unused

PROMPTS_MAX = 16

Tokens = Annotated[list[Token], msgspec.Meta(min_length=1)]


class CompletionRequest(Request, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The body of POST /v1/completions: supported fields first, then fields that are not built."""

    tokens_default: ClassVar[int] = 16
    answers_prompt: ClassVar[bool] = True
    prompt_field: ClassVar[str] = "prompt"

    prompt: str | Annotated[list[str | Token | Tokens], msgspec.Meta(min_length=1)]
    echo: bool | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=LOGPROBS_MAX)] | None = None

    add_special_tokens: Unused = NOTHING
    best_of: Unused = NOTHING
    include_stop_str_in_output: Unused = NOTHING
    length_penalty: Unused = NOTHING
    priority: Unused = NOTHING
    prompt_embeds: Unused = NOTHING
    prompt_logprobs: Unused = NOTHING
    skip_special_tokens: Unused = NOTHING
    spaces_between_special_tokens: Unused = NOTHING
    suffix: Unused = NOTHING
    truncate_prompt_tokens: Unused = NOTHING
    use_beam_search: Unused = NOTHING

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """Each prompt: a text, or tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return self.prompt  # type: ignore[return-value]

    @property
    def likely_tokens(self) -> int | None:
        """Number of log probabilities in OpenAI's older form, or None."""
        return self.logprobs

    @property
    def text_characters(self) -> int:
        """Characters of all prompts together."""
        return sum(map(len, self.prompts))

    @property
    def pieces(self) -> int:
        """The prompts."""
        return len(self.prompts)

    def let_go(self) -> None:
        """Drop the prompts, unless they have to be echoed."""
        if not self.echo:
            self.prompt = ""

    def check(self) -> None:
        """Check limits and unsupported options. Raises RequestError (400)."""
        if not isinstance(self.prompt, str) and len(set(map(type, self.prompt))) > 1:
            raise bad_request(
                "invalid_value", "a list of prompts must contain texts, tokens, or lists of tokens", "prompt"
            )
        if self.pieces > PROMPTS_MAX or self.pieces * self.samples > SAMPLES_MAX:
            message = f"a request may have at most {PROMPTS_MAX} prompts, and {SAMPLES_MAX} answers in all"
            raise bad_request("invalid_value", message, "prompt")
        if self.echo and self.logprobs is not None:
            raise bad_request(
                "unsupported_parameter", "this server does not return log probabilities of a prompt", "echo"
            )
