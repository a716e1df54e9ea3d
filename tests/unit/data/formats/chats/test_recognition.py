"""Which layout a row has, told from its keys."""

import json
from typing import Any

import pytest
from hypothesis import given

from finetune.data.example import Chat
from finetune.data.formats import FORMATS, recognise
from tests.support.examples import chats
from tests.unit.data.formats.chats.rows import PATIENT

#: Told apart from OpenAI's layout by the recipe only.
NAMED_ONLY = ("mistral", "together", "fireworks", "local")
OWN = ("openai", "completion", "alpaca", "sharegpt", "gemini", "bedrock")

ASKED = {"role": "user", "content": "q"}
ANSWERED = {"role": "assistant", "content": "a"}
ROWS: list[tuple[dict[str, Any], str | None]] = [
    ({"messages": [ASKED, ANSWERED]}, "openai"),
    ({"messages": [ASKED, ANSWERED], "tools": [], "parallel_tool_calls": True}, "openai"),
    ({"messages": []}, "openai"),
    ({"messages": ["text"]}, "openai"),
    ({"messages": [{"content": "q"}]}, "openai"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]}, "openai"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://a.example/a.png"}]}]},
        "openai",
    ),
    # UltraChat.
    ({"prompt": "q", "prompt_id": "1", "messages": [ASKED, ANSWERED]}, "openai"),
    # Anthropic's layout on Bedrock is none that is read; as OpenAI's it has one key too many.
    ({"system": "s", "messages": [ASKED, ANSWERED]}, "openai"),
    ({"messages": "text"}, None),
    ({"prompt": "q", "completion": "a"}, "completion"),
    ({"prompt": [ASKED], "completion": [ANSWERED]}, "completion"),
    ({"prompt": "q", "response": "a"}, "completion"),
    ({"completion": "a"}, "completion"),
    ({"prompt": "q", "completion": "a", "label": True}, "kto"),
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
    ({"instruction": "q", "input": "", "output": "a"}, "alpaca"),
    ({"instruction": "q", "output": "a", "system": "s", "history": [["q", "a"]]}, "alpaca"),
    ({"instruction": "q", "input": "", "output": "a", "text": "Below is an instruction"}, "alpaca"),
    ({"instruction": "q"}, "alpaca"),
    ({"input": "q", "output": "a"}, "alpaca"),
    ({"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}, "preference"),
    # LLaMA-Factory's layout of labels is not read.
    ({"instruction": "q", "input": "", "output": "a", "kto_tag": True}, None),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "sharegpt"),
    ({"id": "1", "conversations": [{"from": "gpt", "value": "a"}], "system": "s", "tools": "[]"}, "sharegpt"),
    ({"conversations": []}, "sharegpt"),
    ({"conversations": [1]}, "sharegpt"),
    ({"conversations": [{"value": "q"}]}, "sharegpt"),
    # Other names for OpenAI's keys: a matter of dataset.field_map.
    ({"conversations": [ASKED, ANSWERED]}, None),
    ({"conversation": [{"from": "human", "value": "q"}]}, None),
    ({"contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}]}, "gemini"),
    ({"system_instruction": {"parts": [{"text": "s"}]}, "contents": []}, "gemini"),
    ({"systemInstruction": {"parts": [{"text": "s"}]}}, "gemini"),
    ({"contents": [{"role": "user", "parts": [{"text": "q"}]}], "completions": []}, "gemini-preference"),
    (
        {"schemaVersion": "bedrock-conversation-2024", "messages": [{"role": "user", "content": [{"text": "q"}]}]},
        "bedrock",
    ),
    ({"schemaVersion": "bedrock-conversation-2024"}, "bedrock"),
    ({"system": [{"text": "s"}], "messages": [{"role": "user", "content": [{"text": "q"}]}]}, "bedrock"),
    (
        {"messages": [{"role": "user", "content": [{"text": "q"}]}, {"role": "assistant", "content": [{"text": "a"}]}]},
        "bedrock",
    ),
    ({"messages": [{"role": "user", "content": [{"image": {"format": "png"}}]}]}, "bedrock"),
    ({"text": "a document"}, None),
    ({"question": "q", "answer": "a"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("row", "name"), ROWS, ids=lambda value: json.dumps(value)[:60])
def test_a_row_is_recognised_by_its_keys(row: dict[str, Any], name: str | None) -> None:
    found = recognise(row)
    assert (found.name if found else None) == name


@pytest.mark.parametrize("name", OWN)
@PATIENT
@given(chat=chats())
def test_what_a_format_writes_is_recognised_as_its_own(name: str, chat: Chat) -> None:
    write = FORMATS[name].write
    assert write is not None
    assert recognise(dict(write(chat))) is FORMATS[name]


@pytest.mark.parametrize("name", NAMED_ONLY)
@PATIENT
@given(chat=chats())
def test_rows_with_openai_s_keys_are_openai_s_until_they_are_named(name: str, chat: Chat) -> None:
    write = FORMATS[name].write
    assert write is not None
    row = dict(write(chat))
    assert recognise(row) is FORMATS["openai"]
    # Its own faults are told of a row, not that it is another's.
    assert FORMATS[name].recognises(row)


@pytest.mark.parametrize("name", [*OWN, "mistral", "together", "fireworks"])
def test_the_sample_of_a_format_is_a_sound_row_of_it(name: str) -> None:
    format = FORMATS[name]
    row = json.loads(format.sample)
    assert format.recognises(row)
    assert format.shape is not None
    assert list(format.shape(row, "")) == []
    assert format.read is not None
    assert isinstance(format.read(row), Chat)


def test_the_local_layout_is_only_written() -> None:
    assert FORMATS["local"].read is None
    assert FORMATS["local"].shape is None
