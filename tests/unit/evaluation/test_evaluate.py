"""Rows, two models and metrics make a report."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import EvaluationError
from finetune.evaluation.evaluate import Ways, evaluate
from finetune.evaluation.figures import Figures, outcome
from finetune.evaluation.metrics import METRICS
from finetune.evaluation.models import Answer, FakeAnswerer, FakeScorer, Loss, Model
from finetune.evaluation.report import Gain, Golden, Measure, Outcome, Report, Sample
from tests.unit.evaluation.making import model, row, suite

ROWS = [row(f"answer {number}", prompt=str(number)) for number in range(30)]
RIGHT = {str(number): f"answer {number}" for number in range(30)}


def test_figures_gain_and_intervals() -> None:
    tuned = model("tuned", {**RIGHT, **{str(n): "wrong" for n in range(6)}}, nats=0.5)
    base = model("base", {str(n): RIGHT[str(n)] for n in range(12)}, nats=1.5)
    (report,) = evaluate([suite(ROWS, "exact_match", "loss", "perplexity")], tuned, base)
    exact, loss, perplexity = report.outcomes
    assert (exact.tuned.value, exact.other.value) == (0.8, 0.4)
    assert exact.gain.value == pytest.approx(0.4)
    assert exact.tuned.low < 0.8 < exact.tuned.high
    assert exact.gain.low < 0.4 < exact.gain.high
    assert exact.tuned.n == 30
    assert (loss.tuned.value, loss.other.value, loss.gain.value) == (0.5, 1.5, 1.0)
    assert not loss.higher_is_better
    assert perplexity.gain.value == pytest.approx(4.4816890703 - 1.6487212707)
    assert (report.n, report.tuned, report.other) == (30, "tuned", "base")
    # Words: 24 answers of two and six of one; 12 of two and 18 empty ones, which count as one.
    assert report.tokens == 54 + 42


def test_the_loss_weighs_tokens_and_not_rows() -> None:
    rows = [row("one"), row("one two three")]
    two = Model(name="b", answerer=FakeAnswerer({}), scorer=FakeScorer(1.0))
    one = replace(two, name="a", scorer=FakeScorer(lambda text: 4.0 if text == "one" else 0.0))
    (report,) = evaluate([suite(rows, "loss")], one, two)
    assert report.outcomes[0].tuned.value == pytest.approx(1.0)
    assert report.samples == report.golden == ()


def test_rows_that_want_no_answer_have_no_loss() -> None:
    rows = [row(prompt="nothing is wanted here"), row("a b"), row(prompt="nor here"), row("c")]
    costs = {"a b": 1.0, "c": 4.0}
    tuned = Model(name="a", answerer=FakeAnswerer({}), scorer=FakeScorer(lambda text: costs[text]))
    (report,) = evaluate([suite(rows, "loss")], tuned, model("b", {}, 3.0))
    (found,) = report.outcomes
    assert (found.tuned.value, found.other.value, found.tuned.n) == (pytest.approx(2.0), pytest.approx(3.0), 2)


def test_both_models_are_asked_the_same_sampled_rows() -> None:
    answerers = (FakeAnswerer(RIGHT), FakeAnswerer(RIGHT))
    tuned, base = (Model(name=name, answerer=a) for name, a in zip(("a", "b"), answerers, strict=True))
    whole = suite(ROWS, "exact_match")
    (report,) = evaluate([whole], tuned, base, Ways(seed=4, sample_size=7))
    assert report.n == 7
    assert answerers[0].asked == answerers[1].asked
    assert report.digest == whole.sample(7, 4).digest != whole.digest
    (again,) = evaluate([whole], tuned, base, Ways(seed=4, sample_size=7))
    assert again.outcomes == report.outcomes


def test_all_answers_come_before_all_losses() -> None:
    told: list[str] = []
    two = [suite(ROWS, "exact_match", "loss", name=name) for name in ("s1", "s2")]
    evaluate(two, model("a", RIGHT, 1.0), model("b", RIGHT, 1.0), Ways(say=told.append))
    assert [line.split()[0] for line in told] == ["asking"] * 4 + ["computing"] * 4


def test_samples_are_the_first_rows_and_golden_ones_tell_the_models_apart() -> None:
    same = {str(n): "the same" for n in range(10)}
    tuned = model("tuned", {**RIGHT, **same, "29": ""})
    base = model("base", {**{str(n): f"base {n}" for n in range(30)}, **same, "28": " answer 28\n"})
    (report,) = evaluate([suite(ROWS, "exact_match")], tuned, base)
    assert [each.prompt for each in report.samples] == [str(n) for n in range(20)]
    assert report.samples[12] == Sample(prompt="12", wanted="answer 12", tuned="answer 12", other="base 12")
    assert len(report.golden) == 8
    for golden in report.golden:
        number = golden.messages[-1]["content"]
        assert int(number) in range(10, 28)
        assert (golden.tuned, golden.other, golden.max_tokens) == (f"answer {number}", f"base {number}", 256)


def test_golden_questions_have_answers_and_no_tools() -> None:
    tools = [{"type": "function"}]
    rows = [row("x", prompt="tools", tools=tools), row("x", prompt="refused"), row("x", prompt="good")]
    tuned = model("tuned", {"tools": "a", "good": "a"})
    refused = FakeAnswerer({"refused": Answer(text="", fault="too long"), "good": "b"})
    (report,) = evaluate([suite(rows, "exact_match")], tuned, Model(name="base", answerer=refused))
    assert [golden.messages[-1]["content"] for golden in report.golden] == ["good"]
    assert report.warnings == ("base gave no answer to 1 of 3 questions: too long",)
    assert report.samples[1].other == "(no answer: too long)"


def test_rows_without_what_a_metric_needs_are_left_out_of_it() -> None:
    rows = [row("4", prompt="a", pattern="4"), row(prompt="b"), row("4", prompt="c")]
    (report,) = evaluate([suite(rows, "regex", "exact_match", "json_valid")], model("a", {"a": "4"}), model("b", {}))
    assert [found.tuned.n for found in report.outcomes] == [1, 2, 3]


@pytest.mark.parametrize(
    ("metric", "code"), [("regex", "E852"), ("json_schema", "E852"), ("tool_calls", "E852"), ("none", "E851")]
)
def test_what_cannot_be_measured_is_said_before_anybody_is_asked(metric: str, code: str) -> None:
    asked = FakeAnswerer(RIGHT)
    with pytest.raises(EvaluationError, match=code):
        evaluate([suite(ROWS, "exact_match"), suite(ROWS, metric)], Model(name="a", answerer=asked), model("b", {}))
    assert asked.asked == []


def test_losses_need_weights_of_both() -> None:
    with pytest.raises(EvaluationError, match=r"E857.*hosted"):
        evaluate([suite(ROWS, "loss")], model("a", {}, 1.0), model("hosted", {}))


def test_losses_over_other_tokens_are_not_compared() -> None:
    class Twice(FakeScorer):
        def losses(self, rows):  # type: ignore[no-untyped-def]
            return [Loss(loss.nll, 2 * loss.tokens) for loss in super().losses(rows)]

    other = Model(name="b", answerer=FakeAnswerer({}), scorer=Twice(1.0))
    with pytest.raises(EvaluationError, match="E857"):
        evaluate([suite(ROWS, "loss")], model("a", {}, 1.0), other)


def test_a_loss_that_is_no_number_is_no_figure() -> None:
    with pytest.raises(EvaluationError, match="E855"):
        evaluate([suite(ROWS, "loss")], model("a", {}, float("nan")), model("b", {}, 1.0))


def test_models_that_say_the_same_may_still_differ_on_rows_unseen() -> None:
    (report,) = evaluate([suite(ROWS, "exact_match")], model("a", RIGHT), model("b", RIGHT))
    gain = report.outcomes[0].gain
    assert (gain.value, gain.low, gain.high) == (0, pytest.approx(-0.1157, abs=1e-4), pytest.approx(0.1157, abs=1e-4))


SHARES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=12)


@given(SHARES, st.randoms(use_true_random=False), st.integers(0, 3))
def test_a_gain_is_the_difference_of_the_figures_and_turns_with_them(
    tuned: list[float], chance: "object", seed: int
) -> None:
    other = list(tuned)
    chance.shuffle(other)  # type: ignore[attr-defined]
    other[0] = 0.5
    for name, tokens in (("exact_match", None), ("loss", [1 + i % 3 for i in range(len(tuned))])):
        there = outcome(METRICS[name], Figures(tuned=tuned, other=other, tokens=tokens), seed)
        back = outcome(METRICS[name], Figures(tuned=other, other=tuned, tokens=tokens), seed)
        sign = 1 if METRICS[name].higher_is_better else -1
        assert there.gain.value == pytest.approx(sign * (there.tuned.value - there.other.value), abs=1e-9)
        assert there.gain.low - 1e-9 <= there.gain.value <= there.gain.high + 1e-9 or len(tuned) < 4
        assert back.gain.value == pytest.approx(-there.gain.value, abs=1e-9)
        assert (back.gain.low, back.gain.high) == pytest.approx((-there.gain.high, -there.gain.low), abs=1e-9)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=5)
MEASURES = st.builds(Measure, value=NUMBERS, low=NUMBERS, high=NUMBERS, n=st.integers(0, 9))
OUTCOMES = st.builds(
    Outcome,
    metric=TEXT,
    higher_is_better=st.booleans(),
    tuned=MEASURES,
    other=MEASURES,
    gain=st.builds(Gain, value=NUMBERS, low=NUMBERS, high=NUMBERS),
    unreadable=st.integers(0, 9),
)
REPORTS = st.builds(
    Report,
    suite=TEXT,
    source=TEXT,
    digest=TEXT,
    n=st.integers(0, 9),
    tuned=TEXT,
    other=TEXT,
    outcomes=st.lists(OUTCOMES, max_size=2).map(tuple),
    samples=st.lists(st.builds(Sample, prompt=TEXT, wanted=TEXT | st.none(), tuned=TEXT, other=TEXT), max_size=2).map(
        tuple
    ),
    golden=st.lists(
        st.builds(
            Golden,
            messages=st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=2),
            max_tokens=st.integers(1, 9),
            tuned=TEXT,
            other=TEXT,
        ),
        max_size=2,
    ).map(tuple),
    warnings=st.lists(TEXT, max_size=2).map(tuple),
    seed=st.integers(0, 9),
    seconds=NUMBERS,
    tokens=st.integers(0, 9),
)


@given(REPORTS)
def test_every_report_survives_as_json(report: Report) -> None:
    assert Report.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


@pytest.mark.parametrize("body", [{}, {"format": 2}, {"format": 1}, {"format": 1, "outcomes": [{}]}])
def test_what_is_no_report_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(EvaluationError, match="E856"):
        Report.from_json(body)
