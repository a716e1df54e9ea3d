"""From the rows' values of one metric to figures, intervals and the paired gain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.evaluation.faults import fault
from finetune.evaluation.intervals import mean_interval, ratio_interval
from finetune.evaluation.metrics import Metric
from finetune.evaluation.report import Gain, Measure, Outcome


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Values of the same rows, one a row: of the tuned model and of the other."""

    tuned: Sequence[float]
    other: Sequence[float]
    #: Of a row; then values are sums over its tokens, and the figure is their mean per token.
    tokens: Sequence[int] | None = None


def outcome(metric: Metric, figures: Figures, seed: int, *, unreadable: int = 0) -> Outcome:
    """Both models' figures with intervals, and the gain. Same seed, same result. Raises EvaluationError (E855)."""
    if not all(map(math.isfinite, [*figures.tuned, *figures.other])):
        raise fault("E855", f"{metric.name} is not a number", "the weights are broken, or overflow in this precision")
    return Outcome(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        tuned=_measure(metric, figures.tuned, figures.tokens, seed),
        other=_measure(metric, figures.other, figures.tokens, seed),
        gain=_gain(metric, figures, seed),
        unreadable=unreadable,
    )


def _measure(metric: Metric, values: Sequence[float], tokens: Sequence[int] | None, seed: int) -> Measure:
    if tokens is None:
        low, high = mean_interval(values, seed, metric.bounds)
        return Measure(value=math.fsum(values) / len(values), low=low, high=high, n=len(values))
    low, high = (metric.shown(end) for end in ratio_interval(values, tokens, seed))
    value = metric.shown(math.fsum(values) / sum(tokens))
    return Measure(value=value, low=low, high=high, n=sum(count > 0 for count in tokens))


def _gain(metric: Metric, figures: Figures, seed: int) -> Gain:
    # Where lower is better, what the other has more.
    sides = (figures.tuned, figures.other) if metric.higher_is_better else (figures.other, figures.tuned)
    if figures.tokens is None:
        differences = [better - worse for better, worse in zip(*sides, strict=True)]
        interval = mean_interval(differences, seed, metric.bounds.of_difference if metric.bounds else None)
        return Gain(value=math.fsum(differences) / len(differences), low=interval.low, high=interval.high)
    more, less = (metric.shown(math.fsum(side) / sum(figures.tokens)) for side in sides)
    interval = ratio_interval(sides[0], figures.tokens, seed, less=sides[1], shown=metric.shown)
    return Gain(value=more - less, low=interval.low, high=interval.high)
