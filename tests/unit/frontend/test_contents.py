"""What a message says arrives in the prompt, whichever form the chat template takes, or the request is refused."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from mmplane.core.errors import RequestError
from mmplane.frontend.body.parts import ImagePart, ImageUrl, TextPart
from mmplane.frontend.body.schema import AssistantMessage, ChatRequest, SystemMessage, UserMessage
from mmplane.frontend.request.contents import Forms
from mmplane.frontend.request.renderer import Renderer
from mutation import mutated

LOOPS = (
    "{% for m in messages %}{{ m.role }}: {% for c in m.content | selectattr('type', 'equalto', 'image') %}<image>"
    "{% endfor %}{% for c in m.content | selectattr('type', 'equalto', 'text') %}{{ c.text }}{% endfor %}"
    "{{ '\n' }}{% endfor %}"
)
"""llava-hf's form: a string has no parts of type `text`."""
STRINGS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
WRITES = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
"""A list arrives as Python writes it."""
FIRST = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content if messages[0].content is string else"
    " messages[0].content[0].text }}{{ '\n' }}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}"
    "{% endif %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{{ c.text }}"
    "{% endfor %}{% endif %}{{ '\n' }}{% endfor %}"
)
"""Gemma 3's: of a system message's parts only the first."""
TOOLS = (
    "{% for m in messages %}{% if m.role == 'tool' %}{% if messages[loop.index0 - 1].tool_calls is undefined %}"
    "{{ raise_exception('no call') }}{% endif %}{% for c in m.content %}{{ c.text }}{% endfor %}{% else %}"
    "{{ m.content }}{% endif %}{{ '\n' }}{% endfor %}"
)
"""Strings, but a tool's answer in parts, and only after a call."""
NO_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m.content }}\n{% endfor %}"
PICTURE = ImagePart(image_url=ImageUrl.of("data:"))


def rendered(tokenizer: PreTrainedTokenizerFast, template: str, *messages: Any, **options: Any) -> str:
    request = ChatRequest(model="tiny", messages=list(messages))
    text: str = tokenizer.decode(Renderer(tokenizer, template, 1000, **options).render(request))
    return text


PARTS = [TextPart("one"), TextPart("two")]
CONVERSATION = (SystemMessage("Be kind."), UserMessage("What?"), AssistantMessage("A cat."), UserMessage("Why?"))
IN_PARTS = tuple(type(each)([TextPart(each.content)]) for each in CONVERSATION)  # type: ignore[arg-type]


@pytest.mark.parametrize("as_vllm", [False, True])
@pytest.mark.parametrize("template", [LOOPS, STRINGS, WRITES, FIRST])
@pytest.mark.parametrize("conversation", [CONVERSATION, IN_PARTS], ids=["strings", "parts"])
def test_every_text_arrives(
    tokenizer: PreTrainedTokenizerFast, template: str, conversation: tuple[Any, ...], as_vllm: bool
) -> None:
    text = rendered(tokenizer, template, *conversation, as_vllm=as_vllm)
    first = "" if template == FIRST else "system: "
    assert text == f"{first}Be kind.\nuser: What?\nassistant: A cat.\nuser: Why?\n"


@pytest.mark.parametrize(
    ("template", "text"), [(LOOPS, "onetwo"), (STRINGS, "one\ntwo"), (WRITES, "one\ntwo"), (FIRST, "onetwo")]
)
def test_parts_of_text_are_joined_where_the_template_takes_strings(
    tokenizer: PreTrainedTokenizerFast, template: str, text: str
) -> None:
    assert rendered(tokenizer, template, UserMessage(PARTS)) == f"user: {text}\n"


def test_parts_are_joined_in_one_where_the_template_shows_the_first(tokenizer: PreTrainedTokenizerFast) -> None:
    text = rendered(tokenizer, FIRST, SystemMessage(PARTS), UserMessage("x"))
    assert text == "one\ntwo\nuser: x\n"


def test_a_picture_beside_a_string_keeps_its_place(tokenizer: PreTrainedTokenizerFast) -> None:
    text = rendered(tokenizer, LOOPS, SystemMessage("Be kind."), UserMessage([PICTURE, TextPart("What?")]))
    assert text == "system: Be kind.\nuser: <image>What?\n"


def test_vllm_sees_parts_alone_where_a_template_takes_both(tokenizer: PreTrainedTokenizerFast) -> None:
    told = "{% for m in messages %}{{ 'string' if m.content is string else 'parts' }}{{ m.content if m.content is string else m.content[0].text }}{% endfor %}"  # noqa: E501
    assert rendered(tokenizer, told, UserMessage("x")) == "stringx"
    assert rendered(tokenizer, told, UserMessage("x"), as_vllm=True) == "partsx"


def test_a_tools_answer_arrives_in_its_own_form(tokenizer: PreTrainedTokenizerFast) -> None:
    forms = Renderer(tokenizer, TOOLS, 1000)._forms
    assert forms.fit("tool", "42") == [{"type": "text", "text": "42"}]
    assert forms.fit("user", "42") == "42"


def test_a_role_that_the_template_drops_is_a_400(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(RequestError) as refused:
        rendered(tokenizer, NO_SYSTEM, SystemMessage("Be kind."), UserMessage("x"))
    assert (refused.value.status, refused.value.code) == (400, "invalid_messages")
    assert "drops messages of this role" in refused.value.message
    assert rendered(tokenizer, NO_SYSTEM, UserMessage("x")) == "x\n"


@pytest.mark.parametrize("template", ["USER: ASSISTANT:", "{{ raise_exception('no') }}", "{{ messages[0].name }}"])
def test_a_template_that_shows_no_users_text_is_refused_at_start(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    with pytest.raises(ValueError, match="neither as a string nor as parts"):
        Renderer(tokenizer, template, 1000)._forms.check()


def test_a_mutant_that_leaves_strings_as_they_are(tokenizer: PreTrainedTokenizerFast) -> None:
    old = '"content": self._forms.fit(role, content)'
    with mutated(Renderer._turn, old, '"content": content'), pytest.raises(AssertionError):
        test_every_text_arrives(tokenizer, LOOPS, CONVERSATION, False)


def test_a_mutant_that_takes_a_written_list_for_its_text(tokenizer: PreTrainedTokenizerFast) -> None:
    with mutated(Forms._shows, "DUMPED not in text and ", ""), pytest.raises(AssertionError):
        test_every_text_arrives(tokenizer, WRITES, IN_PARTS, False)


# The token before a text.


class Starting:
    """A tokenizer that puts its first token before every text, as Llama's does."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self.bos_token_id = tokenizer.convert_tokens_to_ids("<|im_start|>")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str) -> Any:
        encoded = self._tokenizer(text)
        encoded["input_ids"] = [self.bos_token_id, *encoded["input_ids"]]
        return encoded


@pytest.mark.parametrize("template", [WRITES, "<|im_start|>" + WRITES])
def test_a_prompt_begins_with_the_tokenizers_first_token_once(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    starting: Any = Starting(tokenizer)
    assert rendered(starting, template, UserMessage("x")) == "<|im_start|>user: x\n"


def test_vllm_adds_no_first_token(tokenizer: PreTrainedTokenizerFast) -> None:
    starting: Any = Starting(tokenizer)
    assert rendered(starting, WRITES, UserMessage("x"), as_vllm=True) == "user: x\n"
