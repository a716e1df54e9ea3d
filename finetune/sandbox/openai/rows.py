"""What OpenAI looks at in a file before it trains: each line, and how many there are."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune.sandbox.openai.shapes import ANSWER, FUNCTION, MESSAGES, TOOL, is_flag, listing, record

#: Rows that a training file must have.
LEAST: Final = 10
#: The format that the vendor names for a file that fits the other method.
_FORMATS: Final = {"supervised": "fine-tune-chat", "dpo": "fine-tune-preference"}
#: Our estimate, as no tokenizer ships with ft: bytes of text a token, and tokens around a message.
_BYTES_A_TOKEN: Final = 4
_AROUND: Final = 4


class _Bad(Exception):
    """Why a row is refused."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What one look at a file found."""

    count: int
    #: Estimated, of all rows together.
    tokens: int
    #: Code and message as the job carries them; None when the file is good.
    fault: tuple[str, str] | None = None


def look(content: bytes, method: str, file_id: str, *, side: str, least: int) -> Rows:
    """Read all rows for `supervised` or `dpo`; there must be `least`. Stops at the first bad one.

    `side` is what the file is for: `training` or `validation`.
    """
    count = tokens = 0
    for number, line in enumerate(_lines(content), 1):
        try:
            tokens += _row(line, method, number, file_id)
        except _Bad as bad:
            message = f"The job failed due to an invalid {side} file. Invalid file format. {bad}"
            return Rows(count=count, tokens=tokens, fault=(f"invalid_{side}_file", message))
        count = number
    if count < least:
        message = f"{side.capitalize()} file has {count} example(s), but must have at least {least} examples"
        return Rows(count=count, tokens=tokens, fault=("invalid_n_examples", message))
    return Rows(count=count, tokens=tokens)


def _lines(content: bytes) -> Iterator[bytes]:
    lines = content.split(b"\n")
    if lines and not lines[-1].strip():
        lines.pop()
    yield from lines


def _row(line: bytes, method: str, number: int, file_id: str) -> int:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise _Bad(f"Example {number} cannot be parsed. Error: line contains invalid json (line {number})") from None
    if not isinstance(row, dict):
        raise _Bad(f"Example {number} is not an object")
    if not _LOOKS_LIKE[method](row):
        raise _Bad(_other_format(row, method, number, file_id))
    return _COUNTED[method](row, f"Example {number}")


def _other_format(row: Mapping[str, Any], method: str, number: int, file_id: str) -> str:
    for other, looks in _LOOKS_LIKE.items():
        if other != method and looks(row):
            return (
                f"Input file {file_id} is in the {_FORMATS[other]} format, but the specified fine-tuning job is not "
                f"using '{other}' as the training method (provided method={method})."
            )
    return f"Example {number} is missing key '{'messages' if method == 'supervised' else 'input'}'"


_LOOKS_LIKE: Final[Mapping[str, Callable[[Mapping[str, Any]], bool]]] = {
    "supervised": lambda row: "messages" in row,
    "dpo": lambda row: "input" in row or "preferred_output" in row or "non_preferred_output" in row,
}


def _supervised(row: Mapping[str, Any], where: str) -> int:
    messages = _messages(row, where)
    answers = [each for each in messages if each["role"] == "assistant"]
    if not answers:
        raise _Bad(f"{where} must have at least one message from the assistant")
    if all(each.get("weight") == 0 for each in answers):
        raise _Bad(f"{where} must have at least one message from the assistant with a weight of 1")
    if not _FUNCTIONS(row):
        raise _Bad(f"{where} has invalid functions")
    return _tokens(messages)


def _preference(row: Mapping[str, Any], where: str) -> int:
    asked = row.get("input")
    if not isinstance(asked, dict):
        raise _Bad(f"{where} is missing key 'input'")
    messages = _messages(asked, f"{where}, input")
    for side in ("preferred_output", "non_preferred_output"):
        said = row.get(side)
        if not isinstance(said, list) or len(said) != 1:
            raise _Bad(f"{where}, {side} must have exactly one message")
        if not ANSWER(said[0]):
            raise _Bad(f"{where}, {side} must be a message from the assistant")
        messages = [*messages, said[0]]
    return _tokens(messages)


_COUNTED: Final[Mapping[str, Callable[[Mapping[str, Any], str], int]]] = {
    "supervised": _supervised,
    "dpo": _preference,
}
_FUNCTIONS: Final = record({}, functions=listing(FUNCTION, 1, 128))
_SETTINGS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "tools": record({}, tools=listing(TOOL)),
    "parallel_tool_calls": record({}, parallel_tool_calls=is_flag),
}


def _messages(holder: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    messages = holder.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _Bad(f"{where}: 'messages' must be a list with at least one message")
    for place, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise _Bad(f"{where}, message {place} is not an object")
        if "role" not in message:
            raise _Bad(f"{where}, message {place} Discriminator 'role' is missing in value")
        good = MESSAGES.get(message["role"]) if isinstance(message["role"], str) else None
        if good is None:
            raise _Bad(f"{where}, message {place} has an unknown role")
        if not good(message):
            raise _Bad(f"{where}, message {place} is no valid message of this role")
    for name, good in _SETTINGS.items():
        if not good(holder):
            raise _Bad(f"{where} has invalid {name}")
    return messages


def _tokens(messages: list[dict[str, Any]]) -> int:
    size = sum(len(json.dumps(each.get("content") or each.get("tool_calls") or "").encode()) for each in messages)
    return size // _BYTES_A_TOKEN + _AROUND * len(messages)
