from typing import Any

import pytest

from finetune.errors import ServingError
from finetune.serving.requests import read_chat

HELLO = [{"role": "user", "content": "hi"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": HELLO, **fields}


def test_defaults_are_openais() -> None:
    read = read_chat(body())
    assert (read.model, read.stream, read.include_usage) == ("m", False, False)
    ask = read.ask
    assert (ask.max_tokens, ask.temperature, ask.top_p, ask.seed, ask.stop) == (None, 1.0, 1.0, None, ())


def test_everything_given() -> None:
    read = read_chat(
        body(
            max_completion_tokens=5, temperature=0, top_p=0.5, seed=-3, stop="x", stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    ask = read.ask
    assert (ask.max_tokens, ask.temperature, ask.top_p, ask.seed, ask.stop) == (5, 0.0, 0.5, -3, ("x",))
    assert read.stream
    assert read.include_usage


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
        {"n": 1, "logprobs": False, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
        {"presence_penalty": 0.0, "frequency_penalty": 0, "logit_bias": {}, "modalities": ["text"]},
        {"tools": None, "n": None, "seed": None, "stop": None, "temperature": None, "stream_options": None},
    ],
)
def test_harmless_fields_are_accepted(fields: dict[str, Any]) -> None:
    assert read_chat(body(**fields)) == read_chat(body())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"anything_new": 1}, "anything_new"),
        ({"stream": True, "stream_options": {"other": True}}, "stream_options.other"),
        ({"messages": [{"role": "user", "content": "x", "name": "n"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
    ],
)
def test_fields_that_would_change_the_answer_are_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ServingError) as caught:
        read_chat(body(**fields))
    problem = caught.value.problems[0]
    assert (problem.code, problem.field) == ("E756", field)
    assert field in problem.what


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [*HELLO, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": "x"}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_wrong_values_name_their_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ServingError) as caught:
        read_chat(body(**fields))
    assert (caught.value.problems[0].code, caught.value.problems[0].field) == ("E755", field)


def test_a_body_that_is_no_object() -> None:
    with pytest.raises(ServingError, match="must be a JSON object"):
        read_chat([1])


def test_an_earlier_answer_can_be_sent_back_as_the_client_dumps_it() -> None:
    dumped = {
        "role": "assistant", "content": "yes", "refusal": None, "annotations": None, "audio": None,
        "function_call": None, "tool_calls": None,
    }  # fmt: skip
    read = read_chat(body(messages=[*HELLO, dumped]))
    assert read.ask.messages[1] == {"role": "assistant", "content": "yes"}


def test_text_parts_and_the_developer_role() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    read = read_chat(body(messages=[{"role": "developer", "content": "be kind"}, {"role": "user", "content": parts}]))
    assert list(read.ask.messages) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "ab"},
    ]
