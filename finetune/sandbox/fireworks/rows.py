"""What Fireworks looks at in an uploaded file: every row, as its documentation has them."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["chat", "preference"]

LEAST_ROWS: Final = 3
_MOST_ROWS: Final = 3_000_000
#: Our estimate, as the vendor's tokenizers do not ship with ft: bytes of a row a token.
_BYTES_A_TOKEN: Final = 4
_ROLES: Final = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What one look at a data set found."""

    count: int
    #: Estimated.
    tokens: int
    kind: Kind


class BadRows(Exception):
    """Why the rows are not taken, in one sentence."""


def look(content: bytes) -> Rows:
    """Read all rows. Raises BadRows."""
    kinds: set[Kind] = set()
    count = tokens = 0
    for number, line in enumerate(content.splitlines(), 1):
        try:
            kinds.add(_row(line))
        except BadRows as bad:
            raise BadRows(f"line {number}: {bad}") from None
        count, tokens = number, tokens + -(-len(line) // _BYTES_A_TOKEN)
    if not LEAST_ROWS <= count <= _MOST_ROWS:
        raise BadRows(f"{count} examples; a dataset has {LEAST_ROWS} to {_MOST_ROWS}")
    if len(kinds) > 1:
        raise BadRows("conversations and preferences in one dataset")
    return Rows(count=count, tokens=tokens, kind=kinds.pop())


def _row(line: bytes) -> Kind:
    try:
        row = json.loads(line)
    except ValueError:
        raise BadRows("not a JSON value") from None
    if not isinstance(row, dict):
        raise BadRows("not a JSON object")
    if "messages" in row:
        _only(row, ("messages", "tools", "weight"), "the row")
        _conversation(row["messages"])
        return "chat"
    _only(row, ("input", "preferred_output", "non_preferred_output"), "the row")
    asked = row.get("input")
    if not isinstance(asked, dict):
        raise BadRows("neither messages nor an input")
    _only(asked, ("messages", "tools"), "the input")
    if [each["role"] for each in _messages(asked.get("messages"), texts=True) if each["role"] != "system"] != ["user"]:
        raise BadRows("the input has not one question")
    for key in ("preferred_output", "non_preferred_output"):
        if [each["role"] for each in _messages(row.get(key), texts=True)] != ["assistant"]:
            raise BadRows(f"{key} is not one message of the assistant")
    return "preference"


def _conversation(value: Any) -> None:
    messages = _messages(value)
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        raise BadRows("a system message that is not the first")
    spoken = [role for role in roles if role != "system"]
    if spoken[:1] != ["user"]:
        raise BadRows("the first message is not the user's")
    if spoken[-1] != "assistant":
        raise BadRows("the last message is not the assistant's")
    if any(pair in (("user", "user"), ("assistant", "assistant")) for pair in itertools.pairwise(spoken)):
        raise BadRows("two messages of the same side in a row")


def _messages(value: Any, *, texts: bool = False) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise BadRows("messages is not a list with something in it")
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise BadRows(f"a message without a role of {', '.join(_ROLES)}")
        content = message.get("content")
        if texts and not isinstance(content, str):
            raise BadRows("a message whose content is not a text")
        if not content and not (message["role"] == "assistant" and message.get("tool_calls")):
            raise BadRows("a message without content")
        if message.get("weight") not in (None, 0, 1):
            raise BadRows("a weight that is neither 0 nor 1")
    return value


def _only(value: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    if unknown := sorted(set(value) - set(keys)):
        raise BadRows(f"{where} has the unknown key {unknown[0]}")
