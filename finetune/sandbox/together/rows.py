"""What Together looks at in a file that is to be trained on: every row, as its documentation has them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

#: Our estimate, as no tokenizer ships with ft: bytes of a row a token.
_BYTES_A_TOKEN: Final = 4
_ROLES: Final = ("system", "user", "assistant", "tool")
_PREFERENCE: Final = ("input", "preferred_output", "non_preferred_output")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What one look at a file found."""

    count: int
    #: Estimated, of all rows together.
    tokens: int
    #: CONVERSATION, PREFERENCE_OPENAI, INSTRUCTION, GENERAL; None of a bad file.
    format: str | None
    #: Why it is of no use; None: it is good.
    fault: str | None = None


class _Bad(Exception):
    """Why a row is refused."""


def look(content: bytes) -> Rows:
    """Read all rows. Stops at the first bad one."""
    count = tokens = 0
    formats: set[str] = set()
    for number, line in enumerate(content.splitlines(), 1):
        try:
            formats.add(_format(line))
        except _Bad as bad:
            return Rows(count=count, tokens=tokens, format=None, fault=f"Line {number}: {bad}")
        count, tokens = number, tokens - (-len(line) // _BYTES_A_TOKEN)
    if len(formats) != 1:
        fault = "All rows must have one format" if formats else "The file is empty"
        return Rows(count=count, tokens=tokens, format=None, fault=fault)
    return Rows(count=count, tokens=tokens, format=formats.pop())


def _format(line: bytes) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        raise _Bad("Invalid JSON") from None
    if not isinstance(row, dict):
        raise _Bad("Each line must be a JSON object")
    if "messages" in row:
        _only(row, ("messages", "tools", "weight"))
        _conversation(row["messages"])
        return "CONVERSATION"
    if "preferred_output" in row:
        _preference(row)
        return "PREFERENCE_OPENAI"
    for format, columns in (("INSTRUCTION", ("prompt", "completion")), ("GENERAL", ("text",))):
        if set(row) == set(columns):
            if not all(isinstance(row[name], str) for name in columns):
                raise _Bad(f"{' and '.join(columns)} must be text")
            return format
    raise _Bad("Unknown format: none of messages, text, prompt and completion, or preferences")


def _preference(row: Mapping[str, Any]) -> None:
    _only(row, (*_PREFERENCE, "weight"))
    asked = row.get("input")
    if not isinstance(asked, dict) or not isinstance(asked.get("messages"), list):
        raise _Bad("`input` must have messages")
    for name in _PREFERENCE[1:]:
        said = row.get(name)
        if not isinstance(said, list) or len(said) != 1:
            raise _Bad(f"`{name}` must be a list with one message")
        _conversation([*asked["messages"], *said])


def _conversation(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise _Bad("`messages` must be a list with something in it")
    for message in messages:
        _message(message)
    turns = [message["role"] for message in messages if message["role"] != "tool"]
    if "system" in turns[1:]:
        raise _Bad("A system message must come first")
    turns = [role for role in turns if role != "system"]
    if not turns or turns[0] != "user":
        raise _Bad("The first message must be the user's")
    if "assistant" not in turns:
        raise _Bad("There must be a message of the assistant")
    if any(before == after == "user" for before, after in pairwise(turns)):
        raise _Bad("Roles must take turns")


def _message(message: Any) -> None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise _Bad(f"The role of a message must be one of {', '.join(_ROLES)}")
    _only(message, ("role", "content", "tool_calls", "tool_call_id", "name", "weight", "reasoning"))
    content, calls = message.get("content"), message.get("tool_calls")
    if not isinstance(content, str | list) and not (message["role"] == "assistant" and calls):
        raise _Bad("A message must have a content")
    if message.get("weight") not in (None, 0, 1):
        raise _Bad("The weight of a message must be 0 or 1")


def _only(value: Mapping[str, Any], keys: Sequence[str]) -> None:
    if unknown := sorted(set(value) - set(keys)):
        raise _Bad(f"Unexpected column: {unknown[0]}")
