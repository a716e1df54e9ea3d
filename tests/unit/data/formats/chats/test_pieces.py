"""What the chat layouts are made of: arguments as objects, calls and their results, addresses of images, schemas."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.example import Chat, FunctionCall, Message, ToolCall
from finetune.data.formats import gemini_schema, media
from finetune.data.formats.calls import SAFE, WIDE, Open, as_object, as_text, disordered, misnamed
from finetune.data.formats.proto import Proto, snake, spelled, take
from tests.support.examples import objects
from tests.unit.data.formats.chats.rows import PATIENT


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' {"a": [1, {"b": null}]}\n', {"a": [1, {"b": None}]}),
        ('{"a": 1.10, "b": 1e5, "c": -0.0}', {"a": 1.1, "b": 100000.0, "c": 0.0}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (f'{{"a": {2**63 - 1}}}', {"a": 2**63 - 1}),
        (f'{{"a": {2**63}}}', None),
        ('{"a": 0.1000000000000000055}', None),
        ('{"a": 1e999}', None),
        ('{"a": 0e99999999999999999999}', None),
        ('{"a": NaN}', None),
        ('{"a": -Infinity}', None),
        ('{"a": 1, "a": 1}', None),
        ('{"a": {"b": 1, "b": 2}}', None),
        ('{"a": "\\ud800"}', None),
        ("[1]", None),
        ("1", None),
        ("", None),
        ("{", None),
        ('{"a": ' * 100_000, None),
        (f'{{"a": {"9" * 5000}}}', None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_text_is_an_object_only_if_nothing_of_it_gets_lost(text: str, value: Any) -> None:
    assert as_object(text) == value


def test_integers_of_a_double_are_narrower_than_those_of_64_bits() -> None:
    assert as_object(f'{{"a": {SAFE}}}', SAFE) == {"a": SAFE}
    assert as_object(f'{{"a": {SAFE + 1}}}', SAFE) is None
    assert as_object(f'{{"a": -{WIDE}}}') == {"a": -WIDE}


@PATIENT
@given(value=objects)
def test_an_object_written_as_text_is_read_again(value: dict[str, Any]) -> None:
    found = as_object(as_text(value))
    assert found == value or found is None
    assert as_object(json.dumps(value)) == found


def test_results_answer_the_open_calls_of_the_last_turn() -> None:
    calls = Open()
    assert calls.answer() is None
    calls.turn()
    assert [calls.call("f"), calls.call("g"), calls.call("f", "own")] == ["call_1", "call_2", "own"]
    assert calls.answer("g") == "call_2"
    assert calls.answer("g") is None
    assert calls.answer("f", "own") == "own"
    assert calls.answer(given="call_2") is None
    calls.turn()
    assert calls.answer() is None
    assert calls.call("f") == "call_4"
    assert calls.answer() == "call_4"


def chat(*messages: Any) -> Chat:
    return Chat([*messages, Message("assistant", "a")])


def makes(*calls: tuple[str, str]) -> Message:
    return Message("assistant", tool_calls=[ToolCall(id, FunctionCall(name, "{}")) for id, name in calls])


def result(id: str, name: str | None = None) -> Message:
    return Message("tool", "1", name, tool_call_id=id)


FG = makes(("x", "f"), ("y", "g"))
FF = makes(("x", "f"), ("y", "f"))
USER = Message("user", "q")


@pytest.mark.parametrize(
    ("messages", "by_place", "by_name"),
    [
        ([FG, result("x"), result("y")], False, False),
        ([FG, result("x")], False, False),
        ([FG, result("y"), result("x")], True, False),
        ([FG, result("y")], True, False),
        ([FF, result("y"), result("x")], True, True),
        ([FF, USER, result("x"), USER, result("y")], False, False),
        ([FG, result("x"), result("x")], True, True),
        ([FG, makes(("z", "f")), result("x")], True, True),
        ([makes(("x", "f"), ("x", "f")), result("x"), result("x")], False, False),
    ],
)
def test_order_says_what_belongs_together_or_it_is_told(messages: list[Message], by_place: bool, by_name: bool) -> None:
    assert disordered(chat(*messages), named=False) is by_place
    assert disordered(chat(*messages), named=True) is by_name


def test_a_result_has_the_name_of_its_call_or_it_is_told() -> None:
    assert not misnamed(chat(FG, result("x", "f"), result("y")))
    assert misnamed(chat(FG, result("x", "g")))


@pytest.mark.parametrize(
    ("url", "type"),
    [
        ("https://a.example/a.png", "image/png"),
        ("https://a.example/a.JPEG?b=/c.png#d.gif", "image/jpeg"),
        ("https://a.png", None),
        ("https://a.example/a.b/c", None),
        ("https://a.example/a.tiff", None),
        ("gs://bucket/a?b.webp", "image/webp"),
        ("gs://bucket.png/", None),
        ("a.png", None),
        ("", None),
    ],
)
def test_the_end_of_a_name_tells_the_type_of_an_image(url: str, type: str | None) -> None:
    assert media.image_type(url) == type


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("data:image/png;base64,AA+/=", ("image/png", "AA+/=")),
        ("data:image/svg+xml;base64,AAAA", ("image/svg+xml", "AAAA")),
        ("data:image/png;base64,", None),
        ("data:image/png;base64,AA AA", None),
        ("data:image/png;charset=x;base64,AAAA", None),
        ("data:image/png,AAAA", None),
        ("https://a.example/data:image/png;base64,AAAA", None),
    ],
)
def test_data_urls_in_base64_are_taken_apart(url: str, found: tuple[str, str] | None) -> None:
    assert media.inline(url) == found
    assert found is None or media.data_url(*found) == url


def test_keys_of_google_may_have_either_spelling() -> None:
    assert snake("functionCall") == "function_call"
    assert snake("text") == "text"
    assert take({"function_call": 1}, "functionCall") == 1
    assert take({"functionCall": None, "function_call": 1}, "functionCall") == 1
    assert take({}, "functionCall") is None
    assert spelled({"function_call": None}, "functionCall") == "function_call"
    shape = Proto({"fileUri": lambda value, where: iter(())}, ("fileUri",))
    assert list(shape({"file_uri": "a"}, "x")) == []
    assert [fault.field for fault in shape({"file_uri": "a", "fileUri": "a", "more": 1}, "x")] == [
        "x.more",
        "x.file_uri",
    ]
    assert [fault.field for fault in shape({"file_uri": None}, "x")] == ["x.file_uri"]


PLAIN: dict[str, Any] = {
    "type": "object",
    "description": "type",
    "properties": {
        "type": {"type": "string", "enum": ["string", "b"], "default": {"type": "string"}},
        "list": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        "either": {"anyOf": [{"type": "number", "minimum": 0.5}, {"type": "null"}]},
    },
    "required": ["type"],
    "additionalProperties": False,
}


def test_only_the_names_of_types_differ_in_gemini_s_schemas() -> None:
    assert gemini_schema.fits(PLAIN)
    properties = {
        "type": {"type": "STRING", "enum": ["string", "b"], "default": {"type": "string"}},
        "list": {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": 1},
        "either": {"anyOf": [{"type": "NUMBER", "minimum": 0.5}, {"type": "NULL"}]},
    }
    assert gemini_schema.capital(PLAIN) == {**PLAIN, "type": "OBJECT", "properties": properties}
    assert gemini_schema.lower(gemini_schema.capital(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    "more",
    [
        {"type": ["string", "null"]},
        {"type": "int"},
        {"enum": [1]},
        {"$ref": "#"},
        {"oneOf": []},
        {"const": 1},
        {"items": {"$ref": "#"}},
        {"items": [{"type": "string"}]},
        {"anyOf": [1]},
        {"properties": {"a": {"not": {}}}},
        {"properties": []},
        {"required": True},
        {"additionalProperties": {"type": "string"}},
        {"minItems": "1"},
        {"nullable": 1},
        {"title": None},
    ],
)
def test_a_schema_that_says_more_does_not_fit(more: dict[str, Any]) -> None:
    assert not gemini_schema.fits({"type": "object", **more})
    assert not gemini_schema.fits({"properties": {"a": more}})


def test_schemas_nested_without_end_are_left_alone() -> None:
    schema: dict[str, Any] = {"type": "STRING"}
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    assert not gemini_schema.fits(schema)
    assert gemini_schema.lower(schema).keys() == schema.keys()


@PATIENT
@given(
    schema=st.recursive(
        objects | st.just(PLAIN), lambda inner: st.fixed_dictionaries({"items": inner, "type": st.just("ARRAY")})
    )
)
def test_schemas_of_any_kind_are_left_whole(schema: dict[str, Any]) -> None:
    lower = gemini_schema.lower(schema)
    if gemini_schema.fits(schema):
        assert gemini_schema.lower(gemini_schema.capital(schema)) == lower
    assert json.dumps(lower).lower() == json.dumps(schema).lower()
