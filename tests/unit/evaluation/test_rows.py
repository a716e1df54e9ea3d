"""Rows and suites: what is read, what is refused, and which rows are drawn."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import EvaluationError
from finetune.evaluation.rows import digest, row_of, sample
from finetune.evaluation.suites import held_out, load
from tests.unit.evaluation.making import calling, row

TALK = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def suite(folder: Path, name: str = "math.yaml", **body: Any) -> str:
    write(folder / "rows.jsonl", {"messages": TALK})
    (folder / name).write_text(json.dumps({"rows": "rows.jsonl", **body}))
    return str(folder / name)


def test_a_row_is_split_into_question_and_wanted_answer() -> None:
    made = row_of({"messages": TALK, "pattern": "4", "contains": "4", "schema": True, "tools": [{"type": "function"}]})
    assert (list(made.question.messages), made.text, made.prompt) == (TALK[:1], "4", "2+2?")
    assert (made.pattern, made.contains, made.schema, made.question.tools) == (
        "4",
        ("4",),
        True,
        ({"type": "function"},),
    )
    open_end = row_of({"messages": TALK[:1]}, {"type": "integer"})
    assert (open_end.wanted, open_end.text, open_end.schema) == (None, None, {"type": "integer"})
    parts = {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert row_of({"messages": [*TALK, TALK[0], parts]}).text == "ab"
    assert [call.name for call in row(calling(("f", "{}"), ("g", "{}"))).calls] == ["f", "g"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "no role"}]}, "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages"),
        ({"messages": TALK[1:]}, "nothing is asked"),
        ({"messages": TALK, "pattern": "("}, "regular expression"),
        ({"messages": TALK, "contains": 3}, "contains"),
        ({"messages": TALK, "tools": {}}, "tools"),
    ],
)
def test_rows_that_are_none_are_refused(source: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        row_of(source)


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": TALK}) + "\n\n{\n[]\n")
    with pytest.raises(EvaluationError) as caught:
        held_out(path)
    assert [(problem.code, problem.line) for problem in caught.value.problems] == [("E850", 3), ("E850", 4)]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_files_that_cannot_be_read_are_said(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(EvaluationError, match="E850"):
        held_out(tmp_path / "rows.jsonl")


def test_the_held_out_split_gets_the_metrics_that_its_rows_can_have(tmp_path: Path) -> None:
    texts = write(tmp_path / "a.jsonl", {"messages": TALK})
    assert held_out(texts).metrics == ("exact_match", "token_f1", "rouge_l", "loss", "perplexity")
    calls = write(tmp_path / "b.jsonl", {"messages": [TALK[0], calling(("f", "{}"))]})
    assert held_out(calls).metrics == ("tool_calls", "loss", "perplexity")
    assert held_out(texts, ["contains", "contains"]).metrics == ("contains",)
    with pytest.raises(EvaluationError, match="E851"):
        held_out(texts, ["bleu"])


def test_a_suite_is_read_by_path_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text('{"type": "integer"}')
    path = suite(tmp_path, name="math.yaml", metrics=["json_schema"], max_tokens=9, schema="answer.json")
    found = load(path)
    assert (found.name, found.metrics, found.max_tokens) == ("math", ("json_schema",), 9)
    assert found.rows[0].schema == {"type": "integer"}
    assert load("math", tmp_path) == replace(found, source="math")
    assert found.source == path
    plain = load(suite(tmp_path, name="plain.yaml"))
    assert plain.max_tokens == 256
    assert plain.digest != found.digest, "the schema is part of what is asked"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"rows": 3}, "E850"),
        ({"rows": "none.jsonl"}, "E850"),
        ({"metric": ["regex"]}, "E850"),
        ({"metrics": "regex"}, "E850"),
        ({"metrics": ["regexp"]}, "E851"),
        ({"max_tokens": 0}, "E850"),
        ({"max_tokens": True}, "E850"),
        ({"schema": 3}, "E850"),
        ({"schema": "none.json"}, "E850"),
    ],
)
def test_suites_that_are_none_are_refused(tmp_path: Path, body: dict[str, Any], code: str) -> None:
    with pytest.raises(EvaluationError, match=code):
        load(suite(tmp_path, **body))


@pytest.mark.parametrize("text", ["[1]", "a: [", "!!python/object:os.system {}"])
def test_yaml_that_is_no_suite_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(EvaluationError, match="E850"):
        load("x", tmp_path)


def test_a_suite_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    suite(tmp_path)
    with pytest.raises(EvaluationError, match="math") as caught:
        load("maths", tmp_path)
    assert caught.value.problems[0].code == "E851"


ROWS = st.lists(st.text(max_size=4), min_size=1, max_size=30, unique=True)


@given(ROWS, st.integers(1, 30), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_same_rows_are_drawn_however_the_file_is_ordered(
    texts: list[str], size: int, seed: int, chance: Any
) -> None:
    rows = [row("x", prompt=text) for text in texts]
    drawn = sample(rows, size, seed)
    assert len(drawn) == min(size, len(rows))
    assert [each for each in rows if each in drawn] == list(drawn), "in the file's order"
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert {each.prompt for each in sample(shuffled, size, seed)} == {each.prompt for each in drawn}
    assert sample(rows, None, seed) == tuple(rows)


def test_another_seed_draws_other_rows_and_a_larger_sample_keeps_the_smaller() -> None:
    rows = [row("x", prompt=str(number)) for number in range(200)]
    drawn = {each.prompt for each in sample(rows, 20, 1)}
    assert drawn != {each.prompt for each in sample(rows, 20, 2)}
    assert drawn < {each.prompt for each in sample(rows, 40, 1)}


def test_the_digest_is_of_content_and_order() -> None:
    one, two = row("a"), row("b")
    assert digest([one, two]) == digest([row("a"), row("b")])
    assert len({digest([one, two]), digest([two, one]), digest([one])}) == 3
    spaced = row_of(json.loads('{ "messages":[{"content":"?","role":"user"},{"content":"a","role":"assistant"}]}'))
    assert digest([spaced]) == digest([one])
