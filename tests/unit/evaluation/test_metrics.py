"""Metrics against the worked examples of the papers and packages that they are from."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import EvaluationError
from finetune.evaluation.metrics import METRICS, named
from finetune.evaluation.models import Answer
from tests.support.web import Web, content
from tests.unit.evaluation.making import calling, row, said

LONDON = ("weather", '{"city": "London", "days": 1}')
PARIS = ("weather", '{"city": "Paris", "days": 1}')


def score(metric: str, wanted: Any, answer: str | Answer, **more: Any) -> float:
    compute = METRICS[metric].score
    assert compute is not None
    return compute(row(wanted, **more), said(answer) if isinstance(answer, str) else answer)


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [("a b", " a b\n", 1), ("a b", "a  b", 0), ("Yes", "yes", 0), ("é", "é", 1), ("x", "", 0)],
)
def test_exact_match(wanted: str, answer: str, value: float) -> None:
    assert score("exact_match", wanted, answer) == value


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        # What SQuAD's evaluate-v1.1.py and v2.0.py give, worked out by hand from their normalize_answer and f1_score.
        ("Denver Broncos", "The Denver Broncos!", 1.0),
        ("Levi's Stadium in Santa Clara, California", "Santa Clara, California", 2 * 3 / (6 + 3)),
        ("the cat sat on the mat", "cat cat mat", 2 * 2 / (4 + 3)),
        ("gold", "golden", 0.0),
        ("the", "an", 1.0),
        ("the", "word", 0.0),
        ("Ärger über Öl", "ärger mit öl", 2 * 2 / 6),
    ],
)
def test_token_f1_is_squads(wanted: str, answer: str, value: float) -> None:
    assert score("token_f1", wanted, answer) == pytest.approx(value)


@pytest.mark.parametrize(
    ("metric", "wanted", "answer", "value"),
    [
        # The package's own rouge_scorer_test.py.
        ("rouge_1", "testing one two", "testing", 1 / 2),
        ("rouge_1", "testing one two", "testing one", 4 / 5),
        ("rouge_2", "testing one two", "testing one", 2 / 3),
        ("rouge_l", "testing one two", "testing two", 4 / 5),
        # Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, section 3.1: S1 to S4.
        ("rouge_l", "police killed the gunman", "police kill the gunman", 3 / 4),
        ("rouge_l", "police killed the gunman", "the gunman kill police", 2 / 4),
        ("rouge_l", "police killed the gunman", "the gunman police killed", 2 / 4),
        ("rouge_2", "police killed the gunman", "police kill the gunman", 1 / 3),
        ("rouge_2", "police killed the gunman", "the gunman kill police", 1 / 3),
        # Letters that the package's own tokenizer drops.
        ("rouge_1", "быстрая лиса", "лиса спит", 1 / 2),
        ("rouge_1", "Ärger", "rger", 0.0),
    ],
)
def test_rouge_is_the_papers_and_the_packages(metric: str, wanted: str, answer: str, value: float) -> None:
    assert score(metric, wanted, answer) == pytest.approx(value)


@given(st.text(alphabet="abc XY_-.,3'\n", max_size=40), st.text(alphabet="abc XY_-.,3'\n", max_size=40))
def test_rouge_on_ascii_is_the_package_with_its_own_tokenizer(wanted: str, answer: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    plain = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(wanted, answer)
    for ours, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        assert score(ours, wanted, answer) == pytest.approx(plain[theirs].fmeasure)


@pytest.mark.parametrize(
    ("metric", "answer", "value", "more"),
    [
        ("contains", "The capital is Paris.", 1, {"contains": "Paris"}),
        ("contains", "The capital is Paris.", 0, {"contains": ["Paris", "France"]}),
        ("contains", "the capital is paris", 0, {"contains": ["Paris"]}),
        ("contains", "I say: wanted text!", 1, {}),
        ("regex", "order T-7394, thanks", 1, {"pattern": r"T-\d{4}"}),
        ("regex", "order T-7394, thanks", 0, {"pattern": r"^T-\d{4}$"}),
        ("json_valid", ' {"a": [1, null]}\n', 1, {}),
        ("json_valid", '```json\n{"a": 1}\n```', 0, {}),
        ("json_valid", '{"a": NaN}', 0, {}),
        ("json_valid", "{'a': 1}", 0, {}),
        ("json_valid", "", 0, {}),
        ("json_valid", "[" * 100_000, 0, {}),
    ],
)
def test_texts_and_json(metric: str, answer: str, value: float, more: dict[str, Any]) -> None:
    assert score(metric, "wanted text", answer, **more) == value


#: The first example of json-schema.org's "Getting started step by step" in short.
PRODUCT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"productId": {"type": "integer"}, "price": {"type": "number", "exclusiveMinimum": 0}},
    "required": ["productId", "price"],
}


@pytest.mark.parametrize(
    ("answer", "schema", "value"),
    [
        ('{"productId": 1, "price": 12.5}', PRODUCT, 1),
        ('{"productId": 1, "price": 0}', PRODUCT, 0),
        ('{"productId": 1}', PRODUCT, 0),
        ("no JSON", PRODUCT, 0),
        ("1", {"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"}, 1),
        # Draft 4 has a boolean exclusiveMinimum: the schema's own draft is used.
        (
            "3",
            {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True},
            0,
        ),
        ("3", True, 1),
        ("3", False, 0),
    ],
)
def test_json_schema(answer: str, schema: Any, value: float) -> None:
    assert score("json_schema", "", answer, schema=schema) == value


def test_a_schema_that_is_none_is_said() -> None:
    with pytest.raises(EvaluationError, match="E852"):
        score("json_schema", "", "1", schema={"type": "no such type"})


def test_a_schema_elsewhere_is_never_fetched() -> None:
    with Web() as web:
        web.answers["/schema.json"] = content(b'{"type": "integer"}')
        with pytest.raises(EvaluationError, match="E852"):
            score("json_schema", "", "1", schema={"$ref": f"{web.url}/schema.json"})
        assert web.requests == []


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        ([LONDON], [LONDON], 1),
        ([LONDON, PARIS], [PARIS, LONDON], 1),
        ([LONDON, PARIS], [LONDON], 0),
        ([LONDON], [LONDON, LONDON], 0),
        ([LONDON], [("weather", '{ "days":1.0 , "city":"London"}')], 1),
        ([LONDON], [("weather", '{"city": "london", "days": 1}')], 0),
        ([LONDON], [("forecast", LONDON[1])], 0),
        ([("f", '{"x": [1, 2]}')], [("f", '{"x": [2, 1]}')], 0),
        ([("f", '{"x": true}')], [("f", '{"x": 1}')], 0),
        ([("f", "{}")], [("f", "")], 1),
        ([("f", "{")], [("f", "{")], 1),
        ([("f", "{}")], [("f", "{")], 0),
        ([], [], 1),
        ([], [LONDON], 0),
    ],
)
def test_tool_calls(wanted: list[tuple[str, str]], answer: list[tuple[str, str]], value: float) -> None:
    last = calling(*wanted) if wanted else "no tool is needed"
    assert score("tool_calls", last, said("whatever", *answer), tools=[{"type": "function"}]) == value


def test_tool_calls_is_of_rows_with_tools_or_calls() -> None:
    applies = METRICS["tool_calls"].applies
    assert applies(row(calling(LONDON)))
    assert applies(row("no", tools=[{"type": "function"}]))
    assert not applies(row("no"))
    assert not applies(row(None, tools=[{"type": "function"}]))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.score])
def test_no_answer_is_never_right(name: str) -> None:
    whole = {"schema": True, "pattern": "", "contains": "two", "tools": [{}]}
    text = '"one two"'
    assert score(name, text, Answer(text=text, fault="refused"), **whole) == 0
    assert score(name, text, text, **whole) == 1, "the same answer without the fault"


TEXTS = st.text(max_size=30)


@given(TEXTS, TEXTS)
def test_every_score_of_any_two_texts_is_a_share_and_of_the_same_text_the_most(wanted: str, answer: str) -> None:
    for name in ("exact_match", "token_f1", "rouge_1", "rouge_2", "rouge_l", "contains", "json_valid"):
        assert 0 <= score(name, wanted, answer) <= 1
    assert score("exact_match", wanted, wanted) == score("token_f1", wanted, wanted) == 1
    assert score("token_f1", wanted, answer) == score("token_f1", answer, wanted)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.randoms(use_true_random=False))
def test_arguments_are_equal_however_they_are_written(arguments: dict[str, Any], chance: Any) -> None:
    names = list(arguments)
    chance.shuffle(names)
    other = json.dumps({name: arguments[name] for name in names}, indent=chance.choice([None, 2]), ensure_ascii=False)
    assert score("tool_calls", calling(("f", json.dumps(arguments))), said("", ("f", other))) == 1
    assert score("tool_calls", calling(("f", json.dumps(arguments))), said("", ("f", f'{{"": {other}}}'))) == 0


def test_the_table_says_what_each_metric_is() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name
        assert metric.doc.endswith(".")
        assert (metric.score is not None) == (metric.needs == "answers")
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == ["loss", "perplexity"]
    with pytest.raises(EvaluationError, match="E851"):
        named("accuracy")
