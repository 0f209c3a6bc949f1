"""Renders messages to token ids with the checkpoint's own chat template and tokenizer.

Both take time in proportion to the text: more than a second for a megabyte. A text that is too long for the model's
context is therefore refused by its number of characters before it is tokenised, and only short prompts (`is_short`) are
rendered on an event loop.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from itertools import groupby
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from mmplane.config import Config
from mmplane.core.errors import RequestError, bad_request
from mmplane.frontend.body.completion import CompletionRequest
from mmplane.frontend.body.parts import AnyPart, AudioUrlPart, ImagePart, MediaPart, TextPart
from mmplane.frontend.body.request import Request
from mmplane.frontend.body.schema import AssistantMessage, ChatRequest, ToolMessage, UserMessage
from mmplane.frontend.body.tools import ToolCall
from mmplane.frontend.request.contents import Forms

Ids = npt.NDArray[np.int32]
Turns = list[dict[str, Any]]
Options = dict[str, Any]
"""Options that a request passes to the template beside its messages: arguments of `apply_chat_template`."""

PROMPT_END = -1
"""Separates the ids of several prompts. No token has this number."""
SHORT_CHARACTERS_MAX = 1024
SHORT_PIECES_MAX = 16
"""Maximum messages and parts of a short prompt."""


def is_short(request: Request) -> bool:
    """Whether rendering the prompt takes at most about a millisecond."""
    return request.pieces <= SHORT_PIECES_MAX and request.text_characters <= SHORT_CHARACTERS_MAX


class Renderer:
    """A checkpoint's tokenizer and chat template. `context_tokens` limits a prompt together with its answer.

    `as_vllm`: write prompts like vLLM if transformers' own processors differ.
    """

    def __init__(self, tokenizer: Any, chat_template: str, context_tokens: int, *, as_vllm: bool = False) -> None:
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self._chat_template = chat_template
        self._forms = Forms(self._text, parts_first=as_vllm)
        self._as_vllm = as_vllm
        self._encode_plain: Callable[[Turns], list[int]] | None = None

    @classmethod
    def load(cls, config: Config) -> Self:
        """Read it from the model's folder. Raises ValueError or OSError if it cannot be served."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads only help with batches, and these processes are forked
        folder = config.model_folder
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        described = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
        context_tokens = config.context_tokens_max or int(described.max_position_embeddings)
        template = chat_template_of(tokenizer, folder)
        renderer = cls(tokenizer, template, context_tokens, as_vllm=config.kind == "sidecar")
        renderer._forms.check()
        return renderer

    @cached_property
    def characters_max(self) -> int:
        """More characters never fit the context, because no token is longer than the longest in the vocabulary.

        Added tokens do not count, because they remain text if a user writes them.
        """
        vocabulary = self.tokenizer.get_vocab().keys() - self.tokenizer.added_tokens_encoder.keys()
        return self.context_tokens * max(map(len, vocabulary))

    @cached_property
    def vocabulary_tokens(self) -> int:
        """Number of tokens that a client can name, starting at 0."""
        return len(self.tokenizer)

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """Tokens that a template writes and a user cannot."""
        return tuple(token.content for token in self.tokenizer.added_tokens_decoder.values())

    @cached_property
    def _control(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, filter(None, self.control_tokens))) or "(?!)")

    @cached_property
    def _start(self) -> list[int]:
        """The token that the tokenizer puts before every text. Processors add it if the template does not."""
        start = self.tokenizer.bos_token_id
        return [start] if not self._as_vllm and self.tokenizer("x").input_ids[:1] == [start] else []

    def _is_plain(self, text: str) -> bool:
        """Whether transformers tokenises this text as it is, without control tokens or its own marks around them."""
        return not self._control.search(text) and (text.isascii() or not _MARKS.search(text))

    def warm(self) -> None:
        """Compile the template, import its dependencies, and find out whether plain texts can be tokenised faster."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None and self._agrees(partial(self._by_backend, backend)):
            self._encode_plain = partial(self._by_backend, backend)

    def _agrees(self, encode: Callable[[Turns], list[int]]) -> bool:
        """Whether the fast way matches transformers, in some conversations that the template accepts."""
        agreed = False
        for content in _TRIED:
            with suppress(Exception):  # a template may need more than this
                turns = [self._turn(UserMessage(content))]
                if self._by_transformers(turns) != encode(turns):
                    return False
                agreed = True
        return agreed

    def check_length(self, request: ChatRequest | CompletionRequest) -> None:
        """Raise RequestError (400) for more characters than can fit the context. Cheap."""
        if isinstance(request, ChatRequest):
            characters = request.text_characters
        else:
            characters = max(map(self._characters, request.prompts))
        if characters > self.characters_max:
            raise self._too_long(f"{characters} characters", request)

    def _characters(self, prompt: str | list[int]) -> int:
        """Number of characters of a prompt without a template; a control token in it counts as one token."""
        return len(self._control.sub("x", prompt) if isinstance(prompt, str) else prompt)

    def render(self, request: ChatRequest | CompletionRequest) -> Ids:
        """Return the ids of the prompt, or of several with PROMPT_END between them. Raises RequestError (400)."""
        if isinstance(request, ChatRequest):
            return self._render_chat(request)
        self.check_length(request)
        ids: list[int] = []
        for prompt in request.prompts:
            ids += [PROMPT_END] * bool(ids) + self._plain(prompt, request)
        return np.asarray(ids, dtype=np.int32)

    def _plain(self, prompt: str | list[int], request: Request) -> list[int]:
        """Tokenise a prompt without a template. Control tokens in it count as such: all of it is the client's."""
        ids = prompt if isinstance(prompt, list) else self._by_tokenizer(prompt)
        if not ids:
            raise bad_request("invalid_value", "the prompt is empty", "prompt")
        if len(ids) > self.context_tokens:
            raise self._too_long(f"{len(ids)} tokens", request)
        if max(ids) >= self.vocabulary_tokens:
            raise bad_request("invalid_value", f"the model has {self.vocabulary_tokens} tokens, from 0 on", "prompt")
        return ids

    def _by_tokenizer(self, text: str) -> list[int]:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None and backend.encode_special_tokens:  # left by an earlier sanitising
            backend.encode_special_tokens = False
        ids: list[int] = self.tokenizer(text).input_ids
        return ids

    def _render_chat(self, request: ChatRequest) -> Ids:
        """Return the prompt's ids before expansion, with one placeholder per item.

        Special tokens that a user *writes* remain text (`sanitize_control_tokens`). Otherwise a message could end its
        own turn, or refer to an image that nobody sent. Raises RequestError (400) if the template does not accept the
        conversation, or the prompt is longer than the context.
        """
        self.check_length(request)
        options = self._options(request)
        turns = [self._turn(message) for message in request.messages]
        plain = options is _NO_OPTIONS and all(map(self._is_plain, _texts(turns)))
        try:
            if plain and self._encode_plain is not None:
                encoded = self._encode_plain(turns)
            else:
                encoded = self._by_transformers(turns, options)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - a template raises what it likes
            raise bad_request("invalid_messages", "the model's chat template does not take these messages") from None
        if self._start and encoded[:1] != self._start:
            encoded = self._start + encoded
        if len(encoded) > self.context_tokens:
            raise self._too_long(f"{len(encoded)} tokens", request)
        return np.asarray(encoded, dtype=np.int32)

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template shows tools to the model."""
        tools = [{"type": "function", "function": {"name": _TOOL, "description": "", "parameters": {}}}]
        with suppress(Exception):  # a template may raise anything
            return _TOOL in self._text([self._turn(UserMessage("x"))], {"tools": tools})
        return False

    def _options(self, request: ChatRequest) -> Options:
        """Raise RequestError (400) for what the template cannot do, and for names that are not the template's."""
        options: Options = dict(_object(request.chat_template_kwargs, "chat_template_kwargs"))
        if unknown := options.keys() & _ARGUMENTS:
            raise bad_request(
                "invalid_value", f"{min(unknown)} is not a variable of a chat template", "chat_template_kwargs"
            )
        if request.tool_list:
            if not self.takes_tools:
                raise bad_request("unsupported_parameter", "the model's chat template does not support tools", "tools")
            options["tools"] = msgspec.json.decode(request.tools)
        if request.continue_final_message:
            if request.add_generation_prompt:
                raise bad_request("invalid_value", "a continued message needs no prompt", "add_generation_prompt")
            options |= {"continue_final_message": True, "add_generation_prompt": False}
        elif request.add_generation_prompt is False:
            options["add_generation_prompt"] = False
        self._check_keys(options)
        return options or _NO_OPTIONS

    def _check_keys(self, value: Any) -> None:
        """Control tokens in texts become text, but transformers does not sanitise the keys of objects."""
        if isinstance(value, dict):
            if any(self._control.search(key) for key in value):
                raise bad_request("invalid_value", "a key of an object must not contain a control token")
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                self._check_keys(each)

    def _by_transformers(self, turns: Turns, options: Options | None = None) -> list[int]:
        ids: list[int] = self.tokenizer.apply_chat_template(
            turns,
            chat_template=self._chat_template,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
            **{"add_generation_prompt": True, **(options or {})},
        )
        return ids

    def _by_backend(self, backend: Any, turns: Turns) -> list[int]:
        """The same, faster, if there is nothing to sanitise."""
        if backend.encode_special_tokens:  # left by an earlier sanitising
            backend.encode_special_tokens = False
        ids: list[int] = backend.encode(self._text(turns), add_special_tokens=False).ids
        return ids

    def _text(self, turns: Turns, options: Options | None = None) -> str:
        text: str = self.tokenizer.apply_chat_template(
            turns, chat_template=self._chat_template, add_generation_prompt=True, tokenize=False, **(options or {})
        )
        return text

    def _turn(self, message: Any) -> dict[str, Any]:
        tag = type(message).__struct_config__.tag
        role = "system" if tag == "developer" else tag
        content: Any = message.content
        if not isinstance(content, str):
            content = [_part(part) for part in _whole_tokens(content, self.control_tokens)]
        more: dict[str, Any] = {"name": message.name} if message.name else {}
        if isinstance(message, AssistantMessage) and message.tool_calls:
            more["tool_calls"] = [self._call(call) for call in message.tool_calls]
        if isinstance(message, ToolMessage) and message.tool_call_id:
            more["tool_call_id"] = message.tool_call_id
        return {"role": role, "content": self._forms.fit(role, content), **more}

    def _call(self, call: ToolCall) -> dict[str, Any]:
        """Convert a call to the form that templates expect: arguments as an object if they are one."""
        arguments: Any = call.function.arguments
        with suppress(msgspec.DecodeError, RecursionError):
            arguments = msgspec.json.decode(arguments or "{}")
        self._check_keys(arguments)
        named = {"id": call.id} if call.id else {}
        return {**named, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}

    def _too_long(self, length: str, request: Request) -> RequestError:
        message = f"the prompt has {length}, but the model's context is {self.context_tokens} tokens"
        return bad_request("context_length_exceeded", message, request.prompt_field)


def chat_template_of(tokenizer: Any, model_folder: str) -> str:
    """Return the checkpoint's chat template, from its tokenizer or its processor. Raises ValueError if it has none."""
    template = tokenizer.chat_template or _template_of_processor(model_folder)
    if not isinstance(template, str):
        raise ValueError("this checkpoint has no chat template")
    return template


def _template_of_processor(model_folder: str) -> Any:
    from transformers.processing_utils import ProcessorMixin  # which imports torch

    return ProcessorMixin.get_processor_dict(model_folder)[0].get("chat_template")


def _whole_tokens(parts: list[AnyPart], control_tokens: tuple[str, ...]) -> Iterator[AnyPart]:
    """Join neighbouring texts, if the template would otherwise create a special token from them."""
    for is_text, run in groupby(parts, key=lambda part: isinstance(part, TextPart)):
        run_parts = list(run)
        if is_text and len(run_parts) > 1:
            texts = [part.text for part in run_parts if isinstance(part, TextPart)]
            whole = "".join(texts)
            if any(whole.count(token) > sum(text.count(token) for text in texts) for token in control_tokens):
                run_parts = [TextPart(whole)]
        yield from run_parts


def _texts(turns: Turns) -> Iterator[str]:
    """All texts that a user has typed."""
    for turn in turns:
        yield turn.get("name", "")
        yield from (_control_text(call) for call in turn.get("tool_calls", ()))
        content = turn["content"]
        if isinstance(content, str):
            yield content
        else:
            yield from (part["text"] for part in content if "text" in part)


def _control_text(call: dict[str, Any]) -> str:
    return msgspec.json.encode(call).decode()


def _object(raw: msgspec.Raw, name: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("invalid_json", f"{name} is not valid JSON", name) from None
    if not isinstance(value, dict | None):
        raise bad_request("invalid_value", f"{name} must be an object", name)
    return value or {}


_NO_OPTIONS: Options = {}
_TOOL = "mmplanetool"
"""A name that no template uses."""
_ARGUMENTS = frozenset(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters)
_MARKS = re.compile("[\U000f0000-\U0010ffff]")
"""Private characters: transformers puts some of them around control tokens that a user has typed."""
_TRIED: tuple[str | list[AnyPart], ...] = (
    "Hello",
    " naïve: ☃\n\n\t1234567890  ",
    [TextPart("What is this?"), ImagePart(uuid="x"), TextPart(" And this? ")],
    [AudioUrlPart(uuid="x"), TextPart("What is said?")],
)
"""Conversations on which the two ways to tokenise are compared."""


def _part(part: AnyPart) -> dict[str, str]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    assert isinstance(part, MediaPart)
    return {"type": part.modality}
