"""What a dataset has to look like for Amazon Bedrock: conversations, as the guide for Nova has them.

https://docs.aws.amazon.com/nova/latest/userguide/fine-tune-prepare-data-understanding.html, and AWS's own check of such
files (nova_ft_dataset_validator.py in aws-samples/amazon-nova-samples), both read 2026-11-24.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_VERSION: Final = "bedrock-conversation-2024"
_ROW: Final = frozenset({"schemaVersion", "system", "messages"})
_TURNS: Final = ("user", "assistant")
_PARTS: Final = frozenset({"text", "image", "video"})
#: Faults that are told of; more of them say nothing new.
_TOLD: Final = 5
#: Rows of a training file.
LEAST: Final = 8
MOST: Final = 20_000


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset as it was read."""

    rows: int
    faults: tuple[str, ...]


def read(data: bytes) -> Dataset:
    """Read all lines as rows."""
    faults: list[str] = []
    rows = 0
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        rows += 1
        try:
            faults += [f"line {number}: {each}" for each in _row(json.loads(line))]
        except ValueError:
            faults.append(f"line {number} is no JSON")
    return Dataset(rows=rows, faults=tuple(faults[:_TOLD]))


def sized(train: Dataset) -> Iterator[str]:
    """What is wrong with the size of a training file."""
    if not LEAST <= train.rows <= MOST:
        yield f"the file has {train.rows} samples, and takes from {LEAST} to {MOST}"


def _row(row: Any) -> Iterator[str]:
    if not isinstance(row, dict):
        yield "a sample is a JSON object"
        return
    if unknown := sorted(row.keys() - _ROW):
        yield f"unknown fields: {', '.join(unknown)}"
    if row.get("schemaVersion", _VERSION) != _VERSION:
        yield f"schemaVersion is {_VERSION}"
    system = row.get("system", [])
    if not isinstance(system, list) or not all(isinstance(each, dict) and set(each) == {"text"} for each in system):
        yield "system is a list of texts"
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        yield "messages are at least two"
        return
    for position, each in enumerate(messages):
        yield from _message(each, _TURNS[position % 2])
    if len(messages) % 2:
        yield "the last message has to be the assistant's"


def _message(message: Any, role: str) -> Iterator[str]:
    if not isinstance(message, dict) or message.keys() != {"role", "content"}:
        yield "a message has role and content, nothing else"
        return
    if message["role"] != role:
        yield f"user and assistant take turns, and it is the {role}'s"
    content = message["content"]
    if not isinstance(content, list) or not content:
        yield "content is a list of parts"
        return
    for part in content:
        kinds = set(part) if isinstance(part, dict) else set()
        if len(kinds) != 1 or kinds - _PARTS:
            yield f"a part has one of {', '.join(sorted(_PARTS))}"
        elif "text" in kinds and (not isinstance(part["text"], str) or not part["text"]):
            yield "text is a text that is not empty"
        elif role == "assistant" and "text" not in kinds:
            yield "an answer is text"
