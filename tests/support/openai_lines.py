"""OpenAI's published rules of a training line, written down by hand as JSON Schemas: one of SFT, one of DPO.

The rules are those of OpenAI's description 2.3.0 of 2026-08-21, deprecated parts among them. What they say nothing
of is allowed by them: further keys, any order of turns. `compare_specs.py` holds them against the published files.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

Schema = Mapping[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NULL: Final[Schema] = {"type": "null"}


def _only(*values: Any) -> Schema:
    return {"enum": list(values)}


def _list(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    limit = {} if most is None else {"maxItems": most}
    return {"type": "array", "items": items, "minItems": least, **limit}


def _object(needed: Mapping[str, Schema], **further: Schema) -> Schema:
    return {"type": "object", "properties": {**needed, **further}, "required": list(needed)}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _NULL]}


def _part(kind: str, inner: Schema) -> Schema:
    return _object({"type": _only(kind), kind: inner})


_PARTS: Final[Mapping[str, Schema]] = {
    "text": _part("text", _TEXT),
    "refusal": _part("refusal", _TEXT),
    "image_url": _part("image_url", _object({"url": _TEXT}, detail=_only("auto", "low", "high"))),
    "input_audio": _part("input_audio", _object({"data": _TEXT, "format": _only("wav", "mp3")})),
    "file": _part("file", _object({}, filename=_TEXT, file_data=_TEXT, file_id=_TEXT)),
}


def _content(*kinds: str) -> Schema:
    return {"anyOf": [_TEXT, _list({"anyOf": [_PARTS[kind] for kind in kinds]}, 1)]}


_CALL: Final = _object(
    {"id": _TEXT, "type": _only("function"), "function": _object({"name": _TEXT, "arguments": _TEXT})}
)
_ANSWER: Final = _object(
    {"role": _only("assistant")},
    content=_or_null(_content("text", "refusal")),
    refusal=_or_null(_TEXT),
    name=_TEXT,
    audio=_or_null(_object({"id": _TEXT})),
    tool_calls=_list(_CALL),
    function_call=_or_null(_object({"arguments": _TEXT, "name": _TEXT})),
)
_MESSAGE: Final[Schema] = {
    "anyOf": [
        _object({"role": _only("system"), "content": _content("text")}, name=_TEXT),
        _object({"role": _only("user"), "content": _content("text", "image_url", "input_audio", "file")}, name=_TEXT),
        {"allOf": [_ANSWER, {"properties": {"weight": {"type": "integer", "enum": [0, 1]}}}]},
        _object({"role": _only("tool"), "content": _content("text"), "tool_call_id": _TEXT}),
        _object({"role": _only("function"), "content": _or_null(_TEXT), "name": _TEXT}),
    ]
}
_FUNCTION: Final = _object({"name": _TEXT}, description=_TEXT, parameters={"type": "object"})
_TOOL: Final = _object(
    {
        "type": _only("function"),
        "function": {"allOf": [_FUNCTION, {"properties": {"strict": _or_null({"type": "boolean"})}}]},
    }
)
_TALK: Final[Mapping[str, Schema]] = {
    "messages": _list(_MESSAGE, 1),
    "tools": _list(_TOOL),
    "parallel_tool_calls": {"type": "boolean"},
}

#: A line for supervised fine-tuning.
CHAT: Final = _object({}, **_TALK, functions=_list(_FUNCTION, 1, 128))
#: A line for preference fine-tuning.
PREFERENCE: Final = _object(
    {"input": _object({}, **_TALK), **dict.fromkeys(("preferred_output", "non_preferred_output"), _list(_ANSWER, 0, 1))}
)


@cache
def _validator(of: str) -> Validator:
    return Draft202012Validator({"chat": CHAT, "preference": PREFERENCE}[of])


def refused(row: Any, of: str) -> list[str]:
    """What the rules refuse about a row, in words; empty for a good one. `of`: `chat` or `preference`."""
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(of).iter_errors(row)]


def _rich_messages() -> list[dict[str, Any]]:
    text = {"type": "text", "text": "a"}
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        {"role": "system", "content": [text], "name": "s"},
        {
            "role": "user",
            "content": [
                text,
                {"type": "image_url", "image_url": {"url": "https://a.example/a.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"filename": "a", "file_data": "AAAA", "file_id": "f"}},
            ],
            "name": "u",
        },
        {"role": "assistant", "content": None, "weight": 0, "tool_calls": [call]},
        {"role": "tool", "content": [text], "tool_call_id": "call_1"},
        {"role": "assistant", "content": [text, {"type": "refusal", "refusal": "no"}], "name": "b", "weight": 1},
        {"role": "assistant", "content": "a", "refusal": "no"},
    ]


def rich(of: str) -> dict[str, Any]:
    """A row with all that the rules know and ft reads. `of`: `chat` or `preference`."""
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    tools = {"tools": [{"type": "function", "function": function}], "parallel_tool_calls": False}
    messages = _rich_messages()
    if of == "chat":
        return {"messages": messages, **tools}
    asked = {"role": "user", "content": "q"}
    return {
        "input": {"messages": [*messages[:4], messages[4], asked], **tools},
        "preferred_output": [{"role": "assistant", "content": "a", "refusal": "no", "name": "b"}],
        "non_preferred_output": [{"role": "assistant", "tool_calls": messages[2]["tool_calls"]}],
    }
