"""What Mistral looks at in a training file when it is uploaded: every row, as its documentation has them."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune.sandbox.mistral.words import refuse
from finetune.sandbox.service import Refusal

#: Where the vendor sends whoever has a bad file.
_SEE: Final = "https://docs.mistral.ai/capabilities/finetuning"
_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")
#: As many faults are shown in one answer.
_SHOWN: Final = 5
#: Our estimate, as the vendor's tokenizer does not ship with ft: bytes of a row a token.
_BYTES_A_TOKEN: Final = 4


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What one look at a file found."""

    count: int
    #: Estimated.
    tokens: int
    #: `instruct` for conversations, `pretrain` for plain text.
    sample_type: str


class _Bad(Exception):
    """Why a row is refused."""


def look(content: bytes) -> Rows:
    """Read all rows. Raises Refusal: 422 that shows the first faults."""
    faults: list[str] = []
    kinds: set[str] = set()
    count = tokens = 0
    for number, line in enumerate(content.splitlines(), 1):
        try:
            kinds.add(_row(line))
        except _Bad as bad:
            faults.append(f"Line {number}: {bad}")
        count, tokens = number, tokens + -(-len(line) // _BYTES_A_TOKEN)
    if len(kinds) > 1:
        faults.append("Line 1: conversations and plain text in one file")
    if not count:
        faults.append("Line 1: the file is empty")
    if faults:
        raise _invalid(faults)
    return Rows(count=count, tokens=tokens, sample_type=kinds.pop())


def _invalid(faults: list[str]) -> Refusal:
    shown = " ".join(faults[:_SHOWN])
    told = f"Found {len(faults)} error(s) in this file. You can view supported formats here: {_SEE}. {shown}"
    return refuse(422, "Invalid file format.", description=told)


def _row(line: bytes) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        raise _Bad("not a JSON value") from None
    if not isinstance(row, dict):
        raise _Bad("not a JSON object")
    if "messages" in row:
        _only(row, ("messages", "tools"), "the row")
        _messages(row["messages"])
        _tools(row.get("tools"))
        return "instruct"
    _only(row, ("text",), "the row")
    if not isinstance(row.get("text"), str) or not row["text"]:
        raise _Bad("neither messages nor a text")
    return "pretrain"


def _messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise _Bad("messages is not a list with something in it")
    for message in messages:
        if not isinstance(message, dict):
            raise _Bad("a message is not an object")
        check = _ROLES.get(str(message.get("role")))
        if check is None:
            raise _Bad(f"Expected role to be one of: {sorted(_ROLES)} but got {message.get('role')}")
        check(message)
    if messages[-1]["role"] != "assistant":
        raise _Bad(f"Expected last role to be one of: [assistant] but got {messages[-1]['role']}")


def _user(message: Mapping[str, Any]) -> None:
    _only(message, ("role", "content"), "a message")
    content = message.get("content")
    parts = isinstance(content, list) and content and all(isinstance(each, dict) for each in content)
    if not parts and not (isinstance(content, str) and content):
        raise _Bad(f"a {message['role']} message without content")


def _assistant(message: Mapping[str, Any]) -> None:
    _only(message, ("role", "content", "tool_calls", "weight", "prefix"), "a message")
    calls, content = message.get("tool_calls"), message.get("content")
    if bool(calls) == bool(content):
        raise _Bad("Assistant message must have either content or tool_calls, but not both.")
    if content and not isinstance(content, str):
        raise _Bad("the content of an assistant message is not a text")
    if message.get("weight") not in (None, 0, 1):
        raise _Bad("a weight that is neither 0 nor 1")
    if calls is not None and not isinstance(calls, list):
        raise _Bad("tool_calls is not a list")
    for call in calls or ():
        _call(call)


def _call(call: Any) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _Bad("a tool call without a function")
    if not isinstance(function.get("arguments"), str):
        raise _Bad("the arguments of a tool call are not a text")
    _nine(call.get("id"))


def _tool(message: Mapping[str, Any]) -> None:
    _only(message, ("role", "content", "tool_call_id", "name"), "a message")
    if not isinstance(message.get("content"), str):
        raise _Bad("a tool message without content")
    _nine(message.get("tool_call_id"))


def _nine(value: Any) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _Bad(f"Tool call id was {value} but must be a-z, A-Z, 0-9, with a length of 9.")


def _tools(tools: Any) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise _Bad("tools is not a list")
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _Bad("a tool without a function")
        if not isinstance(function.get("description"), str) or not isinstance(function.get("parameters"), dict):
            raise _Bad(f"the function {function['name']} has no description or no parameters")


def _only(value: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    if unknown := sorted(set(value) - set(keys)):
        raise _Bad(f"{where} has the unknown key {unknown[0]}")


_ROLES: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "system": _user,
    "user": _user,
    "assistant": _assistant,
    "tool": _tool,
}
