"""What OpenAI's layouts let through and write, held against OpenAI's published rules of a training line."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data import checks
from finetune.data.formats import FORMATS, Format
from tests.support import openai_lines
from tests.support.examples import chats, preferences
from tests.support.mutants import every_change, mutants

EXAMPLES: dict[str, st.SearchStrategy[Any]] = {"openai": chats(), "openai-dpo": preferences()}
both = pytest.mark.parametrize("name", EXAMPLES)
#: Free JSON, in which null means null.
FREE = ("parameters", "metadata", "id", "source")


def without_nulls(value: Any) -> Any:
    """Keys with null are the same to ft as no keys, because tables have null wherever a row lacks a column."""
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    if not isinstance(value, dict):
        return value
    there = {key: each for key, each in value.items() if each is not None}
    return {key: each if key in FREE else without_nulls(each) for key, each in there.items()}


def faults(format: Format, row: Any) -> list[str]:
    """What ft refuses about a row, its layout or what it says."""
    assert format.shape is not None
    assert format.read is not None
    found = list(format.shape(row, "")) or checks.faults(format.read(row), format.turns)
    return [f"{each.code} {each.field}" for each in found]


def written(format: Format, example: Any) -> Any:
    assert format.write is not None
    return json.loads(json.dumps(format.write(example)))


@both
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_line_that_is_written_keeps_the_published_rules(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]

    row = written(format, data.draw(EXAMPLES[name]))

    assert openai_lines.refused(row, format.kind) == []


@both
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_what_the_published_rules_refuse_is_refused_here(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    row = data.draw(mutants(EXAMPLES[name].map(lambda example: written(format, example))))

    refused = openai_lines.refused(without_nulls(row), format.kind)

    if refused:
        assert faults(format, row)


@both
def test_no_single_change_of_a_row_with_everything_gets_past_ft(name: str) -> None:
    format = FORMATS[name]
    rich = openai_lines.rich(format.kind)
    assert openai_lines.refused(rich, format.kind) == []
    assert faults(format, rich) == []
    taken = 0

    for row in every_change(rich):
        if faults(format, row):
            continue
        taken += 1
        assert openai_lines.refused(without_nulls(row), format.kind) == [], row

    assert taken > 100


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": None}, "null is no key"),
        ({"refusal": None, "weight": None, "tool_calls": None}, "null is no key"),
    ],
)
def test_nulls_are_the_only_rows_let_through_that_the_rules_refuse(change: dict[str, Any], why: str) -> None:
    del why
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **change}]}

    assert openai_lines.refused(row, "chat")
    assert openai_lines.refused(without_nulls(row), "chat") == []
    assert faults(FORMATS["openai"], row) == []


ASKED = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({}, "the rules want no messages"),
        ({"messages": [ASKED, ANSWER], "topic": 1}, "further keys are free"),
        ({"messages": [ASKED, {**ANSWER, "mood": "good"}]}, "further keys are free"),
        ({"messages": [{**ASKED, "weight": 1}, ANSWER]}, "a weight of a question is a further key"),
        ({"messages": [ASKED, {**ANSWER, "weight": 1.0}]}, "1.0 is an integer to JSON Schema"),
        ({"messages": [ASKED, {"role": "assistant"}]}, "an answer may say nothing"),
        ({"messages": [ASKED, {**ANSWER, "tool_calls": []}]}, "a list of calls may be empty"),
        ({"messages": [ASKED]}, "nothing is said of the order of turns"),
        ({"messages": [ASKED, ANSWER], "functions": [{"name": "f"}]}, "deprecated"),
        ({"messages": [{"role": "function", "name": "f", "content": "r"}, ANSWER]}, "deprecated"),
        ({"messages": [ASKED, {**ANSWER, "audio": {"id": "1"}}]}, "a sound on OpenAI's side"),
    ],
)
def test_ft_refuses_more_than_the_rules_do(row: dict[str, Any], why: str) -> None:
    del why
    assert openai_lines.refused(row, "chat") == []
    assert faults(FORMATS["openai"], row)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": []},
        {"messages": "q"},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "human", "content": "q"}]},
        {"messages": [{"role": "user", "content": []}, ANSWER]},
        {"messages": [{"role": "user", "content": None}, ANSWER]},
        {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}, ANSWER]},
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, ANSWER]},
        {"messages": [ASKED, {**ANSWER, "weight": 2}]},
        {"messages": [ASKED, {**ANSWER, "weight": True}]},
        {"messages": [ASKED, {**ANSWER, "name": 1}]},
        {"messages": [{"role": "tool", "content": "r"}, ANSWER]},
        {"messages": [ASKED, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function"}]}]},
        {"messages": [ASKED, ANSWER], "tools": {}},
        {"messages": [ASKED, ANSWER], "tools": [{"type": "function", "function": {}}]},
        {"messages": [ASKED, ANSWER], "tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        {"messages": [ASKED, ANSWER], "parallel_tool_calls": 1},
    ],
)
def test_the_rules_refuse_what_they_should(row: dict[str, Any]) -> None:
    assert openai_lines.refused(row, "chat")
    assert faults(FORMATS["openai"], row)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input", ...),
        ("input", []),
        ("input", {"messages": []}),
        ("preferred_output", ...),
        ("preferred_output", [ANSWER, ANSWER]),
        ("preferred_output", ANSWER),
        ("non_preferred_output", [ASKED]),
        ("non_preferred_output", [{"role": "assistant", "content": 1}]),
    ],
)
def test_the_rules_of_preferences_refuse_what_they_should(key: str, value: Any) -> None:
    good = {"input": {"messages": [ASKED]}, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]}
    row = {name: each for name, each in {**good, key: value}.items() if each is not ...}

    assert openai_lines.refused(good, "preference") == []
    assert openai_lines.refused(row, "preference")
    assert faults(FORMATS["openai-dpo"], row)
