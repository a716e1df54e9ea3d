"""What a dataset has to look like for Amazon Bedrock: conversations, or prompts and completions, by the model.

https://docs.aws.amazon.com/nova/latest/userguide/fine-tune-prepare-data-understanding.html, and AWS's own check of such
files (nova_ft_dataset_validator.py in aws-samples/amazon-nova-samples), both read 2026-11-24; for Llama
https://docs.aws.amazon.com/bedrock/latest/userguide/model-customization-prepare.html, read 2026-11-29.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_VERSION: Final = "bedrock-conversation-2024"
_ROW: Final = frozenset({"schemaVersion", "system", "messages"})
_TURNS: Final = ("user", "assistant")
_PARTS: Final = frozenset({"text", "image", "video"})
_PAIR: Final = frozenset({"prompt", "completion"})
#: Characters of a pair: 16,000 tokens of six characters, as the page estimates them.
_LONGEST: Final = 96_000
#: Faults that are told of; more of them say nothing new.
_TOLD: Final = 5


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset as it was read."""

    rows: int
    faults: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one family of models wants of its data."""

    least: int
    most: int
    #: Whether that counts training and validation together.
    together: bool = False
    row: Callable[[Any], Iterator[str]]


def read(data: bytes, model: str) -> Dataset:
    """Read all lines as rows that this model learns from."""
    row = wanted(model).row
    faults: list[str] = []
    rows = 0
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        rows += 1
        try:
            faults += [f"line {number}: {each}" for each in row(json.loads(line))]
        except ValueError:
            faults.append(f"line {number} is no JSON")
    return Dataset(rows=rows, faults=tuple(faults[:_TOLD]))


def sized(model: str, train: int, validation: int) -> Iterator[str]:
    """What is wrong with how many rows there are."""
    want = wanted(model)
    count, what = (train + validation, "files have") if want.together else (train, "file has")
    if not want.least <= count <= want.most:
        yield f"the {what} {count} samples, and takes from {want.least} to {want.most}"


def wanted(model: str) -> Wanted:
    """By the name of the model; of one that nobody knows, conversations as for Nova."""
    return next((want for start, want in _FAMILIES.items() if model.startswith(start)), _NOVA)


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


def _pair(row: Any) -> Iterator[str]:
    if not isinstance(row, dict) or row.keys() != _PAIR:
        yield "a sample has prompt and completion, nothing else"
    elif not all(isinstance(each, str) for each in row.values()):
        yield "prompt and completion are texts"
    elif not row["completion"]:
        yield "completion is a text that is not empty"
    elif sum(map(len, row.values())) > _LONGEST:
        yield f"prompt and completion have more than {_LONGEST:,} characters"


_NOVA: Final = Wanted(least=8, most=20_000, row=_row)
#: By the beginning of a model's name, the first that fits.
_FAMILIES: Final[Mapping[str, Wanted]] = {
    "amazon.nova-2-": Wanted(least=200, most=20_000, row=_row),
    "meta.llama3-1-": Wanted(least=100, most=10_000, together=True, row=_pair),
    "meta.llama3-": Wanted(least=100, most=10_000, together=True, row=_row),
}
