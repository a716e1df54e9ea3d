"""Is the tuned model good enough? One decision from a gate and reports, in plain sentences.

What decides, and why:

* The gain's point value must reach `min_gain`. With `min_gain` above 0 the gain's interval must also lie above 0: who
  asks for a gain is not served by one that may be none. It need not lie above `min_gain`: that would refuse most true
  gains on the few hundred rows that held-out splits have.
* With `min_gain` 0 or less ("no worse") an interval that holds 0 is said, and passes.
* A guard suite's metric fails when its point value has lost more than `max_guard_loss`. To ask that of the interval's
  low end would fail models that lose nothing, for want of rows; so it is said, and passes.
* A metric from fewer than `LEAST_ROWS` rows decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from finetune.evaluation.report import Measure, Outcome, Report

#: Fewer rows than these let no gate pass: a single one would be more than five points.
LEAST_ROWS: Final = 20


class Terms(Protocol):
    """What a gate asks for; a recipe's `gate`."""

    @property
    def metric(self) -> str:
        """The metric that decides."""
        ...

    @property
    def min_gain(self) -> float:
        """Least gain, in the metric's unit; where lower is better, the least reduction."""
        ...

    @property
    def max_guard_loss(self) -> float | None:
        """Most that any metric of a guard suite may lose, in its unit; None: guards are told and do not decide."""
        ...

    @property
    def guards(self) -> Sequence[str]:
        """Guard suites: a report's `suite` or its `source`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the gate lets the model pass."""

    passed: bool
    #: One sentence for each thing that was looked at, those that stand in the way first.
    reasons: tuple[str, ...]
    #: What does not stand in the way and should be known.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Finding:
    passed: bool
    reason: str
    warning: str = ""


def decide(gate: Terms, reports: Sequence[Report]) -> Verdict:
    """The decision. All reports are of the same two models; the gate's metric is taken from the first that has it.

    Raises nothing: what is missing is a reason not to pass.
    """
    guards = [report for report in reports if _names(report) & set(gate.guards)]
    main = [report for report in reports if report not in guards]
    there = frozenset[str]().union(*map(_names, guards))
    findings = [_goal(gate, main)]
    findings += [_missing_guard(name) for name in gate.guards if name not in there]
    findings += [_guard(gate, report, outcome) for report in guards for outcome in _counted(report)]
    ordered = sorted(findings, key=lambda finding: finding.passed)
    warnings = [finding.warning for finding in ordered if finding.warning]
    said = [f"{report.suite}: {warning}" for report in reports for warning in report.warnings]
    return Verdict(
        passed=all(finding.passed for finding in findings),
        reasons=tuple(finding.reason for finding in ordered),
        warnings=tuple([*warnings, *said]),
    )


def _names(report: Report) -> frozenset[str]:
    return frozenset({report.suite, report.source} - {""})


def _goal(gate: Terms, reports: Sequence[Report]) -> _Finding:
    found = next(((report, outcome) for report in reports if (outcome := report.outcome(gate.metric))), None)
    if found is None:
        suites = ", ".join(report.suite for report in reports) or "none"
        return _Finding(passed=False, reason=f"{gate.metric} was not measured (suites that were: {suites})")
    report, outcome = found
    told = f"{_told(report, outcome)}, wanted {_number(gate.min_gain)}"
    if outcome.tuned.n < LEAST_ROWS:
        return _Finding(passed=False, reason=f"{told}; {_few(outcome.tuned)}")
    # Figures are sums of many parts: the last bits are not the model's doing.
    if outcome.gain.value < gate.min_gain - 1e-9:
        return _Finding(passed=False, reason=told)
    if outcome.gain.low > 0:
        return _Finding(passed=True, reason=told)
    unsure = "the interval holds 0, so there may be no gain"
    if gate.min_gain > 0:
        return _Finding(passed=False, reason=f"{told}; {unsure}: evaluate on more rows")
    return _Finding(passed=True, reason=told, warning=f"{outcome.metric}: {unsure}")


def _guard(gate: Terms, report: Report, outcome: Outcome) -> _Finding:
    told = f"guard {report.suite}: {_told(report, outcome)}"
    if gate.max_guard_loss is None:
        return _Finding(passed=True, reason=f"{told}, no limit set")
    told += f", may lose {_number(gate.max_guard_loss)}"
    if outcome.tuned.n < LEAST_ROWS:
        return _Finding(passed=False, reason=f"{told}; {_few(outcome.tuned)}")
    if -outcome.gain.value > gate.max_guard_loss + 1e-9:
        return _Finding(passed=False, reason=told)
    if -outcome.gain.low > gate.max_guard_loss:
        warning = f"guard {report.suite}: {outcome.metric} may have lost as much as {_number(-outcome.gain.low)}"
        return _Finding(passed=True, reason=told, warning=warning)
    return _Finding(passed=True, reason=told)


def _counted(report: Report) -> list[Outcome]:
    """A perplexity says what the loss has said, in a unit of another size."""
    there = {outcome.metric for outcome in report.outcomes}
    return [each for each in report.outcomes if not (each.metric == "perplexity" and "loss" in there)]


def _missing_guard(name: str) -> _Finding:
    return _Finding(passed=False, reason=f"guard {name}: it was not evaluated")


def _few(measure: Measure) -> str:
    return f"{measure.n} rows are too few to decide on, it takes {LEAST_ROWS}"


def _told(report: Report, outcome: Outcome) -> str:
    tuned, gain = outcome.tuned, outcome.gain
    word = "gain" if outcome.higher_is_better else "reduction"
    return (
        f"{outcome.metric} {_number(tuned.value)} {_span(tuned.low, tuned.high)}, "
        f"{report.other} {_number(outcome.other.value)}: {word} {_number(gain.value)} {_span(gain.low, gain.high)}"
    )


def _span(low: float, high: float) -> str:
    return f"[{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """Two decimals, more for what would else be 0.00."""
    rounded = f"{value:.2f}"
    if float(rounded) == 0:
        return f"{value:.2g}" if value else "0.00"
    return rounded
