"""Forty faults of twenty kinds in a file of a thousand rows: all forty lines are named, and no other."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.data import DataReport, DataRequest, inspect

Row = dict[str, Any]
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"id": 7}'}}

SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
ANSWERED = {"role": "tool", "tool_call_id": "c9", "content": "x"}
LAST = {"role": "assistant", "content": "ok"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://x"}}


def chat(number: int) -> Row:
    """A sound row, in one of several shapes."""
    messages: list[Row] = [
        {"role": "user", "content": f"What about order {number}?"},
        {"role": "assistant", "content": f"Order {number} is at stop {number * 7}."},
    ]
    if number % 3 == 0:
        messages.insert(0, {"role": "system", "content": "You help."})
    if number % 7 == 0:
        messages += [
            {"role": "user", "content": [{"type": "text", "text": f"And {number + 1}?"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "{}"},
            {"role": "assistant", "content": f"Nothing yet of {number}.", "weight": 1},
        ]
    return {"messages": messages, "metadata": {"n": number}}


def _message(row: Row, **change: Any) -> Row:
    row["messages"][-1] |= change
    return row


def _unlearned(row: Row) -> Row:
    return {"messages": [{**each, "weight": 0} if each["role"] == "assistant" else each for each in row["messages"]]}


def _more(row: Row, *messages: Row) -> Row:
    row["messages"] += messages
    return row


def _text(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


#: Makes a sound row faulty; the code that tells so.
FAULTS: dict[str, tuple[str, Callable[[Row], str | bytes]]] = {
    "cut off": ("E207", lambda row: _text(row)[:-9]),
    "not a number": ("E207", lambda row: _text({**row, "id": 1}).replace('"id": 1', '"id": NaN')),
    "another encoding": ("E205", lambda row: _text(_message(row, content="é")).encode("latin-1")),
    "a list": ("E208", lambda row: json.dumps([row])),
    "a key twice": ("E221", lambda row: _text(row)[:-1] + ', "messages": []}'),
    "an unknown key": ("E209", lambda row: _text({**row, "topic": "x"})),
    "an unknown key in a message": ("E209", lambda row: _text(_message(row, tone="kind"))),
    "no messages": ("E210", lambda row: _text({"metadata": row["metadata"]})),
    "a role that is none": ("E211", lambda row: _text(_message(row, role="bot"))),
    "no content": ("E212", lambda row: _text(_message(row, content=None))),
    "an empty answer": ("E212", lambda row: _text(_message(row, content="  "))),
    "half a character": ("E212", lambda row: json.dumps(_message(row, content="\ud83d"))),
    "a weight that is none": ("E213", lambda row: _text(_message(row, weight=0.5))),
    "no answer at the end": ("E214", lambda row: _text(_more(row, {"role": "user", "content": "Hello?"}))),
    "nothing is learned": ("E214", lambda row: _text(_unlearned(row))),
    "another layout": ("E236", lambda row: _text(SHAREGPT)),
    "a call without an id": ("E238", lambda row: _text(_message(row, tool_calls=[{**CALL, "id": ""}]))),
    "a tool that nobody called": ("E238", lambda row: _text(_more(row, ANSWERED, LAST))),
    "an image in an answer": ("E212", lambda row: _text(_message(row, content=[IMAGE]))),
    "a name that is no text": ("E237", lambda row: _text(_message(row, name=7))),
}
ROWS = 1000


def planted(seed: int) -> tuple[bytes, dict[int, str]]:
    """The file, and the code that each faulty line must be told with."""
    chance = random.Random(seed)
    kinds = [*FAULTS, *FAULTS]
    lines: list[bytes] = [_text(chat(number)).encode() for number in range(ROWS)]
    expected = {}
    for line, kind in zip(chance.sample(range(ROWS), len(kinds)), kinds, strict=True):
        code, spoil = FAULTS[kind]
        made = spoil(chat(line))
        lines[line] = made if isinstance(made, bytes) else made.encode()
        expected[line + 1] = code
    return b"\n".join(lines) + b"\n", expected


def named(report: DataReport) -> dict[int, set[str]]:
    """The lines that errors name, with the codes."""
    found: dict[int, set[str]] = {}
    for problem in report.errors:
        for line in (problem.line, *problem.also):
            assert line is not None
            found.setdefault(line, set()).add(problem.code)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_all_forty_lines_are_named_and_no_other(tmp_path: Path, seed: int) -> None:
    raw, expected = planted(seed)
    (tmp_path / "rows.jsonl").write_bytes(raw)

    report = inspect(DataRequest(train="rows.jsonl", folder=tmp_path))

    found = named(report)
    assert len(FAULTS) == 20
    assert sorted(found) == sorted(expected)
    assert len(found) == 40
    assert all(code in found[line] for line, code in expected.items())
    assert report.train_rows == ROWS - 40
    assert sum(problem.count for problem in report.errors) >= 40
    assert {problem.code for problem in report.problems if problem.level == "warning"} <= {"E219"}
