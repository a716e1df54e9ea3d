"""What TRL's layouts have in common: texts or messages, calls of tools in the way of chat templates, answers.

TRL writes the arguments of a call as an object and gives calls no ids. Read, the arguments become text, and ids are
counted through the conversation: `call_1`, `call_2`. Written, arguments that are a JSON object become one again, and
ids stay, which chat templates do not mind. Weights of 1, which say what holds anyway, are left out.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from finetune.data.example import Example
from finetune.data.faults import BAD_FIELD, BAD_TOOLS, Fault, Shape, Words
from finetune.data.formats import openai
from finetune.data.formats.base import Row
from finetune.data.formats.calls import Open, as_text, object_or_text
from finetune.data.formats.losses import PARALLEL, WEIGHTS
from finetune.data.formats.pairs import NOT_AN_ANSWER, lacking, unweighed
from finetune.data.parse import Unread, parse

_TOOLS: Final = openai.TOOL_KEYS["tools"]


def said(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a text, or of a list of messages."""
    if isinstance(value, str):
        yield from Words(filled=True)(value, where)
    elif not isinstance(value, list):
        key = where.rpartition(".")[2]
        why = "It is a text, or a list of messages"
        yield Fault(BAD_FIELD, where, f"`{where}` is neither text nor a list", why, f'write "{key}": "..."')
    else:
        yield from openai.MESSAGES(lift(value), where)
        for position, each in enumerate(value):
            yield from unweighed(
                each, f"{where}[{position}]", "TRL knows no weights: answers are learned, prompts read"
            )


def tools(value: Any, where: str) -> Iterator[Fault]:
    """Faults of the tools: a list, or that list as JSON in a text, which TRL takes too."""
    if not isinstance(value, str):
        yield from _TOOLS(value, where) if value is not None else ()
    elif (inner := _unpacked(value)) is None:
        yield Fault(BAD_TOOLS, where, f"`{where}` is text and no JSON", "", "write the list itself")
    else:
        yield from _TOOLS(inner, where)


#: What TRL's layouts have no place for.
losses: Final = lacking(WEIGHTS, PARALLEL)

#: The keys beside prompts and answers.
TOOL_KEYS: Final[dict[str, Shape]] = {"tools": tools}


def answer(messages: Sequence[dict[str, Any]], where: str, start: int, repeats: str) -> Iterator[Fault]:
    """Faults of sound messages from position `start` on, as an answer. `repeats` says what to do about a question."""
    for position, each in enumerate(messages[start:], start):
        if each["role"] not in ("assistant", "tool"):
            place = f"{where}[{position}].role"
            why = "An answer is the assistant's, with calls of tools and their results at most"
            yield Fault(NOT_AN_ANSWER, place, f"`{place}` is {each['role']}", why, repeats, each["role"])
    if messages[-1]["role"] == "tool":
        place = f"{where}[{len(messages) - 1}]"
        why = "What is learned is what the assistant says in the end"
        yield Fault(NOT_AN_ANSWER, place, f"`{where}` ends with the result of a tool", why, "add the answer")


def lift(messages: list[Any], before: Sequence[dict[str, Any]] = ()) -> list[Any]:
    """The messages with the calls of tools as OpenAI writes them; `before` are those ahead, lifted already.

    Changes nothing that is passed in, and leaves what is no call as it is. A tool's message without an id answers
    the first open call, of its name if it has one.
    """
    if not any(isinstance(each, dict) and (each.get("tool_calls") or each.get("role") == "tool") for each in messages):
        return messages
    calls = Open()
    for each in before:
        _see(each, calls)
    return [_see(each, calls) for each in messages]


def _see(message: Any, calls: Open) -> Any:
    if not isinstance(message, dict):
        return message
    made = message.get("tool_calls")
    if isinstance(made, list) and made:
        calls.turn()
        return {**message, "tool_calls": [_call(each, calls) for each in made]}
    if message.get("role") == "tool":
        given, name = message.get("tool_call_id"), message.get("name")
        answered = calls.answer(name if given is None else None, given)
        return {**message, "tool_call_id": answered if given is None else given}
    return message


def _call(call: Any, calls: Open) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return call
    made = calls.call(function.get("name", ""), call.get("id"))
    if isinstance(function.get("arguments"), dict):
        function = {**function, "arguments": _packed(function["arguments"])}
    given = {key: value for key, value in call.items() if value is not None}
    return {"id": made, "type": "function", **given, "function": function}


def read_tools(row: Row) -> dict[str, Any]:
    """The tools of a row without faults, under their key; nothing if it has none."""
    value = row.get("tools")
    if isinstance(value, str):
        value = _unpacked(value)
    return {} if value is None else {"tools": value}


def messages_of(
    value: str | list[dict[str, Any]], role: str, before: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """A text as one message of this role; messages as `lift` gives them."""
    return [{"role": role, "content": value}] if isinstance(value, str) else lift(value, before)


def written(example: Example) -> dict[str, Any]:
    """The example with the names of its fields, which are TRL's, without weights, arguments as objects."""
    row: dict[str, Any] = msgspec.to_builtins(example)
    row.pop("parallel_tool_calls", None)
    for messages in row.values():
        # The tools are a list of objects too, and have no key that a message has.
        for each in messages if isinstance(messages, list) else ():
            each.pop("weight", None)
            for call in each.get("tool_calls", ()):
                call["function"]["arguments"] = object_or_text(call["function"]["arguments"])
    return row


def _packed(arguments: dict[str, Any]) -> Any:
    try:
        return as_text(arguments)
    except (ValueError, RecursionError):
        return arguments


def _unpacked(text: str) -> Any:
    """What the JSON in a text says; None if it is no sound JSON."""
    try:
        row = parse(b'{"it":' + text.encode() + b"}")
    except (Unread, UnicodeEncodeError):
        return None
    return row["it"] if len(row) == 1 else None
