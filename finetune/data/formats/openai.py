"""OpenAI's chat layout, with tools, weights and content in parts, by its published schema of a training line.

Left out of the schema: `functions`, `function_call` and the role `function` (deprecated by OpenAI), and `audio` of
an answer, which names something on OpenAI's side.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from finetune.data.example import Chat, Message
from finetune.data.faults import (
    BAD_CONTENT,
    BAD_FIELD,
    BAD_ROLE,
    BAD_TOOLS,
    BAD_WEIGHT,
    NO_MESSAGES,
    Fault,
    ListOf,
    Object,
    OneOf,
    Shape,
    TypeOf,
    Words,
    anything,
    inside,
)
from finetune.data.formats.base import Format, Row

SAMPLE: Final = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
ROLES: Final = ("system", "user", "assistant", "tool")
_OLD: Final = "OpenAI has replaced functions by tools"
_ROLES_ELSEWHERE: Final = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function": "tool",
}


def _part_of(example: str, **keys: Shape) -> Object:
    return Object(keys, tuple(keys), example, BAD_CONTENT)


_TEXT: Final = Words(code=BAD_CONTENT)
_FILLED: Final = Words(filled=True, code=BAD_CONTENT)
_DETAIL: Final = OneOf(("auto", "low", "high"), BAD_CONTENT, nullable=True)
_IMAGE: Final = Object({"url": _FILLED, "detail": _DETAIL}, ("url",), '{"url": "https://..."}', BAD_CONTENT)
_SOUND: Final = _part_of('{"data": "...", "format": "wav"}', data=_FILLED, format=OneOf(("wav", "mp3"), BAD_CONTENT))
_DOCUMENT: Final = Object(
    {key: Words(nullable=True, code=BAD_CONTENT) for key in ("filename", "file_data", "file_id")},
    (),
    '{"file_id": "..."}',
    BAD_CONTENT,
)
_PARTS: Final[Mapping[str, Object]] = {
    "text": _part_of('{"type": "text", "text": "..."}', type=anything, text=_TEXT),
    "refusal": _part_of('{"type": "refusal", "refusal": "..."}', type=anything, refusal=_TEXT),
    "image_url": _part_of('{"type": "image_url", "image_url": {...}}', type=anything, image_url=_IMAGE),
    "input_audio": _part_of('{"type": "input_audio", "input_audio": {...}}', type=anything, input_audio=_SOUND),
    "file": _part_of('{"type": "file", "file": {...}}', type=anything, file=_DOCUMENT),
}
#: Which parts may stand where, by the published schema.
_PARTS_OF: Final = {
    "system": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
    "tool": ("text",),
}
_CALL: Final = Object(
    {
        "id": Words(filled=True, code=BAD_TOOLS),
        "type": OneOf(("function",), BAD_TOOLS),
        "function": Object(
            {"name": Words(filled=True, code=BAD_TOOLS), "arguments": Words(code=BAD_TOOLS)},
            ("name", "arguments"),
            '{"name": "...", "arguments": "{...}"}, with the arguments as text',
            BAD_TOOLS,
        ),
    },
    ("id", "type", "function"),
    '{"id": "call_1", "type": "function", "function": {"name": "...", "arguments": "{...}"}}',
    BAD_TOOLS,
)


def content(value: Any, where: str, role: str) -> Iterator[Fault]:
    """Faults of a message's content: text, or a list of the parts that this role may have."""
    if isinstance(value, str) or value is None:
        return
    if not isinstance(value, list):
        fix = 'write the text itself: "content": "..."'
        yield Fault(BAD_CONTENT, where, f"`{where}` is not text", "Each message has a text, or a list of parts", fix)
        return
    if not value:
        yield Fault(BAD_CONTENT, where, f"`{where}` is empty", "", 'write "content": "..."')
    for position, part in enumerate(value):
        yield from _part(part, f"{where}[{position}]", _PARTS_OF.get(role, tuple(_PARTS)))


def _part(part: Any, where: str, allowed: tuple[str, ...]) -> Iterator[Fault]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in allowed:
        yield from _PARTS[kind](part, where)
        return
    named = ", ".join(allowed)
    what = f"`{where}` is not an object" if not isinstance(part, dict) else f"`{where}.type` must be one of {named}"
    yield Fault(BAD_CONTENT, where, what, "Other parts cannot stand in this message", f"write {_PARTS['text'].example}")


_TOOLS: Final[Shape] = ListOf(
    Object(
        {
            "type": OneOf(("function",), BAD_TOOLS),
            "function": Object(
                {
                    "name": Words(filled=True, code=BAD_TOOLS),
                    "description": Words(code=BAD_TOOLS, nullable=True),
                    "parameters": TypeOf(dict, "an object", BAD_TOOLS, nullable=True),
                    "strict": TypeOf(bool, "true or false", BAD_TOOLS, nullable=True),
                },
                ("name",),
                '{"name": "...", "parameters": {...}}',
                BAD_TOOLS,
            ),
        },
        ("type", "function"),
        '{"type": "function", "function": {"name": "...", "parameters": {...}}}',
        BAD_TOOLS,
    ),
    code=BAD_TOOLS,
    nullable=True,
)

_MESSAGE: Final = Object(
    {
        "role": OneOf(
            ("system", "user", "assistant", "tool"),
            BAD_ROLE,
            "Each message says who speaks",
            elsewhere=_ROLES_ELSEWHERE,
        ),
        "content": anything,
        "name": Words(nullable=True),
        "refusal": Words(nullable=True),
        "weight": OneOf((0, 1), BAD_WEIGHT, "1: the answer is learned; 0: it is only read", nullable=True),
        "tool_calls": anything,
        "tool_call_id": Words(nullable=True),
    },
    (),
    '{"role": "user", "content": "..."}',
    NO_MESSAGES,
    elsewhere={"function_call": _OLD, "audio": "It names a sound on OpenAI's side, which no other target has"},
)
#: Only in messages of one role: key, role, code, and why.
_ONLY: Final = (
    ("weight", "assistant", BAD_WEIGHT, "Only answers of the assistant are learned"),
    ("refusal", "assistant", BAD_CONTENT, "Only the assistant refuses"),
    ("tool_calls", "assistant", BAD_TOOLS, "Only the assistant calls tools"),
    ("tool_call_id", "tool", BAD_TOOLS, "Only a tool's message answers a call"),
)


def message(value: Any, where: str) -> Iterator[Fault]:
    """Faults of one message."""
    yield from _MESSAGE(value, where)
    if not isinstance(value, dict):
        return
    role = value.get("role")
    if role is None and "role" not in value:
        why, fix = "Each message says who speaks", 'write "role": "user"'
        yield Fault(BAD_ROLE, f"{where}.role", f"`{where}` has no role", why, fix)
    yield from content(value.get("content"), inside(where, "content"), role if isinstance(role, str) else "")
    for key, owner, code, why in _ONLY:
        if value.get(key) is not None and role != owner and role in ROLES:
            place = inside(where, key)
            yield Fault(code, place, f"`{place}` stands in a message of the {role}", why, "remove it")
    if value.get("tool_calls") is not None:
        yield from ListOf(_CALL, 1, code=BAD_TOOLS)(value["tool_calls"], inside(where, "tool_calls"))
    yield from _said(value, where)


def _said(value: dict[str, Any], where: str) -> Iterator[Fault]:
    """A message says something, or calls something."""
    if value.get("content") is not None:
        return
    if value.get("role") == "assistant" and (value.get("tool_calls") or value.get("refusal") is not None):
        return
    fix = 'write the text itself: "content": "..."'
    what = f"`{where}.content` is null" if "content" in value else f"`{where}` has no content"
    yield Fault(BAD_CONTENT, f"{where}.content", what, "Only an answer that calls tools goes without one", fix)


MESSAGES: Final[Shape] = ListOf(message, 1, SAMPLE, NO_MESSAGES)
#: The keys of a row beside its messages that all of OpenAI's layouts have.
TOOL_KEYS: Final[Mapping[str, Shape]] = {
    "tools": _TOOLS,
    "parallel_tool_calls": TypeOf(bool, "true or false", BAD_FIELD, nullable=True),
}
#: What to say of keys that are known and not read.
ELSEWHERE: Final = {"functions": _OLD, "function_call": _OLD}
HARMLESS: Final = frozenset({"id", "metadata", "source"})


def messages(value: list[dict[str, Any]]) -> list[Message]:
    """Messages without faults, typed."""
    return msgspec.convert(value, list[Message])


def tools(row: Row) -> dict[str, Any]:
    """The keys of TOOL_KEYS as a row has them."""
    return {key: row[key] for key in TOOL_KEYS if row.get(key) is not None}


def recognises(row: Row) -> bool:
    """A row with a list of messages, which have a role."""
    found = row.get("messages")
    if not isinstance(found, list) or "schemaVersion" in row:
        return False
    return not found or not isinstance(found[0], dict) or "from" not in found[0]


def read(row: Row) -> Chat:
    """A row without faults."""
    return msgspec.convert({"messages": row["messages"], **tools(row)}, Chat)


def write(chat: Chat) -> dict[str, Any]:
    """The same row again."""
    return msgspec.to_builtins(chat)  # type: ignore[no-any-return]


FORMAT: Final = Format(
    name="openai",
    title="OpenAI chat",
    kind="chat",
    sample=SAMPLE,
    recognises=recognises,
    shape=Object({"messages": MESSAGES, **TOOL_KEYS}, ("messages",), SAMPLE, NO_MESSAGES, HARMLESS, ELSEWHERE),
    read=read,
    write=write,
    turns="messages",
    harmless=HARMLESS,
)
