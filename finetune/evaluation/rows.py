"""Rows of a suite: chats whose last assistant message is what a model should say, and what else is asked of it."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import EvaluationError, Problem
from finetune.evaluation.models import Call, Question
from finetune.jobs import Json

_MOST_PROBLEMS = 5
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row."""

    question: Question
    #: The assistant message at the end, in OpenAI's layout; None when the row ends with a question.
    wanted: Json | None
    #: JSON Schema that the answer must fit; None: none.
    schema: Json | bool | None = None
    #: Regular expression that must be found in the answer; None: none.
    pattern: str | None = None
    #: Texts that must all be in the answer; empty: none.
    contains: tuple[str, ...] = ()
    #: The row as it stands in the file.
    source: Json

    @property
    def text(self) -> str | None:
        """The wanted text; None when none is wanted."""
        return None if self.wanted is None else text_of(self.wanted.get("content"))

    @property
    def calls(self) -> tuple[Call, ...]:
        """The wanted calls of functions."""
        made = [] if self.wanted is None else self.wanted.get("tool_calls") or []
        return tuple(call_of(each) for each in made)

    @property
    def prompt(self) -> str:
        """The last message of the question, as people read it."""
        return text_of(self.question.messages[-1].get("content"))


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or parts of which those with text are joined."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def call_of(made: Mapping[str, Any]) -> Call:
    """A tool call in OpenAI's layout; arguments that are an object become JSON."""
    function = made.get("function") or made
    arguments = function.get("arguments", "")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return Call(name=str(function.get("name", "")), arguments=text)


def as_chat(source: Mapping[str, Any]) -> Json:
    """A preference, by TRL's keys or by OpenAI's, as the conversation with its better answer; any other row as it is.

    Of its answers only that one has a loss.
    """
    asked = source.get("input")
    holder, answer = (asked, "preferred_output") if isinstance(asked, Mapping) else (source, "chosen")
    prompt, better = holder.get("prompt" if holder is source else "messages"), source.get(answer)
    if "messages" in source or not (isinstance(prompt, list) and isinstance(better, list)):
        return dict(source)
    read = [{**each, "weight": 0} if _is_message(each) and each["role"] == "assistant" else each for each in prompt]
    tools = holder.get("tools")
    return {"messages": [*read, *better], **({} if tools is None else {"tools": tools})}


def row_of(source: Mapping[str, Any], schema: Json | bool | None = None) -> Row:
    """The row of a JSON object; `schema` is for rows without one. Raises ValueError with one sentence."""
    source = as_chat(source)
    messages = source.get("messages")
    if not isinstance(messages, list) or not messages or not all(_is_message(each) for each in messages):
        raise ValueError('it is not {"messages": [{"role": ..., "content": ...}, ...]}')
    answered = messages[-1]["role"] == "assistant"
    asked = messages[:-1] if answered else messages
    if not asked:
        raise ValueError("nothing is asked before the answer")
    contains = source.get("contains", ())
    parts = (
        (contains,) if isinstance(contains, str) else tuple(contains) if isinstance(contains, list | tuple) else None
    )
    if parts is None or not all(isinstance(each, str) and each for each in parts):
        raise ValueError("`contains` is no text and no list of texts")
    tools = () if source.get("tools") is None else source["tools"]
    if not isinstance(tools, list | tuple):
        raise ValueError("`tools` is no list")
    return Row(
        question=Question(messages=tuple(asked), tools=tuple(tools)),
        wanted=messages[-1] if answered else None,
        schema=source["schema"] if "schema" in source else schema,
        pattern=_pattern(source.get("pattern")),
        contains=parts,
        source=dict(source),
    )


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") in _ROLES


def _pattern(text: Any) -> str | None:
    if text is None:
        return None
    try:
        re.compile(text)
    except (re.error, TypeError) as error:
        raise ValueError(f"`pattern` is no regular expression: {error}") from None
    return str(text)


def read(path: Path, schema: Json | bool | None = None) -> tuple[Row, ...]:
    """All rows of a JSON lines file, empty lines passed over. Raises EvaluationError (E850) that names the lines."""
    problems: list[Problem] = []
    found: list[Row] = []
    for number, line in _lines(path):
        try:
            source = json.loads(line)
            found.append(row_of(source if isinstance(source, dict) else {}, schema))
        except ValueError as error:
            said = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            what = f"a row to evaluate on cannot be used: {said}"
            problems.append(Problem(code="E850", what=what, fix="mend or remove the line", file=str(path), line=number))
            if len(problems) == _MOST_PROBLEMS:
                break
    if problems:
        raise EvaluationError(*problems)
    if not found:
        raise EvaluationError(Problem(code="E850", what="there are no rows to evaluate on", file=str(path)))
    return tuple(found)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        what = f"the rows to evaluate on cannot be read: {said}"
        raise EvaluationError(Problem(code="E850", what=what, file=str(path))) from error


def digest(rows: Sequence[Row]) -> str:
    """sha256, in hex, over the rows in their order: the same rows have the same digest, however they are spaced."""
    total = hashlib.sha256()
    for row in rows:
        total.update(_canonical(row) + b"\n")
    return total.hexdigest()


def sample(rows: Sequence[Row], size: int | None, seed: int) -> tuple[Row, ...]:
    """`size` of the rows in their order, all when there are fewer or size is None.

    Chosen by content and seed: the same ones however the file is ordered, and mostly the same when it grows.
    """
    if size is None or size >= len(rows):
        return tuple(rows)
    lots = [(hashlib.sha256(f"{seed}\n".encode() + _canonical(row)).digest(), i) for i, row in enumerate(rows)]
    return tuple(rows[i] for i in sorted(index for _, index in sorted(lots)[:size]))


def _canonical(row: Row) -> bytes:
    # What the suite says for all rows is part of what is asked of each.
    whole = {**row.source, "schema": row.schema}
    return json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
