"""From prepared rows to token ids and labels: only the assistant's own tokens are supervised.

A token is supervised if it begins inside the text that the assistant writes (`finetune.training.template`).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

import torch
from torch import Tensor

from finetune.errors import Problem, TrainingError
from finetune.training.template import Span, Template, UnplacedRow

#: The label of a token that is not supervised.
IGNORED: Final = -100

_MOST_PROBLEMS: Final = 5


class Unit(Protocol):
    """What a row becomes, and what stays together in a micro-batch: a conversation, or two that are compared."""

    @property
    def parts(self) -> "tuple[Example, ...]":
        """Its conversations; as many for every unit of a method."""
        ...

    @property
    def tokens(self) -> int:
        """Of all its conversations."""
        ...

    @property
    def longest(self) -> int:
        """Tokens of its longest conversation."""
        ...

    @property
    def learnable(self) -> bool:
        """False for one that no adapter can learn from."""
        ...

    def cut(self, max_tokens: int) -> Self:
        """The same with each conversation cut to `max_tokens` from the right."""
        ...


@dataclass(frozen=True)
class Example:
    """One conversation as the model sees it, T tokens."""

    #: Token ids, int32 [T].
    ids: Tensor
    #: The id where the token is supervised, else IGNORED; int32 [T]. Not shifted.
    labels: Tensor
    #: Tokens that have a loss: supervised ones but the first of the row, which nothing predicts.
    supervised: int

    @property
    def parts(self) -> "tuple[Example, ...]":
        """See Unit."""
        return (self,)

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.ids)

    @property
    def longest(self) -> int:
        """T."""
        return len(self.ids)

    @property
    def learnable(self) -> bool:
        """See Unit."""
        return self.supervised > 0

    def cut(self, max_tokens: int) -> "Example":
        """See Unit."""
        return example(self.ids[:max_tokens], self.labels[:max_tokens])


@dataclass(frozen=True)
class Examples:
    """All usable rows of a file, in the file's order."""

    rows: tuple[Unit, ...]
    #: sha256 over all ids and labels, in hex.
    digest: str


class Encoder(Protocol):
    """What makes units of the rows of one method."""

    #: A row, for people.
    layout: str
    #: What every row lacks when none is left: `none has ...`.
    lacking: str

    def is_row(self, row: Mapping[str, Any]) -> bool:
        """True for a row of the method's layout."""
        ...

    def encode(self, row: Mapping[str, Any]) -> Unit:
        """The row, not truncated. Raises UnplacedRow."""
        ...

    def prompt_leads(self, row: Mapping[str, Any]) -> bool:
        """True if the prompt that generation will use before the row's last answer is how its training ids begin."""
        ...


class ChatEncoder:
    """Applies one tokenizer's chat template to rows: an Encoder."""

    layout = '{"messages": [{"role": ..., "content": ...}, ...]}'
    lacking = "an assistant message with weight"

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

    def is_row(self, row: Mapping[str, Any]) -> bool:
        """See Encoder."""
        return is_talk(row.get("messages"))

    def encode(self, row: Mapping[str, Any]) -> Example:
        """The row `{"messages": [...]}` (and `tools`, if any), not truncated. Raises UnplacedRow."""
        return self._tokenize(*self._template.render(row))

    def prompt_leads(self, row: Mapping[str, Any]) -> bool:
        """See Encoder."""
        both = self._template.prompt_and_text(row)
        asked, seen = (self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in both)
        return bool(seen[: len(asked)] == asked)

    def _tokenize(self, text: str, spans: Iterable[Span]) -> Example:
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


def load(path: Path, encoder: Encoder, max_tokens: int, warn: Callable[[str], None]) -> Examples:
    """All rows of `path` that have something to learn, cut to `max_tokens` tokens from the right.

    Tells `warn` once each of rows that were cut and rows that were left out. Raises TrainingError: E610 for rows
    of another layout, E611 for rows in which the answers cannot be placed, E612 when no row is left.
    """
    rows: list[Unit] = []
    problems: list[Problem] = []
    count = cut = dropped = 0
    for number, row in _read(path, encoder):
        count += 1
        try:
            made = encoder.encode(row)
            if made.learnable and not rows and not encoder.prompt_leads(row):
                warn("the prompt used in generation is not how training rows begin: answers may suffer")
        except UnplacedRow as error:
            problems.append(_unplaced(path, number, error))
            if len(problems) == _MOST_PROBLEMS:
                break
            continue
        kept = made.cut(max_tokens)
        cut += kept.learnable and kept.tokens < made.tokens
        dropped += not kept.learnable
        if kept.learnable:
            rows.append(kept)
    if problems:
        raise TrainingError(*problems)
    if cut:
        warn(f"{cut} of {count} rows are longer than max_seq_length = {max_tokens} tokens and were cut at their end")
    if dropped:
        warn(f"{dropped} of {count} rows were left out: nothing to learn within {max_tokens} tokens")
    if not rows:
        raise _nothing(path, f"of {count} rows none has {encoder.lacking} within {max_tokens} tokens")
    return Examples(tuple(rows), _digest(rows))


def is_talk(messages: object) -> bool:
    """True for a list of messages that is not empty."""
    return isinstance(messages, list) and bool(messages) and all(map(_is_message, messages))


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str)


def _read(path: Path, encoder: Encoder) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a JSON lines file with their line numbers from 1; empty lines are skipped. Raises TrainingError."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _row(path, number, line, encoder)
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            Problem(code="E610", what=f"the prepared data cannot be read: {error}", fix="submit again", file=str(path))
        ) from error


def _row(path: Path, number: int, line: str, encoder: Encoder) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if isinstance(row, dict) and encoder.is_row(row):
        return row
    raise TrainingError(
        Problem(
            code="E610",
            what=f"the row is not {encoder.layout}",
            fix="check the data with `ft validate`",
            file=str(path),
            line=number,
        )
    )


def _unplaced(path: Path, number: int, error: UnplacedRow) -> Problem:
    return Problem(
        code="E611",
        what=f"the assistant's tokens cannot be told in this row: {error}",
        why="training on the user's tokens as well would teach the wrong thing",
        fix="change the row, or give the base model a chat template with {% generation %} marks",
        file=str(path),
        line=number,
    )


def _nothing(path: Path, why: str) -> TrainingError:
    return TrainingError(
        Problem(
            code="E612",
            what="no row has anything to learn",
            why=why,
            fix="raise training.max_seq_length, or check the data with `ft validate`",
            file=str(path),
            field="training.max_seq_length",
        )
    )


def _digest(rows: Iterable[Unit]) -> str:
    total = hashlib.sha256()
    for part in (part for row in rows for part in row.parts):
        for tensor in (part.ids, part.labels):
            total.update(len(tensor).to_bytes(8, "big"))
            total.update(tensor.numpy().tobytes())
    return total.hexdigest()
