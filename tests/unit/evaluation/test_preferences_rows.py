"""Preferences as rows to evaluate on."""

from typing import Any

import pytest

from finetune.evaluation.rows import as_chat, row_of

PROMPT = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yo"},
    {"role": "user", "content": "ok?"},
]
GOOD, BAD = [{"role": "assistant", "content": "sure"}], [{"role": "assistant", "content": "no"}]
TOOLS = [{"type": "function", "function": {"name": "look"}}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, "chosen": GOOD, "rejected": BAD, "tools": TOOLS},
        {"input": {"messages": PROMPT, "tools": TOOLS}, "preferred_output": GOOD, "non_preferred_output": BAD},
    ],
)
def test_a_preference_is_asked_for_its_better_answer(row: dict[str, Any]) -> None:
    made = row_of(row)
    assert made.text == "sure"
    assert made.prompt == "ok?"
    assert [each["role"] for each in made.question.messages] == ["user", "assistant", "user"]
    assert list(made.question.tools) == TOOLS
    # A loss of the row is that of the answer alone.
    assert [each.get("weight") for each in made.source["messages"]] == [None, 0, None, None]
    assert "no" not in str(made.source)


@pytest.mark.parametrize(
    "row", [{"messages": PROMPT}, {"prompt": "hi", "chosen": "a", "rejected": "b"}, {}, {"input": {}}]
)
def test_other_rows_are_as_they_are(row: dict[str, Any]) -> None:
    assert as_chat(row) == row
