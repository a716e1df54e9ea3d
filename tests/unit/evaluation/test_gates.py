"""The gate's decision, in figures and sentences."""

from dataclasses import dataclass, replace

import pytest

from finetune.evaluation.gates import LEAST_ROWS, decide
from finetune.evaluation.report import Gain, Measure, Outcome, Report


@dataclass(frozen=True, kw_only=True)
class Gate:
    metric: str = "exact_match"
    min_gain: float = 0.05
    max_guard_loss: float | None = None
    guards: tuple[str, ...] = ()


def outcome(
    metric: str = "exact_match",
    gain: tuple[float, float, float] = (0.21, 0.14, 0.28),
    n: int = 100,
    higher: bool = True,
    values: tuple[float, float] = (0.62, 0.41),
) -> Outcome:
    tuned, other = values
    return Outcome(
        metric=metric,
        higher_is_better=higher,
        tuned=Measure(value=tuned, low=tuned - 0.07, high=tuned + 0.07, n=n),
        other=Measure(value=other, low=other - 0.07, high=other + 0.07, n=n),
        gain=Gain(value=gain[0], low=gain[1], high=gain[2]),
    )


def report(*outcomes: Outcome, suite: str = "held-out", warnings: tuple[str, ...] = ()) -> Report:
    return Report(suite=suite, digest="d", n=100, tuned="v2", other="base", outcomes=outcomes, warnings=warnings)


def test_a_clear_gain_passes_and_is_told_with_its_figures() -> None:
    verdict = decide(Gate(), [report(outcome())])
    assert verdict.passed
    assert verdict.reasons == ("exact_match 0.62 [0.55, 0.69], base 0.41: gain 0.21 [0.14, 0.28], wanted 0.05",)
    assert verdict.warnings == ()


@pytest.mark.parametrize(
    ("gain", "min_gain", "passed", "warned"),
    [
        ((0.05, 0.01, 0.09), 0.05, True, False),
        ((0.0499, 0.01, 0.09), 0.05, False, False),
        # 0.15 - 0.1 is a hair less than 0.05.
        ((0.15 - 0.1, 0.01, 0.09), 0.05, True, False),
        # Enough by the point value, and yet there may be no gain.
        ((0.06, -0.01, 0.13), 0.05, False, False),
        ((0.06, 0.0, 0.13), 0.05, False, False),
        # No worse was asked for.
        ((0.0, -0.04, 0.04), 0.0, True, True),
        ((0.02, 0.01, 0.04), 0.0, True, False),
        ((-0.01, -0.04, 0.02), 0.0, False, False),
        ((-0.01, -0.04, 0.02), -0.02, True, True),
        ((-0.01, -0.02, -0.005), -0.02, True, True),
    ],
)
def test_what_passes(gain: tuple[float, float, float], min_gain: float, passed: bool, warned: bool) -> None:
    verdict = decide(Gate(min_gain=min_gain), [report(outcome(gain=gain))])
    assert (verdict.passed, bool(verdict.warnings)) == (passed, warned)


def test_a_gain_that_may_be_none_says_what_to_do() -> None:
    (reason,) = decide(Gate(), [report(outcome(gain=(0.06, -0.01, 0.13)))]).reasons
    assert reason.endswith("gain 0.06 [-0.01, 0.13], wanted 0.05; the interval holds 0, so there may be no gain: "
                           "evaluate on more rows")  # fmt: skip


def test_where_lower_is_better_the_gain_is_the_reduction() -> None:
    loss = outcome("loss", gain=(0.3, 0.2, 0.4), higher=False, values=(1.1, 1.4))
    verdict = decide(Gate(metric="loss", min_gain=0.25), [report(loss)])
    assert verdict.passed
    assert verdict.reasons[0].endswith("base 1.40: reduction 0.30 [0.20, 0.40], wanted 0.25")
    assert not decide(Gate(metric="loss", min_gain=0.31), [report(loss)]).passed


def test_too_few_rows_decide_nothing() -> None:
    verdict = decide(Gate(), [report(outcome(n=LEAST_ROWS - 1, gain=(1, 0.9, 1)))])
    assert not verdict.passed
    assert verdict.reasons[0].endswith("; 19 rows are too few to decide on, it takes 20")
    assert decide(Gate(), [report(outcome(n=LEAST_ROWS, gain=(1, 0.9, 1)))]).passed


def test_a_metric_that_was_not_measured_does_not_pass() -> None:
    verdict = decide(Gate(metric="rouge_l"), [report(outcome())])
    assert (verdict.passed, verdict.reasons) == (False, ("rouge_l was not measured (suites that were: held-out)",))
    assert not decide(Gate(), []).passed


def guarded(gain: tuple[float, float, float], limit: float | None = 0.02, n: int = 100, metric: str = "regex"):  # type: ignore[no-untyped-def]
    guard = report(outcome(metric, gain=gain, n=n), suite="safety")
    return decide(Gate(max_guard_loss=limit, guards=("safety",)), [report(outcome()), guard])


def test_a_guard_may_lose_so_much_and_no_more() -> None:
    assert guarded((-0.02, -0.02, -0.02)).passed
    lost = guarded((-0.03, -0.05, -0.01))
    assert not lost.passed
    assert lost.reasons[0] == (
        "guard safety: regex 0.62 [0.55, 0.69], base 0.41: gain -0.03 [-0.05, -0.01], may lose 0.02"
    )
    assert lost.reasons[1].startswith("exact_match")
    unsure = guarded((0.0, -0.06, 0.06))
    assert (unsure.passed, unsure.warnings) == (True, ("guard safety: regex may have lost as much as 0.06",))
    assert guarded((-0.5, -0.6, -0.4), limit=None).passed
    assert not guarded((0.0, 0.0, 0.0), n=5).passed
    # The gate's metric may lose on a guard, too.
    assert not guarded((-0.3, -0.4, -0.2), metric="exact_match").passed


def test_a_guards_metric_is_not_the_goal_and_a_missing_guard_does_not_pass() -> None:
    gate = Gate(guards=("safety",), max_guard_loss=0.02)
    better_on_guard = report(outcome(gain=(0.9, 0.8, 1.0)), suite="safety")
    assert not decide(gate, [better_on_guard, report(outcome(gain=(0.0, -0.1, 0.1)))]).passed
    verdict = decide(gate, [report(outcome())])
    assert (verdict.passed, verdict.reasons[0]) == (False, "guard safety: it was not evaluated")


def test_a_guard_may_be_named_by_its_path() -> None:
    gate = Gate(guards=("suites/safety.yaml",), max_guard_loss=0.02)
    guard = replace(report(outcome(gain=(-0.5, -0.6, -0.4)), suite="safety"), source="suites/safety.yaml")
    verdict = decide(gate, [guard, report(outcome())])
    assert not verdict.passed
    assert [reason.partition(":")[0] for reason in verdict.reasons] == [
        "guard safety",
        "exact_match 0.62 [0.55, 0.69], base 0.41",
    ]


def test_a_guards_perplexity_is_its_loss_told_again() -> None:
    both = report(
        outcome("loss", gain=(-0.01, -0.02, 0), higher=False),
        outcome("perplexity", gain=(-3.0, -4.0, -2.0), higher=False),
        suite="safety",
    )
    gate = Gate(guards=("safety",), max_guard_loss=0.02)
    assert decide(gate, [report(outcome()), both]).passed
    alone = report(outcome("perplexity", gain=(-3.0, -4.0, -2.0), higher=False), suite="safety")
    assert not decide(gate, [report(outcome()), alone]).passed


def test_warnings_of_reports_are_passed_on() -> None:
    verdict = decide(Gate(), [report(outcome(), warnings=("v2 gave no answer to 1 of 100 questions: too long",))])
    assert verdict.warnings == ("held-out: v2 gave no answer to 1 of 100 questions: too long",)
