"""How conversations are written in each layout, and what is said of what does not fit."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from finetune.data.example import Chat
from finetune.data.formats import FORMATS
from tests.support.examples import chats
from tests.unit.data.formats.chats.rows import ANSWERED, ASKED, PATIENT, call, read, told, written


def test_what_gemini_cannot_hold_as_schema_stands_as_json_schema() -> None:
    schemas: list[Any] = [
        {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
        {"type": "object", "properties": {"a": {"enum": [1, 2]}}},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": each}} for each in schemas]
    row = told({"messages": [ASKED, ANSWERED], "tools": tools}, "gemini")
    assert row["tools"][0]["functionDeclarations"] == [
        {
            "name": "f",
            "parameters": {"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "items": {"type": "STRING"}}}},
        },
        {"name": "f", "parametersJsonSchema": schemas[1]},
        {"name": "f", "parametersJsonSchema": schemas[2]},
    ]


def test_mistral_gets_new_ids_only_where_one_does_not_fit() -> None:
    def chat(*ids: str) -> Any:
        made = {"role": "assistant", "content": "", "tool_calls": [call(each) for each in ids]}
        return {
            "messages": [
                ASKED,
                made,
                *({"role": "tool", "content": "1", "tool_call_id": each} for each in ids),
                ANSWERED,
            ]
        }

    row = told(chat("TX92Jm8Zi", "3XhQnxLsT"), "mistral")
    assert [each["id"] for each in row["messages"][1]["tool_calls"]] == ["TX92Jm8Zi", "3XhQnxLsT"]
    assert "content" not in row["messages"][1]
    row = told(chat("TX92Jm8Zi", "call_1"), "mistral")
    assert [each["id"] for each in row["messages"][1]["tool_calls"]] == ["call00001", "call00002"]
    assert [each["tool_call_id"] for each in row["messages"][2:4]] == ["call00001", "call00002"]


def test_mistral_s_functions_and_images_are_written_as_it_wants_them() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    tool = {"type": "function", "function": {"name": "f"}}
    row = told({"messages": [{"role": "user", "content": [image]}, ANSWERED], "tools": [tool]}, "mistral")
    assert row["messages"][0]["content"] == [{"type": "image_url", "image_url": "data:image/png;base64,AAAA"}]
    assert row["tools"][0]["function"] == {"name": "f", "description": "", "parameters": {}}


def test_a_row_of_together_with_an_image_has_all_contents_in_parts() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "q"}
    system = {"role": "system", "content": "s"}
    made = {"role": "assistant", "tool_calls": [call("call_1")]}
    row = told({"messages": [system, {"role": "user", "content": [image]}, made, ANSWERED]}, "together")
    assert [each["content"] for each in row["messages"]] == [
        [{"type": "text", "text": "s"}],
        [image],
        [{"type": "text", "text": ""}],
        [{"type": "text", "text": "a"}],
    ]
    row = told({"messages": [{"role": "user", "content": [text, text]}, made, ANSWERED]}, "together")
    assert [each.get("content") for each in row["messages"]] == ["q\nq", None, "a"]


SEVERAL = {
    "messages": [
        {"role": "assistant", "content": "hello"},
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q1", "name": "ada"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "ftp://a.example/a.png", "detail": "low"}}],
        },
        {"role": "assistant", "content": "wait", "tool_calls": [call("call_1", "f", '{"a": 1}')]},
        {"role": "tool", "content": "1", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "a2", "weight": 0},
        {"role": "user", "content": "q3"},
        {"role": "assistant", "refusal": "no"},
        {"role": "user", "content": "q4"},
        {"role": "assistant", "content": " ", "weight": 0},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
    "parallel_tool_calls": False,
}
ORDER = ["answers without a question", "several messages of one side in a row"]


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("openai", []),
        ("local", ["names of speakers", "images", "settings of parallel tool calls"]),
        (
            "sharegpt",
            [
                "names of speakers",
                "images",
                "refusals as such",
                "texts beside tool calls",
                "settings of parallel tool calls",
            ],
        ),
        (
            "completion",
            [
                "system messages",
                "message weights",
                "names of speakers",
                "images",
                "refusals as such",
                "tool calls and their results",
                "tools",
                "settings of parallel tool calls",
                "earlier turns",
                *ORDER,
            ],
        ),
        (
            "alpaca",
            [
                "system messages after the first turn",
                "message weights",
                "names of speakers",
                "images",
                "refusals as such",
                "tool calls and their results",
                "tools",
                "settings of parallel tool calls",
                *ORDER,
            ],
        ),
        (
            "gemini",
            [
                "system messages after the first turn",
                "message weights",
                "names of speakers",
                "levels of detail of images",
                "refusals as such",
                "strict flags of tools",
                "settings of parallel tool calls",
                "images that are neither in the row nor, with a known ending, at gs:// or https://",
            ],
        ),
        (
            "bedrock",
            [
                "system messages after the first turn",
                "message weights",
                "names of speakers",
                "levels of detail of images",
                "refusals as such",
                "tool calls and their results",
                "tools",
                "settings of parallel tool calls",
                *ORDER,
                "images that are not, with a known ending, at s3://",
            ],
        ),
        (
            "mistral",
            [
                "system messages after the first turn",
                "names of speakers",
                "levels of detail of images",
                "refusals as such",
                "strict flags of tools",
                "settings of parallel tool calls",
                "texts beside tool calls",
                "images other than a data: URL of an image, or one of the web",
            ],
        ),
        (
            "together",
            [
                "system messages after the first turn",
                "names of speakers",
                "levels of detail of images",
                "refusals as such",
                "strict flags of tools",
                "settings of parallel tool calls",
                "images other than a data: URL of a PNG, JPEG or WEBP in base64",
            ],
        ),
        (
            "fireworks",
            [
                "system messages after the first turn",
                "names of speakers",
                "levels of detail of images",
                "refusals as such",
                "strict flags of tools",
                "settings of parallel tool calls",
                "images other than a data: URL of a PNG or JPEG in base64",
            ],
        ),
    ],
)
def test_all_losses_of_a_conversation_are_named(name: str, losses: list[str]) -> None:
    assert FORMATS[name].losses(msgspec.convert(SEVERAL, Chat)) == losses


@pytest.mark.parametrize(
    ("name", "message", "losses"),
    [
        ("alpaca", {"role": "system", "content": " "}, ["system messages of nothing"]),
        ("bedrock", {"role": "system", "content": " "}, []),
        ("bedrock", {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, []),
    ],
)
def test_a_system_message_of_nothing_is_none_for_alpaca(name: str, message: Any, losses: list[str]) -> None:
    chat = msgspec.convert({"messages": [message, ASKED, ANSWERED]}, Chat)
    assert FORMATS[name].losses(chat) == losses


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ("1", {"output": "1"}),
        ('{"a":1}', {"a": 1}),
        ('{"output": 1}', {"output": 1}),
        ('{"output":"a"}', {"output": '{"output":"a"}'}),
        ('{"a": 1, "a": 2}', {"output": '{"a": 1, "a": 2}'}),
        ('{"a": 9007199254740993}', {"output": '{"a": 9007199254740993}'}),
    ],
)
def test_a_result_of_gemini_is_an_object_and_says_the_same(content: str, response: Any) -> None:
    made = {"role": "assistant", "tool_calls": [call("x")]}
    row = told(
        {"messages": [ASKED, made, {"role": "tool", "content": content, "tool_call_id": "x"}, ANSWERED]}, "gemini"
    )
    assert row["contents"][2]["parts"] == [{"functionResponse": {"name": "f", "response": response}}]
    again = read("gemini", row).messages[2].content
    assert again == content or json.loads(str(again)) == json.loads(content)


NO_OBJECT = "arguments of tool calls that are no JSON object"
OUT_OF_ORDER = "results of tool calls out of their order"
MISNAMED = "names in results of tools that are not the call's"


@pytest.mark.parametrize(
    ("name", "arguments", "results", "losses"),
    [
        ("together", "no JSON", ["x", "y"], [NO_OBJECT]),
        ("together", "[]", ["y", "x"], [NO_OBJECT]),
        # Together's reader takes what only a careful one would lose.
        ("together", '{"a": 1e999}', ["y"], []),
        ("gemini", "no JSON", ["x", "y"], [NO_OBJECT]),
        ("gemini", '{"a": 1e999}', ["x", "y"], [NO_OBJECT]),
        ("gemini", "{}", ["y", "x"], [OUT_OF_ORDER]),
        ("sharegpt", "no JSON", ["x", "y"], []),
        ("sharegpt", "{}", ["y", "x"], [OUT_OF_ORDER]),
        ("mistral", "no JSON", ["y", "x"], []),
        ("fireworks", "no JSON", ["y", "x"], []),
    ],
)
def test_what_calls_lose_is_named(name: str, arguments: str, results: list[str], losses: list[str]) -> None:
    made = {"role": "assistant", "tool_calls": [call("x", "f", arguments), call("y", "f", arguments)]}
    given_back = [{"role": "tool", "content": "1", "tool_call_id": each} for each in results]
    chat = msgspec.convert({"messages": [ASKED, made, *given_back, ANSWERED]}, Chat)
    assert FORMATS[name].losses(chat) == losses


@pytest.mark.parametrize("name", ["gemini", "sharegpt"])
def test_the_name_in_a_result_is_the_call_s_or_it_is_told(name: str) -> None:
    made = {"role": "assistant", "tool_calls": [call("x", "f")]}
    for named, losses in (("f", []), ("g", [MISNAMED])):
        result = {"role": "tool", "content": "1", "tool_call_id": "x", "name": named}
        chat = msgspec.convert({"messages": [ASKED, made, result, ANSWERED]}, Chat)
        assert FORMATS[name].losses(chat) == losses


def test_arguments_that_are_no_object_become_one_by_permission() -> None:
    made = {"role": "assistant", "tool_calls": [call("x", "f", "no JSON")]}
    row = told({"messages": [ASKED, made]}, "gemini")
    assert row["contents"][1]["parts"][0]["functionCall"]["args"] == {"arguments": "no JSON"}
    row = told({"messages": [ASKED, made]}, "together")
    assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"arguments": "no JSON"}'


def test_what_is_lost_by_permission_leaves_a_conversation_behind() -> None:
    row = told(SEVERAL, "bedrock")
    assert row["system"] == [{"text": "s"}]
    assert [(each["role"], [item["text"] for item in each["content"]]) for each in row["messages"]] == [
        ("user", [" "]),
        ("assistant", ["hello"]),
        ("user", ["q1", ""]),
        ("assistant", ['wait\n{"name": "f", "arguments": {"a": 1}}']),
        ("user", ["1"]),
        ("assistant", ["a2"]),
        ("user", ["q3"]),
        ("assistant", ["no"]),
    ]
    assert told(SEVERAL, "completion") == {"prompt": "q3", "completion": "no"}
    assert told(SEVERAL, "alpaca")["history"] == [
        ["", "hello"],
        ["q1\n\n", 'wait\n{"name": "f", "arguments": {"a": 1}}'],
        ["1", "a2"],
    ]


@PATIENT
@given(chat=chats())
def test_the_local_trainer_gets_texts_and_objects_and_loses_nothing_unsaid(chat: Chat) -> None:
    row = written("local", chat)
    for before, each in zip(chat.messages, row["messages"], strict=True):
        assert isinstance(each.get("content", ""), str)
        assert each["role"] == before.role
        for given_call, made in zip(before.tool_calls or (), each.get("tool_calls", ()), strict=True):
            arguments = made["function"]["arguments"]
            if isinstance(arguments, dict):
                assert json.loads(given_call.function.arguments) == arguments
                arguments = given_call.function.arguments
            assert arguments == given_call.function.arguments
            assert made["id"] == given_call.id
        assert each.get("weight") == before.weight
        assert each.get("tool_call_id") == before.tool_call_id
        assert not before.refusal or each["content"].endswith(before.refusal)
    assert row.get("tools", []) == msgspec.json.decode(msgspec.json.encode(chat.tools or []))


def test_the_local_trainer_gets_arguments_as_text_where_they_are_no_object() -> None:
    texts = ["{}", '{"a": {"b": [1, null]}}', "", "no JSON", "[1]", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}']
    calls = [call(f"call_{position}", "f", each) for position, each in enumerate(texts)]
    row = told({"messages": [ASKED, {"role": "assistant", "content": "", "tool_calls": calls}]}, "local")
    assert "content" not in row["messages"][1]
    made = [each["function"]["arguments"] for each in row["messages"][1]["tool_calls"]]
    assert made == [{}, {"a": {"b": [1, None]}}, *texts[2:]]
