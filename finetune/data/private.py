"""Personal data in a row: every text of its messages is looked at, the arguments of tool calls too."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from finetune.data.example import Chat, Example, Label, Message, Part, Refusal, Text, texts
from finetune.data.faults import Fault
from finetune.data.privacy import Numbered, find, redact

PRIVATE: Final = "E240"

_Change = Callable[[str], str]


def faults(example: Example, level: str) -> Iterator[Fault]:
    """One fault for each kind of personal data in the row."""
    for detail in sorted({found.detail for text in texts(example) for found in find(text)}):
        what = f"the row holds personal data or a secret: {detail}"
        why = "The model may repeat it to anyone, and a hosted target keeps a copy of the data"
        yield Fault(PRIVATE, "", what, why, "`ft data redact` writes a copy without it", level=level)


def redacted(example: Example) -> Example:
    """The row with placeholders in the place of personal data, the same for what is the same. Idempotent."""
    style = Numbered(texts(example))

    def change(text: str) -> str:
        return redact(text, find(text), style)

    changed = msgspec.structs.replace
    if isinstance(example, Chat):
        return changed(example, messages=_all(example.messages, change))
    prompt = _all(example.prompt, change)
    if isinstance(example, Label):
        return changed(example, prompt=prompt, completion=_all(example.completion, change))
    return changed(example, prompt=prompt, chosen=_all(example.chosen, change), rejected=_all(example.rejected, change))


def _all(messages: list[Message], change: _Change) -> list[Message]:
    return [_message(message, change) for message in messages]


def _message(message: Message, change: _Change) -> Message:
    replace, content, calls = msgspec.structs.replace, message.content, message.tool_calls
    return replace(
        message,
        content=change(content) if isinstance(content, str) else content and [_part(part, change) for part in content],
        refusal=message.refusal and change(message.refusal),
        tool_calls=calls
        and [
            replace(call, function=replace(call.function, arguments=_arguments(call.function.arguments, change)))
            for call in calls
        ],
    )


def _arguments(text: str, change: _Change) -> str:
    """Arguments stay JSON: what is in a number becomes a text. What is no JSON is a text like any other."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return change(text)
    changed = _leaves(value, "", change)
    return text if changed == value else change(json.dumps(changed, ensure_ascii=False))


def _leaves(value: Any, key: str, change: _Change) -> Any:
    if isinstance(value, dict):
        return {name: _leaves(each, name, change) for name, each in value.items()}
    if isinstance(value, list):
        return [_leaves(each, key, change) for each in value]
    if isinstance(value, bool) or not isinstance(value, str | int):
        return value
    # Some numbers are only told by the word before them.
    head = f"{key}: "
    changed = change(f"{head}{value}")
    after = changed.removeprefix(head) if changed.startswith(head) else change(str(value))
    return after if isinstance(value, str) or after != str(value) else value


def _part(part: Part, change: _Change) -> Part:
    if isinstance(part, Text):
        return Text(change(part.text))
    return Refusal(change(part.refusal)) if isinstance(part, Refusal) else part
