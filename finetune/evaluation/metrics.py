"""The table of metrics. Each gives one value a row, so that intervals and paired gains come from rows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from finetune.evaluation import metrics_json, metrics_text, metrics_tools
from finetune.evaluation.faults import fault
from finetune.evaluation.intervals import Bounds
from finetune.evaluation.models import Answer
from finetune.evaluation.rows import Row

_SHARE: Final = Bounds(0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric."""

    name: str
    #: One sentence.
    doc: str
    #: What its figures are in: `share` (0 to 1), `nats/token`, `tokens`.
    unit: str
    #: What it is computed from: answers, losses of the wanted answers, or a judge's verdicts.
    needs: Literal["answers", "losses", "judge"]
    higher_is_better: bool = True
    #: Of one row's value; None: it has none.
    bounds: Bounds | None = _SHARE
    #: Whether a row says what the metric needs. Rows that do not are left out of it.
    applies: Callable[[Row], bool] = lambda row: True
    #: One row's value of an answer; None unless it needs answers.
    score: Callable[[Row, Answer], float] | None = None
    #: From the mean of rows to the figure that is shown. Monotone.
    shown: Callable[[float], float] = float


def _wants_text(row: Row) -> bool:
    return bool(row.text)


def _is_answered(row: Row) -> bool:
    return row.wanted is not None


_ALL: Final = (
    Metric(
        name="exact_match",
        doc="The answer is the wanted text, but for white space at the ends.",
        unit="share",
        needs="answers",
        applies=_wants_text,
        score=metrics_text.exact_match,
    ),
    Metric(
        name="token_f1",
        doc="Harmonic mean of precision and recall of words, as SQuAD counts them.",
        unit="share",
        needs="answers",
        applies=_wants_text,
        score=metrics_text.token_f1,
    ),
    *(
        Metric(
            name=name,
            doc=f"ROUGE's F1 of {what} that answer and wanted text share, by the package rouge-score.",
            unit="share",
            needs="answers",
            applies=_wants_text,
            score=metrics_text.rouge(key),
        )
        for name, key, what in (
            ("rouge_1", "rouge1", "words"),
            ("rouge_2", "rouge2", "pairs of words"),
            ("rouge_l", "rougeL", "the longest common subsequence of words"),
        )
    ),
    Metric(
        name="contains",
        doc="All texts of the row's `contains`, or else the wanted text, are in the answer.",
        unit="share",
        needs="answers",
        applies=lambda row: bool(row.contains) or _wants_text(row),
        score=metrics_text.contains,
    ),
    Metric(
        name="regex",
        doc="The row's `pattern` is found in the answer.",
        unit="share",
        needs="answers",
        applies=lambda row: row.pattern is not None,
        score=metrics_text.regex,
    ),
    Metric(
        name="json_valid",
        doc="The answer is JSON (RFC 8259) and nothing else.",
        unit="share",
        needs="answers",
        score=metrics_json.json_valid,
    ),
    Metric(
        name="json_schema",
        doc="The answer is JSON that fits the row's or the suite's `schema`.",
        unit="share",
        needs="answers",
        applies=lambda row: row.schema is not None,
        score=metrics_json.json_schema,
    ),
    Metric(
        name="tool_calls",
        doc="The calls are the wanted ones in any order, their arguments equal as JSON; none where none is wanted.",
        unit="share",
        needs="answers",
        applies=lambda row: _is_answered(row) and bool(row.question.tools or row.calls),
        score=metrics_tools.tool_calls,
    ),
    Metric(
        name="loss",
        doc="Mean negative log likelihood of the wanted answers' tokens; each token weighs the same.",
        unit="nats/token",
        needs="losses",
        higher_is_better=False,
        bounds=None,
        applies=_is_answered,
    ),
    Metric(
        name="perplexity",
        doc="The exponential of the loss: among how many tokens the model seems to choose.",
        unit="tokens",
        needs="losses",
        higher_is_better=False,
        bounds=None,
        applies=_is_answered,
        # A perplexity above 10^300 says no more than 10^300.
        shown=lambda loss: math.exp(min(loss, 690.0)),
    ),
    Metric(
        name="judge",
        doc="How often a judge prefers the model's answer to the other model's; a tie counts half.",
        unit="share",
        needs="judge",
    ),
)

#: All metrics by name.
METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _ALL}


def named(name: str) -> Metric:
    """The metric of this name. Raises EvaluationError (E851)."""
    found = METRICS.get(name)
    if found is None:
        raise fault("E851", f"there is no metric {name!r}", fix=f"use one of: {', '.join(METRICS)}")
    return found
