"""What a chat request may say. Nothing that OpenAI's clients can send is ignored, and nothing is answered at length."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartInputAudioParam,
    ChatCompletionContentPartRefusalParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionMessage,
    ChatCompletionSystemMessageParam,
    ChatCompletionUserMessageParam,
    ParsedChatCompletionMessage,
)
from openai.types.chat.chat_completion_content_part_param import File
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from mmplane.core.errors import RequestError
from mmplane.core.records import Ask
from mmplane.frontend.body.parts import inline
from mmplane.frontend.body.schema import AssistantMessage, ChatRequest, parse

MESSAGES = [{"role": "user", "content": "Hello"}]
BUILT: dict[str, Any] = {
    "model": "tiny",
    "messages": MESSAGES,
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 16,
    "max_tokens": 1,
    "max_completion_tokens": 1,
    "temperature": 2,
    "top_p": 0.001,
    "seed": -(2**63),
    "stop": ["a", "b", "c", "d"],
    "user": "somebody",
    "metadata": {"key": "value"},
    "prompt_cache_key": "somebody's chat",
    "prompt_cache_retention": "24h",
    "safety_identifier": "x" * 1024,
    "service_tier": "flex",
    "frequency_penalty": -2,
    "presence_penalty": 2,
    "logit_bias": {"5": -100, "6": 100},
    "logprobs": True,
    "top_logprobs": 20,
    "tools": [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "look_up"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
}
"""Every field of OpenAI's that does something here, or is a hint, with a value at its limit."""

NEUTRAL: list[tuple[str, Any]] = [
    ("frequency_penalty", 0),
    ("frequency_penalty", 0.0),
    ("presence_penalty", 0),
    ("logit_bias", {}),
    ("logprobs", False),
    ("top_logprobs", 0),
    ("modalities", ["text"]),
    ("response_format", {"type": "text"}),
    ("service_tier", "auto"),
    ("service_tier", "default"),
    ("store", False),
    ("tools", []),
    ("functions", []),
    ("tool_choice", "none"),
    ("function_call", "none"),
    ("parallel_tool_calls", True),
    ("parallel_tool_calls", False),
    ("prompt_cache_options", {"mode": "explicit", "ttl": "30m"}),
    ("prompt_cache_options", "x"),
    ("reasoning_effort", "none"),
    ("verbosity", "medium"),
]
"""Not built, but these values ask for what happens anyway."""

OPENAI = tuple(CompletionCreateParamsBase.__annotations__)
NOT_BUILT = tuple(name for name in OPENAI if name not in BUILT)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "messages": MESSAGES} | fields).encode()


def refusal(content: bytes, *statuses: int) -> RequestError:
    with pytest.raises(RequestError) as refused:
        parse(content)
    assert refused.value.status in (statuses or (400,))
    assert len(refused.value.message) < 300
    assert len(refused.value.param or "") < 300
    return refused.value


def test_the_least_request() -> None:
    request = parse(body())
    assert (request.model, request.messages[0].content, request.stops, request.media) == ("tiny", "Hello", (), [])
    assert not request.stream


@pytest.mark.parametrize("name", BUILT)
def test_every_built_field_is_taken(name: str) -> None:
    fields = {"stream": True, name: BUILT[name]}
    assert getattr(parse(body(**fields)), name) is not None


def test_every_field_that_openais_client_knows_is_known() -> None:
    """An update of the client with a new field fails here, not at a user's."""
    assert set(OPENAI) - set(ChatRequest.__struct_fields__) == set()


@pytest.mark.parametrize("name", NOT_BUILT)
@pytest.mark.parametrize("value", [{"type": "x"}, ["x"], "x", 1.5, 7, True])
def test_a_field_that_is_not_built_is_refused_by_name(name: str, value: Any) -> None:
    if any(name == neutral and value == same for neutral, same in NEUTRAL) or name == "prompt_cache_options":
        return
    error = refusal(body(**{name: value}))
    assert (error.code, error.param) == ("unsupported_parameter", name)
    assert name in error.message


@pytest.mark.parametrize(("name", "value"), NEUTRAL)
def test_a_neutral_value_passes(name: str, value: Any) -> None:
    parse(body(**{name: value}))


OPTIONAL = [name for name in OPENAI if name not in ("model", "messages")]


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_always_passes(name: str) -> None:
    assert parse(body(**{name: None})) == parse(body())


@pytest.mark.parametrize("name", NOT_BUILT)
@pytest.mark.parametrize("value", ["", [], {}, {"x": None}, [{"x": []}]])
def test_what_is_not_built_may_be_empty(name: str, value: Any) -> None:
    assert parse(body(**{name: value})) == parse(body())


PARAMS = {
    "system": ChatCompletionSystemMessageParam,
    "developer": ChatCompletionDeveloperMessageParam,
    "user": ChatCompletionUserMessageParam,
    "assistant": ChatCompletionAssistantMessageParam,
}
MESSAGE_FIELDS = {
    (role, field) for role, params in PARAMS.items() for field in params.__annotations__ if field != "role"
} | {("assistant", field) for field in ParsedChatCompletionMessage.model_fields if field != "role"}
"""Every field that OpenAI's client knows in a message, sent or received."""


@pytest.mark.parametrize(("role", "field"), sorted(MESSAGE_FIELDS))
@pytest.mark.parametrize("value", [None, "", [], {}])
def test_every_field_of_a_message_may_be_empty(role: str, field: str, value: Any) -> None:
    if value in ([], {}) and field in ("name", "content"):
        return
    (message,) = parse(body(messages=[{"role": role, "content": "Hi"} | {field: value}])).messages
    assert message.content == ("" if field == "content" else "Hi")
    assert not message.name


FIELDS_OF_PARTS = sorted(
    {
        field
        for params in (
            ChatCompletionContentPartTextParam,
            ChatCompletionContentPartImageParam,
            ChatCompletionContentPartInputAudioParam,
            ChatCompletionContentPartRefusalParam,
            File,
        )
        for field in params.__annotations__
        if field != "type"
    }
    | {"video_url", "audio_url", "image_embeds", "annotations"}
)
SAID = [
    {"type": "text", "text": "Hi"},
    {"type": "image_url", "image_url": {"url": "x"}},
    {"type": "video_url", "video_url": {"url": "x"}},
    {"type": "audio_url", "audio_url": {"url": "x"}},
    {"type": "input_audio", "input_audio": {"data": "x"}},
    {"type": "image_embeds", "image_embeds": "x"},
]


@pytest.mark.parametrize("part", SAID, ids=lambda part: part["type"])
@pytest.mark.parametrize("value", [None, "", [], {}])
def test_a_part_may_have_the_fields_of_all_others_empty(part: dict[str, Any], value: Any) -> None:
    (request,) = (parse(of(dict.fromkeys(FIELDS_OF_PARTS, value) | part)),)
    assert request == parse(of(part))


@pytest.mark.parametrize("field", FIELDS_OF_PARTS)
def test_a_part_may_not_have_what_belongs_to_another(field: str) -> None:
    if field != "prompt_cache_breakpoint":
        for part in SAID:
            if field not in part:
                path = f"messages[0].content[0].{field}"
                error = refusal(of({field: {"x": "y"}} | part))
                assert (error.code, error.param) == ("unsupported_parameter", path)


def test_hints_of_parts_are_accepted() -> None:
    hints = {"cache_control": {"type": "ephemeral"}, "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}
    for part in SAID:
        assert parse(of(part | hints)) == parse(of(part))


def test_an_answer_is_sent_back_as_openais_client_holds_it() -> None:
    answer = ChatCompletionMessage(role="assistant", content="A cat.", refusal=None)
    for said in (answer.model_dump(), answer.model_dump(exclude_unset=True), {"role": "assistant", "content": None}):
        message = parse(body(messages=[MESSAGES[0], said, MESSAGES[0]])).messages[1]
        assert message.content == (said["content"] or "")


def test_top_p_of_0_takes_the_likeliest_token() -> None:
    request = parse(body(top_p=0, temperature=1.5))
    assert (request.temperature, request.top_p) == (0, None)


def test_names_count_as_text() -> None:
    messages = [{"role": "user", "content": "Hi", "name": "Ann"}] * 2
    request = parse(body(messages=messages))
    assert ([message.name for message in request.messages], request.text_characters) == (["Ann", "Ann"], 10)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"surprise": 1}, "surprise"),
        ({"mmplane": {"surprise": 1}}, "mmplane.surprise"),
        ({"stream": True, "stream_options": {"surprise": 1}}, "stream_options.surprise"),
        ({"messages": [{"role": "user", "content": "x", "surprise": 1}]}, "messages[0].surprise"),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"surprise": 1}]}]},
            "messages[0].tool_calls[0].surprise",
        ),
        ({"messages": [{"role": "assistant", "content": "x", "refusal": "No."}]}, "messages[0].refusal"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [{"id": 1}]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "surprise": 1}]}]},
            "messages[0].content[0].surprise",
        ),
    ],
)
def test_an_unknown_field_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    error = refusal(body(**fields))
    assert (error.code, error.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [MESSAGES[0]] * 4097}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "oracle", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0]"),
        ({"messages": [MESSAGES[0], {"role": "user"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "x" * 1025}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"stream": "yes"}, "stream"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"service_tier": "first class"}, "service_tier"),
        ({"safety_identifier": "x" * 1025}, "safety_identifier"),
        ({"top_p": 1.1}, "top_p"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 2**200}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"metadata": {"key": 5}}, "metadata[...]"),
        ({"metadata": {"key": "x" * 1025}}, "metadata[...]"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"user": "x" * 1025}, "user"),
        ({"model": "x" * 1025}, "model"),
        ({"stop": "x" * 1025}, "stop"),
        ({"stop": ["x" * 1025]}, "stop[0]"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    error = refusal(body(**fields))
    assert (error.code, error.param) == ("invalid_value", param)


def test_a_missing_model_is_refused() -> None:
    assert "model" in refusal(json.dumps({"messages": MESSAGES}).encode()).message


def of(*content: dict[str, Any]) -> bytes:
    return body(messages=[{"role": "user", "content": list(content)}])


def test_media_keep_their_order() -> None:
    messages = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "1"}}, {"type": "text", "text": "and"}],
        },
        {"role": "assistant", "content": "A cat."},
        {
            "role": "user",
            "content": [
                {"type": "video_url", "video_url": {"url": "2"}},
                {"type": "input_audio", "input_audio": {"data": "3", "format": "wav"}},
                {"type": "audio_url", "audio_url": {"url": "4"}},
            ],
        },
    ]
    media = parse(body(messages=messages)).media
    assert [(part.modality, bytes(part.source or b"")) for part in media] == [
        ("image", b'"1"'),
        ("video", b'"2"'),
        ("audio", b'"3"'),
        ("audio", b'"4"'),
    ]


@pytest.mark.parametrize(
    ("detail", "side_max"), [("auto", 0), ("high", 0), ("original", 0), ("", 0), (None, 0), ("low", 512)]
)
def test_low_detail_asks_for_a_smaller_picture(detail: str | None, side_max: int) -> None:
    (part,) = parse(of({"type": "image_url", "image_url": {"url": "x", "detail": detail}})).media
    assert part.ask == Ask("image", side_max=side_max)


def test_embeddings_stand_for_an_image_and_have_another_key() -> None:
    (part,) = parse(of({"type": "image_embeds", "image_embeds": "QUJD", "uuid": "cat"})).media
    assert (part.modality, part.is_base64, bytes(part.source or b""), part.uuid) == ("image", True, b'"QUJD"', "cat")
    assert part.ask == Ask("image", embedded=True)
    assert inline(part) == b"ABC"
    (named,) = parse(of({"type": "image_embeds", "image_embeds": None, "uuid": "cat"})).media
    assert named.source is None


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "image_embeds"),
        ({"image_embeds": ""}, "image_embeds"),
        ({"image_embeds": {"image_embeds": "QUJD", "image_grid_thw": "QUJD"}}, "image_embeds"),
        ({"image_embeds": [1.0, 2.0]}, "image_embeds"),
        ({"image_embeds": "QUJD", "dtype": "float32"}, "dtype"),
    ],
)
def test_embeddings_are_one_text(given: dict[str, Any], param: str) -> None:
    assert refusal(of({"type": "image_embeds", **given})).param == f"messages[0].content[0].{param}"


def test_embeddings_that_are_no_base64_are_refused() -> None:
    (part,) = parse(of({"type": "image_embeds", "image_embeds": "no base64!"})).media
    with pytest.raises(RequestError, match="image_embeds is not valid base64") as error:
        inline(part)
    assert error.value.status == 400


@pytest.mark.parametrize(
    "held", [{}, {"image_url": None}, {"image_url": {}}, {"image_url": {"url": None}}, {"image_url": {"url": ""}}]
)
def test_a_name_may_stand_for_what_was_sent_before(held: dict[str, Any]) -> None:
    (part,) = parse(of({"type": "image_url", "uuid": "cat", **held})).media
    assert (part.source, part.uuid) == (None, "cat")
    assert refusal(of({"type": "image_url", **held})).param == "messages[0].content[0].image_url"


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "video_url", "video_url": {"url": 3}}, "messages[0].content[0].video_url.url"),
        ({"type": "audio_url", "audio_url": {"url": ["x"]}}, "messages[0].content[0].audio_url.url"),
        (
            {"type": "input_audio", "input_audio": {"data": 3, "format": "wav"}},
            "messages[0].content[0].input_audio.data",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "x", "format": "midi"}},
            "messages[0].content[0].input_audio.format",
        ),
        ({"type": "image_url", "image_url": {"url": "x"}, "uuid": ""}, "messages[0].content[0].uuid"),
        ({"type": "image_url", "image_url": {"url": "x"}, "uuid": "x" * 257}, "messages[0].content[0].uuid"),
    ],
)
def test_what_is_wrong_with_a_part_is_named(part: dict[str, Any], param: str) -> None:
    assert (refusal(of(part)).status, refusal(of(part)).param) == (400, param)


@pytest.mark.parametrize("video", [{"frames": 0}, {"fps": 0}, {"fps": -1}, {"frames": 2.5}, {"frame": 3}])
def test_a_clip_is_looked_at_in_some_frames_at_least(video: dict[str, Any]) -> None:
    refusal(body(mmplane={"video": video}))


@pytest.mark.parametrize(
    ("given_stop", "stops"), [("a", ("a",)), (["a", "b"], ("a", "b")), ("", ()), (["", "b"], ("b",))]
)
def test_an_empty_stop_text_stops_nothing(given_stop: Any, stops: tuple[str, ...]) -> None:
    assert parse(body(stop=given_stop)).stops == stops


# Hostile bodies.

MARK = "ψ"
LONG = 10_000_000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        body() + b"x",
        b'{"temperature": 1e999, "model": "x"}',
        b'{"tools": ' + b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_request_is_a_400(content: bytes) -> None:
    refusal(content)


@pytest.mark.timeout(30)  # a parser that looks at each place again and again takes hours for these
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x00" * LONG, id="zeros"),
        pytest.param((MARK * LONG).encode(), id="letters"),
        pytest.param(b"[" * LONG, id="brackets"),
        pytest.param(b'{"a":' * (LONG // 5), id="objects"),
        pytest.param(b"9" * LONG, id="a number"),
        pytest.param(b'{"n": ' + b"9" * LONG + b"}", id="a number of samples"),
        pytest.param(body(model=[MARK * LONG]), id="a model"),
        pytest.param(body(**{MARK * LONG: 1}), id="a field"),
        pytest.param(body(**{(" - at `$" + MARK) * (LONG // 10) + "\n": 1}), id="a field like msgspec's texts"),
        pytest.param(body(**{"unknown field `" * (LONG // 16) + MARK * 100: 1}), id="a field like msgspec's others"),
        pytest.param(body(messages=[{"role": MARK * LONG, "content": "x"}]), id="a role"),
        pytest.param(body(messages=[{"role": "user", "content": [{"type": MARK * LONG}]}]), id="a type"),
        pytest.param(body(messages=[{"role": "user", MARK * LONG: 1}]), id="a field of a message"),
        pytest.param(body(tools=[MARK * LONG]), id="tools"),
        pytest.param(body(response_format={MARK * LONG: MARK}), id="a format"),
        pytest.param(body(stop=[MARK * LONG] * 5), id="stop texts"),
    ],
)
def test_ten_megabytes_of_anything_get_a_short_answer(content: bytes) -> None:
    """Hazard R13: the error path must not cost more than success, nor repeat the payload."""
    error = refusal(content, 400, 413)
    assert (error.message + (error.param or "")).count(MARK) <= 200


TEXT_PART = b'{"type":"text","text":""},'
PICTURE_PART = b'{"type":"image_url","image_url":{"url":"data:,"}},'


def parts(part: bytes, count: int) -> bytes:
    content = part * count
    return b'{"model":"tiny","messages":[{"role":"user","content":[' + content[:-1] + b"]}]}"


@pytest.mark.parametrize("part", [TEXT_PART, PICTURE_PART])
def test_what_decoding_would_make_is_bounded_before_it_begins(part: bytes) -> None:
    """59 MiB of parts: refused by a count of bytes, and no part is made of them."""
    assert refusal(parts(part, 59 * 2**20 // len(part)), 413).code == "too_large"


@pytest.mark.parametrize("value", [b"[]", b"1.5e300", b"{}"])
@pytest.mark.parametrize("name", ["functions", *ChatRequest.decoded_later])
def test_what_is_not_built_or_may_be_anything_is_bounded_before_it_is_decoded(name: str, value: bytes) -> None:
    long = b'"%s":[' % name.encode() + (value + b",") * (59 * 2**20 // (len(value) + 1)) + value + b"]"
    assert refusal(body()[:-1] + b"," + long + b"}").param == name


def test_a_neutral_value_is_short() -> None:
    assert parse(body()[:-1] + b',"functions":[' + b" " * 10 + b"]}").model == "tiny"
    error = refusal(body()[:-1] + b',"functions":[' + b" " * 100 + b"]}")
    assert (error.code, error.param) == ("unsupported_parameter", "functions")


OTHER_ENGINES: dict[str, tuple[Any, Any]] = {
    "ignore_eos": (True, "yes"),
    "min_tokens": (3, -1),
    "top_k": (-1, -2),
    "min_p": (1, 1.1),
    "repetition_penalty": (0.5, 0),
    "stop_token_ids": ([1, 2], [-1]),
    "chat_template_kwargs": ({"enable_thinking": False}, None),
    "add_generation_prompt": (True, 1),
    "continue_final_message": (False, 1),
    "guided_json": ({"type": "object"}, None),
    "guided_regex": ("a+", 1),
    "guided_choice": (["a"], []),
    "guided_grammar": ('start: "a"', 1),
    "structured_outputs": ({"regex": "a+"}, None),
    "skip_special_tokens": (True, False),
    "use_beam_search": (False, True),
    "length_penalty": (1.0, 2.0),
    "include_stop_str_in_output": (False, True),
}
"""Fields that clients of vLLM and SGLang send: a value that is taken, and one that is refused (None: all are taken)."""


@pytest.mark.parametrize("name", OTHER_ENGINES)
def test_fields_of_other_engines(name: str) -> None:
    taken, refused = OTHER_ENGINES[name]
    parse(body(**{name: taken}))
    assert parse(body(**{name: None})) == parse(body())
    if refused is not None:
        assert (refusal(body(**{name: refused})).param or "").startswith(name)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}] * 2}, "tools"),
        ({"tools": [{"type": "code"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 1}}}, "response_format"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_a_form_that_cannot_be_is_refused(fields: dict[str, Any], param: str) -> None:
    request = parse(body(**fields))
    with pytest.raises(RequestError) as refused:
        request.grammar(request.tool_list, request.tool_choice, several=True)
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "free"), [({}, True), ({"tool_choice": "auto"}, True), ({"guided_regex": "a"}, False)]
)
def test_most_answers_are_free(fields: dict[str, Any], free: bool) -> None:
    request = parse(body(**fields))
    assert request.is_free is free
    assert (request.grammar([], request.tool_choice, several=True) == "") is free


def test_what_the_ranks_are_told() -> None:
    fields = {"top_k": -1, "logit_bias": {"5": 1}, "stop_token_ids": [7], "min_tokens": 2, "ignore_eos": True}
    sampling = parse(body(**fields)).sampling(tokens_max=9, seed=4, vocabulary_tokens=8)
    assert (sampling.top_k, sampling.bias, sampling.end_tokens) == (0, ((5, 1.0),), (7,))
    assert (sampling.tokens_min, sampling.ignore_end, sampling.seed, sampling.penalised) == (2, True, 4, False)
    for name, value in {"logit_bias": {"8": 1}, "stop_token_ids": [8], "min_tokens": 10}.items():
        with pytest.raises(RequestError, match=name if name == "min_tokens" else "8 tokens"):
            parse(body(**{name: value})).sampling(tokens_max=9, seed=4, vocabulary_tokens=8)


def test_no_request_within_the_limits_has_too_many_quotation_marks() -> None:
    """Every text at its limit, and nothing but quotation marks in it."""
    texts = [{"type": "text", "text": '"' * 256} for _ in range(4096)]
    fields = {"user": '"' * 1024, "stop": ['"' * 1024] * 4, "metadata": {f'{i:"<1024}': '"' * 1024 for i in range(16)}}
    messages = [{"role": "user", "content": texts}] + [{"role": "user", "content": ""}] * 4095
    assert parse(body(messages=messages, **fields)).text_characters == 2**20


def test_parts_and_characters_of_all_messages_together() -> None:
    text = {"type": "text", "text": "x"}
    messages = [{"role": "user", "content": [text] * 2048}] * 2
    assert len(parse(body(messages=messages)).parts) == 4096
    error = refusal(body(messages=[*messages, {"role": "user", "content": [text]}]))
    assert (error.code, error.param) == ("invalid_value", "messages")
    halves = [{"role": "user", "content": "x" * 2**19}, {"role": "user", "content": [{**text, "text": "x" * 2**19}]}]
    assert parse(body(messages=halves)).text_characters == 2**20
    assert refusal(body(messages=[*halves, {"role": "user", "content": "x"}]), 413).param == "messages"


json_values = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats(allow_nan=False)
    | strategies.text(max_size=8),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=8), inner),
    max_leaves=6,
)


@given(name=strategies.sampled_from(ChatRequest.__struct_fields__), value=json_values)
def test_accept_or_raise_our_own_error(name: str, value: Any) -> None:
    try:
        request = parse(body(**{name: value}))
    except RequestError:
        return
    assert isinstance(request, ChatRequest)


@given(content=strategies.binary(max_size=100))
def test_bytes_are_refused(content: bytes) -> None:
    refusal(content)


def test_a_call_comes_back_as_openais_client_holds_it() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}", "parsed_arguments": {"x": 1}}}
    (message,) = parse(
        body(messages=[{"role": "assistant", "content": None, "tool_calls": [call | {"index": 0}]}])
    ).messages
    assert isinstance(message, AssistantMessage)
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == "{}"
