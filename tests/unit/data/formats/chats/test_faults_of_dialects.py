"""Faults of rows with OpenAI's keys that Mistral, Together or Fireworks refuse, and OpenAI does not."""

import json
from typing import Any

import pytest

from finetune.data.formats import FORMATS

ASKED = {"role": "user", "content": "q"}
ANSWERED = {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
ID = "TX92Jm8Zi"
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TEXT = {"type": "text", "text": "q"}
ALL = ("mistral", "together", "fireworks")


def row(*messages: Any, **more: Any) -> Any:
    return {"messages": list(messages), **more}


def call(id: Any = ID, arguments: Any = "{}", **message: Any) -> Any:
    function = {"name": "f", "arguments": arguments}
    made = (
        {"type": "function", "function": function}
        if id is None
        else {"id": id, "type": "function", "function": function}
    )
    return {"role": "assistant", "tool_calls": [made], **message}


def result(id: str = ID) -> Any:
    return {"role": "tool", "content": "1", "tool_call_id": id}


def asked(*parts: Any) -> Any:
    return {"role": "user", "content": list(parts)}


def answered(*parts: Any) -> Any:
    return {"role": "assistant", "content": list(parts)}


def tool(**function: Any) -> Any:
    return {"type": "function", "function": {"name": "f", "description": "", "parameters": {}, **function}}


GIF = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AAAA"}}
WEB = {"type": "image_url", "image_url": {"url": "https://a.example/a.png"}}
DETAIL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
BARE = {"type": "image_url", "image_url": "data:image/png;base64,AAAA"}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
URL = "messages[0].content[0].image_url.url"

CASES: list[tuple[str | tuple[str, ...], Any, list[tuple[str, str]]]] = [
    (ALL, row(SYSTEM, ASKED, ANSWERED), []),
    (ALL, row(ASKED, {**ANSWERED, "weight": 0}, ASKED, ANSWERED, id=1), []),
    (ALL, row(ASKED, call(), result(), ANSWERED, tools=[tool()]), []),
    (ALL, {"tools": []}, [("E210", "messages")]),
    (ALL, row(), [("E210", "messages")]),
    (ALL, row("q"), [("E210", "messages[0]")]),
    (ALL, row(ASKED, ANSWERED, parallel_tool_calls=True), [("E209", "parallel_tool_calls")]),
    (ALL, row(ASKED, {**ANSWERED, "prefix": True}), [("E209", "messages[1].prefix")]),
    (ALL, row(ASKED, {**ANSWERED, "reasoning_content": "r"}), [("E209", "messages[1].reasoning_content")]),
    (ALL, row({**ASKED, "name": "n"}, ANSWERED), [("E209", "messages[0].name")]),
    (ALL, row(ASKED, {"role": "assistant", "refusal": "no"}), [("E209", "messages[1].refusal")]),
    (ALL, row({"role": "human", "content": "q"}, ANSWERED), [("E211", "messages[0].role")]),
    (ALL, row(ASKED, SYSTEM, ANSWERED), [("E211", "messages[1].role")]),
    (ALL, row(SYSTEM, SYSTEM, ASKED, ANSWERED), [("E211", "messages[1].role")]),
    (ALL, row(ASKED, {"role": "assistant"}), [("E212", "messages[1].content")]),
    (ALL, row(ASKED, {**ANSWERED, "weight": 0.5}), [("E213", "messages[1].weight")]),
    (ALL, row({**ASKED, "weight": 1}, ANSWERED), [("E213", "messages[0].weight")]),
    (ALL, row(ASKED, ANSWERED, tools=[tool(name=1)]), [("E238", "tools[0].function.name")]),
    (ALL, row(ASKED, ANSWERED, tools=[tool(strict=True)]), [("E209", "tools[0].function.strict")]),
    (("mistral", "fireworks"), row(asked(SOUND), ANSWERED), [("E212", "messages[0].content[0].type")]),
    (
        ("mistral", "fireworks"),
        row(ASKED, answered({"type": "refusal", "refusal": "no"})),
        [("E212", "messages[1].content[0].type")],
    ),
    (("mistral", "fireworks"), row(asked(DETAIL), ANSWERED), [("E209", "messages[0].content[0].image_url.detail")]),
    (("mistral", "fireworks"), row({**ASKED, "weight": 0}, ANSWERED), [("E213", "messages[0].weight")]),
    ("mistral", row(asked(BARE, TEXT), answered(TEXT)), []),
    ("mistral", row(asked(WEB), ANSWERED), []),
    ("mistral", row(asked({"type": "image_url", "image_url": "a.png"}), ANSWERED), [("E212", URL)]),
    ("mistral", row(ASKED, call(arguments={"a": 1}), result(), ANSWERED), []),
    ("mistral", row(ASKED, call(content=""), result(), ANSWERED), []),
    ("mistral", row(ASKED, call(content="a")), [("E212", "messages[1].content")]),
    ("mistral", row(ASKED, call("call_1")), [("E238", "messages[1].tool_calls[0].id")]),
    ("mistral", row(ASKED, call(None)), [("E238", "messages[1].tool_calls[0].id")]),
    ("mistral", row(ASKED, call(), result("TX92Jm8Z"), ANSWERED), [("E238", "messages[2].tool_call_id")]),
    (
        "mistral",
        row(ASKED, ANSWERED, tools=[{"type": "function", "function": {"name": "f"}}]),
        [("E238", "tools[0].function.description"), ("E238", "tools[0].function.parameters")],
    ),
    ("together", row({**ASKED, "weight": 0}, {**ANSWERED, "weight": 1}), []),
    ("together", row(asked(PNG, TEXT), answered(TEXT)), []),
    ("together", row(asked(PNG), ANSWERED), [("E212", "messages[1].content")]),
    ("together", row(SYSTEM, asked(PNG), answered(TEXT)), [("E212", "messages[0].content")]),
    ("together", row(asked(TEXT), ANSWERED), [("E212", "messages[0].content")]),
    ("together", row(asked(WEB), answered(TEXT)), [("E212", URL)]),
    ("together", row(asked(GIF), answered(TEXT)), [("E212", URL)]),
    ("together", row(ASKED, call(arguments="no JSON")), [("E238", "messages[1].tool_calls[0].function.arguments")]),
    ("together", row(ASKED, call(arguments="[]")), [("E238", "messages[1].tool_calls[0].function.arguments")]),
    ("together", row(ASKED, call(arguments={})), [("E238", "messages[1].tool_calls[0].function.arguments")]),
    ("together", row(ASKED, call(None)), [("E238", "messages[1].tool_calls[0].id")]),
    ("together", row(ASKED, ANSWERED, weight=0.5), [("E209", "weight")]),
    ("fireworks", row(asked(PNG, TEXT), ANSWERED), []),
    ("fireworks", row(asked(TEXT, TEXT), answered(TEXT)), []),
    # Fireworks' own example of a call has no id.
    ("fireworks", row(ASKED, call(None)), []),
    ("fireworks", row(asked(WEB), ANSWERED), [("E212", URL)]),
    ("fireworks", row(asked(GIF), ANSWERED), [("E212", URL)]),
    ("fireworks", row(ASKED, ANSWERED, weight=0.5), [("E209", "weight")]),
    ("fireworks", row(ASKED, call(arguments=1)), [("E238", "messages[1].tool_calls[0].function.arguments")]),
]
EACH = [
    (name, value, faults) for names, value, faults in CASES for name in ((names,) if isinstance(names, str) else names)
]


@pytest.mark.parametrize(("name", "value", "faults"), EACH, ids=[f"{n}-{json.dumps(v)[:70]}" for n, v, _ in EACH])
def test_each_fault_has_its_code_and_its_field(name: str, value: Any, faults: list[tuple[str, str]]) -> None:
    shape = FORMATS[name].shape
    assert shape is not None
    found = list(shape(value, ""))
    assert [(fault.code, fault.field) for fault in found] == faults
    assert all(fault.fix and fault.level == "error" and not fault.what.endswith(".") for fault in found)
