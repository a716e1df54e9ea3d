"""Rows of OpenAI's chat layout: what is wrong with one, and its one canonical form."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

UNKNOWN_KEY: Final = "E209"
NO_MESSAGES: Final = "E210"
BAD_ROLE: Final = "E211"
BAD_CONTENT: Final = "E212"
BAD_WEIGHT: Final = "E213"
NOTHING_TO_LEARN: Final = "E214"

ROLES: Final = ("system", "user", "assistant")
#: Keys of a row that say nothing to a model; they are left out, with a warning.
HARMLESS: Final = frozenset({"id", "metadata", "source"})

_SHAPE: Final = 'write {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
_TOOLS: Final = "Rows with tool calls are not read yet, and without them the answers make no sense"
#: Keys that tell what layout a row has, if not this one.
_LAYOUTS: Final = {
    "conversations": "This is ShareGPT's layout",
    "conversation": "This is a layout of another tool",
    "prompt": "This is the layout of prompt and completion",
    "completion": "This is the layout of prompt and completion",
    "instruction": "This is Alpaca's layout",
    "output": "This is Alpaca's layout",
    "text": "This is plain text, without roles",
    "chosen": "This is a layout of preferences, for dpo",
    "rejected": "This is a layout of preferences, for dpo",
    "preferred_output": "This is a layout of preferences, for dpo",
    "non_preferred_output": "This is a layout of preferences, for dpo",
    "input": "This is a layout of preferences, or Alpaca's",
    "tools": _TOOLS,
    "functions": _TOOLS,
    "parallel_tool_calls": _TOOLS,
    "tool_calls": _TOOLS,
    "function_call": _TOOLS,
    "tool_call_id": _TOOLS,
}
_ROLES_ELSEWHERE: Final = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


class Fault(NamedTuple):
    """What is wrong with one field of a row."""

    code: str
    field: str
    what: str
    why: str
    fix: str
    #: As the user wrote it; None for texts, which are the user's data and not for logs.
    value: str | None = None


def faults(row: dict[str, Any]) -> list[Fault]:
    """Everything that keeps `row` from being trained on; empty when nothing does."""
    found = [_unknown(key, printable(key)) for key in row if key != "messages" and key not in HARMLESS]
    if "messages" not in row:
        # A row of another layout needs to be told once that it is one.
        told = any(fault.field in _LAYOUTS for fault in found)
        return found if told else [*found, Fault(NO_MESSAGES, "messages", "the row has no `messages`", "", _SHAPE)]
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        return [*found, Fault(NO_MESSAGES, "messages", "`messages` is not a list of messages", "", _SHAPE)]
    for position, message in enumerate(messages):
        found.extend(_message(message, f"messages[{position}]"))
    return found or list(_lesson(messages))


def canonical(row: dict[str, Any]) -> bytes:
    """A row without faults as JSON, UTF-8, keys sorted, no line end. Equal rows give equal bytes."""
    kept = {"messages": row["messages"]}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


def printable(key: str) -> str:
    """A key of the user's for a message: short, and without what a terminal would act on."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in key[:60])


def _unknown(key: str, field: str) -> Fault:
    why = _LAYOUTS.get(key, "ft would have to drop it, and never does so silently")
    fix = "put the rows into this layout: " + _SHAPE if key in _LAYOUTS else "remove the key from the rows"
    return Fault(UNKNOWN_KEY, field, f"unknown key `{field}`", why, fix)


def _message(message: Any, field: str) -> Iterator[Fault]:
    if not isinstance(message, dict):
        yield Fault(NO_MESSAGES, field, f"`{field}` is not an object", "A message has a role and a content", _SHAPE)
        return
    for key in message:
        if key not in ("role", "content", "weight"):
            yield _unknown(key, f"{field}.{printable(key)}")
    yield from _role(message, field)
    yield from _content(message, field)
    yield from _weight(message, field)


def _role(message: dict[str, Any], field: str) -> Iterator[Fault]:
    role = message.get("role")
    if role in ROLES:
        return
    what = f"`{field}.role` must be system, user or assistant" if "role" in message else f"`{field}` has no role"
    why = _TOOLS if role in ("tool", "function") else "Each message says who speaks"
    meant = _ROLES_ELSEWHERE.get(role.lower(), role.lower()) if isinstance(role, str) else "user"
    fix = f'write "role": "{meant if meant in ROLES else "user"}"'
    yield Fault(BAD_ROLE, f"{field}.role", what, why, fix, json.dumps(role)[:60] if "role" in message else None)


def _content(message: dict[str, Any], field: str) -> Iterator[Fault]:
    content = message.get("content")
    place = f"{field}.content"
    if not isinstance(content, str):
        parts = isinstance(content, list)
        why = "Content in parts is not read yet" if parts else "Each message has a text"
        fix = 'write the text itself: "content": "..."'
        what = f"`{place}` is not text" if "content" in message else f"`{field}` has no content"
        yield Fault(BAD_CONTENT, place, what, why, fix)
    elif any("\ud800" <= character <= "\udfff" for character in content):
        why = "An escape from \\ud800 to \\udfff alone stands for nothing and cannot be written"
        yield Fault(BAD_CONTENT, place, f"`{place}` has half of a character in it", why, "remove the escape")
    elif message.get("role") == "assistant" and message.get("weight") != 0 and not content.strip():
        why = "The model would learn to say nothing"
        yield Fault(BAD_CONTENT, place, f"`{place}` is empty", why, 'write the answer, or "weight": 0')


def _weight(message: dict[str, Any], field: str) -> Iterator[Fault]:
    if "weight" not in message:
        return
    weight, place = message["weight"], f"{field}.weight"
    if type(weight) is not int or weight not in (0, 1):
        why = "1: the answer is learned; 0: it is only read"
        yield Fault(BAD_WEIGHT, place, f"`{place}` must be 0 or 1", why, 'write "weight": 0', json.dumps(weight)[:60])
    elif message.get("role") != "assistant":
        why = "Only answers of the assistant are learned"
        yield Fault(BAD_WEIGHT, place, f"`{place}` is not on an answer", why, "remove it", str(weight))


def _lesson(messages: list[dict[str, Any]]) -> Iterator[Fault]:
    last = len(messages) - 1
    if messages[last]["role"] != "assistant":
        why = "What is learned is the answer of the assistant, at the end"
        fix = "add the answer, or remove what comes after the last one"
        yield Fault(NOTHING_TO_LEARN, f"messages[{last}]", "the last message is not the assistant's", why, fix)
    elif not any(each["role"] == "assistant" and each.get("weight") != 0 for each in messages):
        why = "Every answer has weight 0, so nothing would be learned from the row"
        yield Fault(NOTHING_TO_LEARN, "messages", "no answer counts", why, 'give one of them "weight": 1')
