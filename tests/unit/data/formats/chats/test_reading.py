"""How rows of each layout are read, in all the ways in which they are written."""

import json
from typing import Any

import msgspec
import pytest

from finetune.data.formats import FORMATS
from tests.unit.data.formats.chats.rows import ANSWERED, ASKED, call, read, said, written


def test_of_a_prompt_in_messages_nothing_is_learned() -> None:
    row = {"prompt": [ASKED, ANSWERED, ASKED], "completion": [ANSWERED]}
    assert said("completion", row) == [ASKED, {**ANSWERED, "weight": 0}, ASKED, ANSWERED]


def test_a_prompt_and_its_completion_keep_their_blanks() -> None:
    assert said("completion", {"prompt": "The sky is", "completion": " blue."}) == [
        {"role": "user", "content": "The sky is"},
        {"role": "assistant", "content": " blue."},
    ]


def test_calls_of_trl_get_ids() -> None:
    made = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}
    row = {"prompt": [ASKED, made, {"role": "tool", "name": "f", "content": "1"}], "completion": [ANSWERED]}
    answered = said("completion", row)
    assert answered[1] == {"role": "assistant", "weight": 0, "tool_calls": [call("call_1")]}
    assert answered[2]["tool_call_id"] == "call_1"


@pytest.mark.parametrize(
    ("instruction", "more", "question"),
    [
        ("i", "", "i"),
        ("i", None, "i"),
        ("i", " ", "i"),
        ("i", "x", "i\n\nx"),
        ("i\n", " x", "i\n\n\n x"),
        ("", "x", "x"),
        (" ", "", " "),
    ],
)
def test_an_input_stands_behind_the_instruction(instruction: str, more: str | None, question: str) -> None:
    row = {"instruction": instruction, "input": more, "output": "a"}
    assert said("alpaca", row) == [{"role": "user", "content": question}, ANSWERED]


def test_the_history_of_alpaca_comes_before_the_instruction_and_is_learned() -> None:
    row = {"instruction": "q3", "output": "a3", "system": "s", "history": [["q1", "a1"], ["q2", "a2"]]}
    assert [each["content"] for each in said("alpaca", row)] == ["s", "q1", "a1", "q2", "a2", "q3", "a3"]
    assert not any("weight" in each for each in said("alpaca", row))
    assert FORMATS["alpaca"].losses(read("alpaca", row)) == []


def test_observations_answer_the_calls_of_the_last_function_call_in_order() -> None:
    calls = [{"name": "f", "arguments": {"a": 1.10}}, {"name": "g", "arguments": "no JSON"}]
    turns = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": json.dumps(calls)},
        {"from": "observation", "value": "1"},
        {"from": "tool", "value": "2"},
        {"from": "function_call", "value": '{"name": "f", "arguments":  {"a": 1.10,"b":[ ]} }', "weight": 0},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "a", "weight": 1},
    ]
    row = {
        "conversations": turns,
        "system": "s",
        "tools": [{"name": "f"}, {"type": "function", "function": {"name": "g"}}],
    }
    shape = FORMATS["sharegpt"].shape
    assert shape is not None
    assert [fault.level for fault in shape(row, "")] == ["warning"]
    turns[3]["from"] = "observation"
    chat = read("sharegpt", row)
    assert msgspec.to_builtins(chat.messages) == [
        {"role": "system", "content": "s"},
        ASKED,
        {"role": "assistant", "tool_calls": [call("call_1", "f", '{"a": 1.1}'), call("call_2", "g", "no JSON")]},
        {"role": "tool", "content": "1", "tool_call_id": "call_1"},
        {"role": "tool", "content": "2", "tool_call_id": "call_2"},
        # To the letter as it stands in the row.
        {"role": "assistant", "weight": 0, "tool_calls": [call("call_3", "f", '{"a": 1.10,"b":[ ]}')]},
        {"role": "tool", "content": "3", "tool_call_id": "call_3"},
        {"role": "assistant", "content": "a", "weight": 1},
    ]
    assert [tool.function.name for tool in chat.tools or ()] == ["f", "g"]


def test_results_of_gemini_answer_the_first_open_call_of_their_name() -> None:
    def made(name: str, **more: Any) -> Any:
        return {"functionCall": {"name": name, **more}}

    def given_back(name: str, **response: Any) -> Any:
        return {"functionResponse": {"name": name, "response": response}}

    row = {
        "system_instruction": {"role": "system", "parts": [{"text": "s"}, {"text": "t"}]},
        "contents": [
            {
                "role": "user",
                "parts": [{"text": "q"}, {"file_data": {"mime_type": "image/jpeg", "file_uri": "gs://b/a.JPG"}}],
            },
            {"role": "model", "parts": [{"text": "a"}, made("f", args={"x": "ß"}), made("g"), made("f")]},
            {"parts": [given_back("g", output="1"), given_back("f", n=1.0), given_back("f", output="2", more=0)]},
            {"role": "user", "parts": [{"inline_data": {"mime_type": "audio/mpeg", "data": "AAAA"}}, {"text": "r"}]},
            {"role": "model", "parts": [{"text": "b"}]},
        ],
        "tools": [
            {
                "function_declarations": [
                    {"name": "f", "parameters": {"type": "OBJECT", "properties": {"type": {"type": "STRING"}}}}
                ]
            },
            {"functionDeclarations": [{"name": "g", "description": "d", "parameters_json_schema": {"type": "object"}}]},
        ],
    }
    chat = read("gemini", row)
    assert msgspec.to_builtins(chat.messages) == [
        {"role": "system", "content": [{"type": "text", "text": "s"}, {"type": "text", "text": "t"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "q"},
                {"type": "image_url", "image_url": {"url": "gs://b/a.JPG"}},
            ],
        },
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [call("call_1", "f", '{"x": "ß"}'), call("call_2", "g"), call("call_3", "f")],
        },
        {"role": "tool", "content": "1", "tool_call_id": "call_2"},
        {"role": "tool", "content": '{"n": 1.0}', "tool_call_id": "call_1"},
        {"role": "tool", "content": '{"output": "2", "more": 0}', "tool_call_id": "call_3"},
        {
            "role": "user",
            "content": [
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
                {"type": "text", "text": "r"},
            ],
        },
        {"role": "assistant", "content": "b"},
    ]
    assert [tool.function.parameters for tool in chat.tools or ()] == [
        {"type": "object", "properties": {"type": {"type": "string"}}},
        {"type": "object"},
    ]
    assert FORMATS["gemini"].losses(chat) == []


def test_ids_of_gemini_are_followed_where_a_row_has_them() -> None:
    def part(kind: str, id: str, **more: Any) -> Any:
        return {kind: {"name": "f", "id": id, **more}}

    row = {
        "contents": [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [part("functionCall", "x"), part("functionCall", "y")]},
            {
                "role": "user",
                "parts": [part("functionResponse", "y", response={}), part("functionResponse", "x", response={})],
            },
            {"role": "model", "parts": [{"text": "a"}]},
        ]
    }
    chat = read("gemini", row)
    assert [each.tool_call_id for each in chat.messages] == [None, None, "y", "x", None]
    # Without the ids, the order would say something else.
    assert FORMATS["gemini"].losses(chat) == ["results of tool calls out of their order"]


def test_a_part_of_the_user_between_results_is_a_message_of_its_own() -> None:
    made = {"role": "model", "parts": [{"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}]}
    result = {"functionResponse": {"name": "f", "response": {}}}
    row = {
        "contents": [
            {"role": "user", "parts": [{"text": "q"}]},
            made,
            {"role": "user", "parts": [result, {"text": "r"}, {"text": "s"}, result]},
            {"role": "model", "parts": [{"text": "a"}]},
        ]
    }
    chat = read("gemini", row)
    assert [each.role for each in chat.messages] == ["user", "assistant", "tool", "user", "tool", "assistant"]
    assert read("gemini", written("gemini", chat)) == chat


def test_images_of_bedrock_have_the_format_of_their_name() -> None:
    images: list[Any] = [
        {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://b/a.jpg"}}}},
        {"image": {"format": "png", "source": {"bytes": "AAAA"}}, "text": None},
    ]
    row = {
        "messages": [
            {"role": "user", "content": [*images, {"text": "q"}]},
            {"role": "assistant", "content": [{"text": "a"}, {"text": "b"}]},
        ],
        "system": [{"text": "s"}],
    }
    chat = read("bedrock", row)
    assert msgspec.to_builtins(chat.messages) == [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "s3://b/a.jpg"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "text", "text": "q"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    assert FORMATS["bedrock"].losses(chat) == ["images that are not, with a known ending, at s3://"]
