"""Two models on the same rows: figures, intervals, paired gains, samples and golden answers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from finetune.evaluation.faults import fault
from finetune.evaluation.figures import Figures, outcome
from finetune.evaluation.judge import Judged, judge
from finetune.evaluation.metrics import METRICS, Metric, named
from finetune.evaluation.models import Answer, Answerer, Loss, Model
from finetune.evaluation.report import Golden, Outcome, Report, Sample
from finetune.evaluation.rows import Row
from finetune.evaluation.suites import Suite

_SAMPLES = 20
_GOLDEN = 8


def _silent(line: str) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How it is done."""

    #: For sampled rows and resamples.
    seed: int = 0
    #: Rows of each suite, at most; None: all.
    sample_size: int | None = None
    #: Whom the metric `judge` asks; None: suites with it are refused.
    judge: Answerer | None = None
    #: Told in plain lines what happens.
    say: Callable[[str], None] = _silent
    #: Seconds, for durations only.
    clock: Callable[[], float] = time.monotonic


@dataclass(kw_only=True)
class _Work:
    """A suite and what was found on its rows so far: the tuned model's first, the other's second."""

    suite: Suite
    answers: list[list[Answer]] = field(default_factory=list)
    losses: list[list[Loss]] = field(default_factory=list)
    judged: Judged | None = None
    seconds: float = 0.0

    def needs(self, what: str) -> bool:
        return any(METRICS[name].needs == what for name in self.suite.metrics)


def evaluate(suites: Sequence[Suite], tuned: Model, other: Model, ways: Ways | None = None) -> list[Report]:
    """Ask both models about the same rows of each suite; one report a suite, in order. Blocks.

    All answers come before all losses: a model in this process is prepared for each once. Raises EvaluationError: E851
    (metric), E852 (no row says what a metric needs), E857 (a metric that one of the models cannot have), and what the
    models raise. Nothing is asked before the suites are known to fit.
    """
    ways = ways or Ways()
    works = [_Work(suite=suite.sample(ways.sample_size, ways.seed)) for suite in suites]
    for work in works:
        _check(work.suite, (tuned, other), ways)
    for work in works:
        _ask(work, (tuned, other), ways)
    for work in works:
        _score(work, (tuned, other), ways)
    return [_report(work, tuned, other, ways) for work in works]


def _check(suite: Suite, models: tuple[Model, Model], ways: Ways) -> None:
    for name in suite.metrics:
        metric = named(name)
        if not any(metric.applies(row) for row in suite.rows):
            raise fault(
                "E852",
                f"{name} cannot be measured on the suite {suite.name}",
                "none of its rows says what the metric needs",
                "choose other metrics, or add what is missing to the rows",
            )
        if metric.needs == "judge" and ways.judge is None:
            raise fault("E857", f"{name} needs a judge", fix="name the model that judges, or leave the metric out")
        for model in models:
            if metric.needs == "losses" and model.scorer is None:
                raise fault(
                    "E857",
                    f"{name} cannot be measured of {model.name}",
                    "it needs the probability of each token, which only weights on this machine tell",
                    "leave the metric out, or evaluate the weights themselves",
                )


def _ask(work: _Work, models: tuple[Model, Model], ways: Ways) -> None:
    started = ways.clock()
    suite = work.suite
    if not (work.needs("answers") or work.needs("judge")):
        return
    questions = [row.question for row in suite.rows]
    for model in models:
        ways.say(f"asking {model.name} the {len(questions)} questions of {suite.name}")
        work.answers.append(model.answerer.answers(questions, suite.max_tokens))
    if ways.judge is not None and work.needs("judge"):
        ways.say(f"having {suite.name} judged")
        work.judged = judge(suite.rows, work.answers[0], work.answers[1], ways.judge)
    work.seconds += ways.clock() - started


def _score(work: _Work, models: tuple[Model, Model], ways: Ways) -> None:
    if not work.needs("losses"):
        return
    started = ways.clock()
    for model in models:
        ways.say(f"computing the loss of {model.name} on {work.suite.name}")
        assert model.scorer is not None
        found = iter(model.scorer.losses([row.source for row in work.suite.rows if row.wanted is not None]))
        work.losses.append([Loss(0.0, 0) if row.wanted is None else next(found) for row in work.suite.rows])
    work.seconds += ways.clock() - started


def _report(work: _Work, tuned: Model, other: Model, ways: Ways) -> Report:
    suite = work.suite
    answers = work.answers
    spoken = sum(answer.tokens for side in answers for answer in side) + (work.judged.tokens if work.judged else 0)
    return Report(
        suite=suite.name,
        source=suite.source,
        digest=suite.digest,
        n=len(suite.rows),
        tuned=tuned.name,
        other=other.name,
        outcomes=tuple(_outcome(METRICS[name], work, ways.seed) for name in suite.metrics),
        samples=tuple(_samples(suite.rows, *answers)) if answers else (),
        golden=tuple(_golden(suite, *answers)) if answers else (),
        warnings=tuple(_warnings(work, tuned, other)),
        seed=ways.seed,
        seconds=round(work.seconds, 3),
        tokens=spoken,
    )


def _outcome(metric: Metric, work: _Work, seed: int) -> Outcome:
    rows = work.suite.rows
    if metric.needs == "judge":
        assert work.judged is not None
        wins = [win for win in work.judged.wins if win is not None]
        if not wins:
            raise fault(
                "E855",
                f"no verdict of the judge can be read on the suite {work.suite.name}",
                "each must end with [[A]], [[B]] or [[C]]",
                "use a model that follows instructions as the judge",
            )
        figures = Figures(tuned=wins, other=[1 - win for win in wins])
        return outcome(metric, figures, seed, unreadable=work.judged.unreadable)
    kept = [index for index, row in enumerate(rows) if metric.applies(row)]
    if metric.needs == "losses":
        return outcome(metric, _losses(metric, work, kept), seed)
    assert metric.score is not None
    score, (first, second) = metric.score, work.answers
    return outcome(
        metric,
        Figures(tuned=[score(rows[i], first[i]) for i in kept], other=[score(rows[i], second[i]) for i in kept]),
        seed,
    )


def _losses(metric: Metric, work: _Work, kept: Sequence[int]) -> Figures:
    pairs = [(work.losses[0][i], work.losses[1][i]) for i in kept]
    if any(one.tokens != two.tokens for one, two in pairs):
        raise fault(
            "E857",
            f"{metric.name} of the two models cannot be compared on the suite {work.suite.name}",
            "they read the same rows as different tokens",
            "leave the metric out: the chat templates of the two differ",
        )
    if not any(one.tokens for one, _ in pairs):
        raise fault("E852", f"the rows of {work.suite.name} have no token whose loss could be computed")
    return Figures(
        tuned=[one.nll for one, _ in pairs],
        other=[two.nll for _, two in pairs],
        tokens=[one.tokens for one, _ in pairs],
    )


def _samples(rows: Sequence[Row], tuned: Sequence[Answer], other: Sequence[Answer]) -> list[Sample]:
    """The first rows: they are a sample already, and to choose the telling ones would flatter."""
    return [
        Sample(prompt=row.prompt, wanted=row.text, tuned=shown(one), other=shown(two))
        for row, one, two in zip(rows[:_SAMPLES], tuned, other, strict=False)
    ]


def _golden(suite: Suite, tuned: Sequence[Answer], other: Sequence[Answer]) -> list[Golden]:
    """Questions without tools that are answered in different words, the shortest first: they are asked often."""
    found = [
        Golden(messages=list(row.question.messages), max_tokens=suite.max_tokens, tuned=one.text, other=two.text)
        for row, one, two in zip(suite.rows, tuned, other, strict=True)
        if not row.question.tools and not (one.fault or two.fault) and one.text.strip()
        if one.text.strip() != two.text.strip()
    ]
    return sorted(found, key=lambda each: len(str(each.messages)) + len(each.tuned))[:_GOLDEN]


def shown(answer: Answer) -> str:
    """An answer as people read it."""
    calls = [f"{call.name}({call.arguments})" for call in answer.calls]
    return "\n".join(filter(None, [answer.text, *calls])) if answer.fault is None else f"(no answer: {answer.fault})"


def _warnings(work: _Work, tuned: Model, other: Model) -> list[str]:
    found = []
    for model, answers in zip((tuned, other), work.answers, strict=False):
        if faults := [answer.fault for answer in answers if answer.fault is not None]:
            found.append(f"{model.name} gave no answer to {len(faults)} of {len(answers)} questions: {faults[0]}")
    if work.judged and work.judged.unreadable:
        found.append(f"{work.judged.unreadable} of {len(work.judged.wins)} verdicts of the judge could not be read")
    return found
