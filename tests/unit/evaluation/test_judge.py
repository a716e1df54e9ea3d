"""The judge: both orders asked, ties, and verdicts that cannot be read."""

from collections.abc import Sequence

import pytest

from finetune.errors import EvaluationError
from finetune.evaluation.evaluate import Ways, evaluate
from finetune.evaluation.judge import judge, verdict
from finetune.evaluation.models import Answer, Question
from tests.unit.evaluation.making import model, row, said, suite


class Judge:
    """Answers by a rule of the two answers, A's and B's."""

    def __init__(self, rule: "dict[tuple[str, str], str] | str") -> None:
        self.rule = rule
        self.asked: list[str] = []

    def answers(self, questions: Sequence[Question], max_tokens: int) -> list[Answer]:
        return [self._answer(question.messages[-1]["content"]) for question in questions]

    def _answer(self, text: str) -> Answer:
        self.asked.append(text)
        one, two = (text.split(f"<answer {side}>\n")[1].split(f"\n</answer {side}>")[0] for side in "AB")
        return Answer(text=self.rule if isinstance(self.rule, str) else self.rule[(one, two)], tokens=3)


@pytest.mark.parametrize(
    ("straight", "crossed", "win"),
    [
        ("[[A]]", "[[B]]", 1.0),
        ("so [[B]]", "so [[A]]", 0.0),
        ("[[C]]", "[[C]]", 0.5),
        # Whoever stands first wins: that says nothing of the answers.
        ("[[A]]", "[[A]]", 0.5),
        ("[[A]]", "[[C]]", 0.5),
        ("[[A]]", "no idea", None),
        ("", "[[B]]", None),
        ("[[A]] or [[B]]", "[[B]]", None),
        ("[[A]], yes [[ A ]]", "[[B]]", 1.0),
    ],
)
def test_a_win_needs_both_orders(straight: str, crossed: str, win: float | None) -> None:
    by = Judge({("good", "bad"): straight, ("bad", "good"): crossed})
    judged = judge([row("good", prompt="which?")], [said("good")], [said("bad")], by)
    assert judged.wins == (win,)
    assert judged.unreadable == (win is None)
    assert judged.tokens == 6
    assert all("which?" in text and "<reference>\ngood" in text for text in by.asked)


def test_equal_answers_are_a_tie_and_nobody_is_asked() -> None:
    by = Judge("[[A]]")
    assert judge([row("x")], [said("same")], [said("same")], by).wins == (0.5,)
    assert by.asked == []


def test_an_answer_that_was_refused_is_no_verdict() -> None:
    assert verdict(Answer(text="[[A]]", fault="filtered")) is None


def test_a_report_counts_wins_and_says_what_could_not_be_read() -> None:
    rows = [row(prompt=str(number)) for number in range(4)]
    tuned = model("tuned", {"0": "better", "1": "better", "2": "same", "3": "odd"})
    base = model("base", {"0": "worse", "1": "worse", "2": "same", "3": "odder"})
    by = Judge(
        {
            ("better", "worse"): "[[A]]",
            ("worse", "better"): "[[B]]",
            ("odd", "odder"): "?",
            ("odder", "odd"): "[[A]]",
        }
    )
    (report,) = evaluate([suite(rows, "judge")], tuned, base, Ways(judge=by))
    (found,) = report.outcomes
    assert (found.tuned.value, found.tuned.n, found.unreadable) == (pytest.approx(5 / 6), 3, 1)
    assert (found.other.value, found.gain.value) == (pytest.approx(1 / 6), pytest.approx(4 / 6))
    assert report.warnings == ("1 of 4 verdicts of the judge could not be read",)


def test_no_readable_verdict_is_no_figure() -> None:
    rows = [row(prompt="0")]
    with pytest.raises(EvaluationError, match="E855"):
        evaluate([suite(rows, "judge")], model("a", {"0": "x"}), model("b", {"0": "y"}), Ways(judge=Judge("hm")))


def test_the_metric_needs_a_judge() -> None:
    with pytest.raises(EvaluationError, match="E857"):
        evaluate([suite([row()], "judge")], model("a", {}), model("b", {}))
