"""From chat rows to token ids and labels: only the assistant's own tokens are supervised.

A token is supervised if it begins inside the text that the assistant writes (`finetune.training.template`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from finetune.errors import Problem, TrainingError
from finetune.training.template import Span, Template, UnplacedRow

#: The label of a token that is not supervised.
IGNORED: Final = -100

_MOST_PROBLEMS: Final = 5


@dataclass(frozen=True)
class Example:
    """One conversation as the model sees it, T tokens."""

    #: Token ids, int32 [T].
    ids: Tensor
    #: The id where the token is supervised, else IGNORED; int32 [T]. Not shifted.
    labels: Tensor
    #: Tokens that have a loss: supervised ones but the first of the row, which nothing predicts.
    supervised: int


@dataclass(frozen=True)
class Examples:
    """All usable rows of a file, in the file's order."""

    rows: tuple[Example, ...]
    #: sha256 over all ids and labels, in hex.
    digest: str


class ChatEncoder:
    """Applies one tokenizer's chat template to rows."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise TrainingError(
                Problem(
                    code="E611",
                    what="the base model's tokenizer does not tell which text a token stands for",
                    why="without that the assistant's tokens cannot be found",
                    fix="use a base model with a tokenizer.json",
                    field="base_model",
                )
            )
        self._tokenizer = tokenizer
        self._template = Template(lambda tools: tokenizer.get_chat_template(tools=tools), tokenizer.special_tokens_map)

    def encode(self, row: Mapping[str, Any]) -> Example:
        """The row `{"messages": [...]}` (and `tools`, if any), not truncated. Raises UnplacedRow."""
        return self._tokenize(*self._template.render(row))

    def prompt_leads(self, row: Mapping[str, Any]) -> bool:
        """True if the prompt that generation will use before the row's last answer is how its training ids begin."""
        both = self._template.prompt_and_text(row)
        asked, seen = (self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in both)
        return bool(seen[: len(asked)] == asked)

    def _tokenize(self, text: str, spans: Sequence[Span]) -> Example:
        out = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = torch.tensor(out["input_ids"], dtype=torch.int32)
        labels = torch.full_like(ids, IGNORED)
        for position, (begin, end) in enumerate(out["offset_mapping"]):
            if begin < end and any(start <= begin < stop for start, stop in spans):
                labels[position] = ids[position]
        return example(ids, labels)


def example(ids: Tensor, labels: Tensor) -> Example:
    """The example of these ids and labels, int32 [T] each."""
    return Example(ids, labels, int((labels[1:] != IGNORED).sum()))


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a JSON lines file with their line numbers from 1; empty lines are skipped. Raises TrainingError."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _row(path, number, line)
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            Problem(code="E610", what=f"the prepared data cannot be read: {error}", fix="submit again", file=str(path))
        ) from error


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages or not all(_is_message(m) for m in messages):
        raise TrainingError(
            Problem(
                code="E610",
                what='the row is not {"messages": [{"role": ..., "content": ...}, ...]}',
                fix="check the data with `ft validate`",
                file=str(path),
                line=number,
            )
        )
    assert isinstance(row, dict)
    return row


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str)


def load(path: Path, tokenizer: Any, max_tokens: int, warn: Callable[[str], None]) -> Examples:
    """All rows of `path` that have something to learn, cut to `max_tokens` tokens from the right.

    Tells `warn` once each of rows that were cut and rows that were left out. Raises TrainingError: E610 for rows
    that are no chats, E611 for rows in which the answers cannot be placed, E612 when no row is left.
    """
    encoder = ChatEncoder(tokenizer)
    rows: list[Example] = []
    problems: list[Problem] = []
    count = cut = dropped = 0
    for number, row in read_rows(path):
        count += 1
        try:
            made = encoder.encode(row)
            if made.supervised and not rows and not encoder.prompt_leads(row):
                warn("the prompt used in generation is not how training rows begin: answers may suffer")
        except UnplacedRow as error:
            problems.append(_unplaced(path, number, error))
            if len(problems) == _MOST_PROBLEMS:
                break
            continue
        kept = example(made.ids[:max_tokens], made.labels[:max_tokens])
        cut += bool(kept.supervised) and len(kept.ids) < len(made.ids)
        dropped += not kept.supervised
        if kept.supervised:
            rows.append(kept)
    if problems:
        raise TrainingError(*problems)
    if cut:
        warn(f"{cut} of {count} rows are longer than max_seq_length = {max_tokens} tokens and were cut at their end")
    if dropped:
        warn(f"{dropped} of {count} rows were left out: no answer to learn within {max_tokens} tokens")
    if not rows:
        raise TrainingError(
            Problem(
                code="E612",
                what="no row has anything to learn",
                why=f"of {count} rows none has an assistant message with weight within {max_tokens} tokens",
                fix="raise training.max_seq_length, or check the data with `ft validate`",
                file=str(path),
                field="training.max_seq_length",
            )
        )
    return Examples(tuple(rows), _digest(rows))


def _unplaced(path: Path, number: int, error: UnplacedRow) -> Problem:
    return Problem(
        code="E611",
        what=f"the assistant's tokens cannot be told in this row: {error}",
        why="training on the user's tokens as well would teach the wrong thing",
        fix="change the row, or give the base model a chat template with {% generation %} marks",
        file=str(path),
        line=number,
    )


def _digest(rows: Sequence[Example]) -> str:
    total = hashlib.sha256()
    for row in rows:
        for part in (row.ids, row.labels):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part.numpy().tobytes())
    return total.hexdigest()
