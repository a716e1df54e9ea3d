"""Calls of tools in layouts without ids: arguments as objects, and which call a tool's message answers.

Where a layout has no ids, the order says what belongs together: a result answers the first call of the last message
with calls that has no result yet; where results name their function, the first such call of that name. Ids are made
anew as `call_1`, `call_2`, in the order of the calls, so a row gives the same ids wherever it is read.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from math import isfinite
from typing import Any, Final, NoReturn

import msgspec

from finetune.data.example import Chat

DISORDERED: Final = "results of tool calls out of their order"
NO_OBJECT: Final = "arguments of tool calls that are no JSON object"

MISNAMED: Final = "names in results of tools that are not the call's"

#: Integers up to here are the same in every reader of JSON (RFC 8259, section 6).
SAFE: Final = 2**53 - 1
#: Integers up to here fit into 64 bits.
WIDE: Final = 2**63 - 1


class Open:
    """The calls of a conversation as it goes on, and those that have no result yet."""

    def __init__(self) -> None:
        self._count = 0
        #: Name of the function, and id.
        self._open: list[tuple[str, str]] = []

    def turn(self) -> None:
        """A message with calls begins; what is still open from earlier ones will get no result."""
        self._open.clear()

    def call(self, name: str, given: str | None = None) -> str:
        """The id of the next call: the one that it has, or a new one."""
        self._count += 1
        made = given or f"call_{self._count}"
        self._open.append((name, made))
        return made

    def answer(self, name: str | None = None, given: str | None = None) -> str | None:
        """The id of the call that the next result answers; None if there is no such call.

        Results may say the name of the function, or an id.
        """
        for position, (called, made) in enumerate(self._open):
            if (name is None or name == called) and (given is None or given == made):
                del self._open[position]
                return made
        return None


def disordered(chat: Chat, named: bool) -> bool:
    """True if the order does not say which call each result answers. `named`: results say the function's name."""
    names: list[tuple[str, str]] = []
    for message in chat.messages:
        if message.tool_calls:
            names = [(call.function.name, call.id) for call in message.tool_calls]
        elif message.role == "tool":
            meant = next((pair for pair in names if pair[1] == message.tool_call_id), None)
            alike = [pair for pair in names if meant is not None and (not named or pair[0] == meant[0])]
            if meant is None or alike[0] != meant:
                return True
            names.remove(meant)
    return False


def misnamed(chat: Chat) -> bool:
    """True if the message of a tool has another name than the function that was called."""
    names: dict[str | None, str] = {}
    for message in chat.messages:
        for call in message.tool_calls or ():
            names[call.id] = call.function.name
        if message.role == "tool" and message.name not in (None, names.get(message.tool_call_id)):
            return True
    return False


def as_object(arguments: str, largest: int = WIDE) -> dict[str, Any] | None:
    """The JSON object that a text says; None if it says none, or if a reader of that object could lose some of it.

    Lost would be: a key that is there twice, digits that no double holds, an integer beyond ±`largest`, half of a
    character, NaN.
    """
    try:
        value = json.loads(
            arguments,
            object_pairs_hook=_once,
            parse_constant=_refuse,
            parse_float=_exact,
            parse_int=_within(largest),
        )
        # Somewhat deeper than it will stand in a row.
        msgspec.json.encode([[[[[[[[value]]]]]]]])
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def object_or_text(arguments: str) -> dict[str, Any] | str:
    """What `as_object` gives; the text itself where that is none."""
    found = as_object(arguments)
    return arguments if found is None else found


def is_object(arguments: str) -> bool:
    """True for a text that is a JSON object, whether or not all of it survives."""
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def wrapped(arguments: str) -> dict[str, Any]:
    """An object for a text that is none, for layouts that want one: the text under the key `arguments`."""
    return {"arguments": arguments}


def as_text(value: Any) -> str:
    """A parsed value as JSON, in the way in which Python and most data sets write it: blanks after `,` and `:`."""
    return json.dumps(value, ensure_ascii=False)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError
    return out


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _exact(digits: str) -> float:
    value = float(digits)
    if not isfinite(value) or Decimal(digits) != Decimal(repr(value)):
        raise ValueError
    return value


def _within(largest: int) -> Callable[[str], int]:
    def read(digits: str) -> int:
        value = int(digits)
        if not -largest <= value <= largest:
            raise ValueError
        return value

    return read
