"""The longest row of what was written, and the tokens of all, in every layout that a training may read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune import data
from finetune.catalogue import DataRules
from finetune.data import DataRequest
from finetune.data.example import Chat, Example, Message, Preference
from finetune.data.measure import longest, total
from finetune.data.tokens import Count, Range, Uncounted

CALL = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": '{"number": 7}'}}


class Letters:
    """Counts the letters `x` of a row, and rows with a `?` not at all; of a preference those of the worse answer."""

    name, exact = "letters", True

    def count(self, rows: Sequence[Example]) -> list[Count | Uncounted]:
        return [self._one(row) for row in rows]

    def _one(self, row: Example) -> Count | Uncounted:
        texts = _texts(row.messages if isinstance(row, Chat) else row.rejected if isinstance(row, Preference) else [])
        one = Range(texts.count("x"), texts.count("x"))
        return Uncounted("no") if "?" in texts else Count(one, one)

    def learned(self, rows: Sequence[Example]) -> list[Range | Uncounted]:
        raise NotImplementedError


def _texts(messages: Sequence[Message]) -> str:
    return " ".join(str(each.content or "") + str(each.tool_calls or "") for each in messages)


def _written(folder: Path, rows: Sequence[dict[str, Any]], format: str | None, kind: Any = None) -> tuple[Path, str]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules = DataRules(target="it", format=format) if format else None
    made = data.prepare(DataRequest(train=str(file), folder=folder, rules=rules, kind=kind), folder / "data")
    return made.train, made.format


def _chat(question: str, *more: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, *more, {"role": "assistant", "content": "so"}]}


@pytest.mark.parametrize("format", [None, "local"])
def test_not_the_row_of_the_most_bytes_but_of_the_most_tokens(tmp_path: Path, format: str | None) -> None:
    """The second has fewer bytes and more tokens; of a thousand short ones none is looked at."""
    called = ({"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c", "content": "x" * 10})
    rows = [_chat(f"short {number} x") for number in range(1000)]
    rows += [_chat("long " * 400), _chat("x" * 300), _chat("and", *called)]
    written = _written(tmp_path, rows, format)
    assert longest(*written, Letters()) == 300
    assert total(*written, Letters(), lambda read, size: None) == (1310, 1310)


def test_what_cannot_be_counted_has_up_to_a_token_a_byte(tmp_path: Path) -> None:
    path, format = _written(tmp_path, [_chat("x"), _chat("? " * 50)], None)
    assert longest(path, format, Letters()) == max(len(line) for line in path.read_bytes().splitlines())


def test_of_preferences_the_longer_answer(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "yes"}
    rows = [
        {
            "prompt": [{"role": "user", "content": f"question {number}"}],
            "chosen": [answer],
            "rejected": [{"role": "assistant", "content": "x" * number}],
        }
        for number in range(1, 90)
    ]
    written = _written(tmp_path, rows, "local-dpo", "preference")
    assert longest(*written, Letters()) == 89
    assert total(*written, Letters(), lambda read, size: None) == (sum(range(90)),) * 2
