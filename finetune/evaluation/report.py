"""What an evaluation found, and the same as plain JSON: it is stored with the model version."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from finetune.evaluation.faults import fault
from finetune.jobs import Json

#: Of the JSON; a reader refuses others.
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure of one model, with its 95 % interval."""

    value: float
    low: float
    high: float
    #: Rows that it comes from.
    n: int


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How much better the tuned model is, with the 95 % interval of the paired difference. Positive is better, always.

    Where lower is better it is the reduction.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One metric of both models, from the same rows."""

    metric: str
    higher_is_better: bool
    tuned: Measure
    other: Measure
    gain: Gain
    #: Rows that were asked and count for neither: the judge's verdict could not be read.
    unreadable: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row, for people to look at."""

    prompt: str
    #: None where the row wants no particular text.
    wanted: str | None
    tuned: str
    other: str


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A question that the two models answer differently: it tells later which of them answers at a gateway."""

    messages: list[Json]
    max_tokens: int
    tuned: str
    other: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """One suite, two models."""

    suite: str
    #: The suite as who asked for it calls it (a recipe's `guards`: a path); empty: by its name.
    source: str = ""
    #: Of the rows that were used: sha256, or what a harness says of its task.
    digest: str
    #: Rows that were used.
    n: int
    #: Names of the two models.
    tuned: str
    other: str
    outcomes: tuple[Outcome, ...]
    samples: tuple[Sample, ...] = ()
    golden: tuple[Golden, ...] = ()
    warnings: tuple[str, ...] = ()
    #: What the rows were sampled, and the intervals computed with.
    seed: int = 0
    seconds: float = 0.0
    #: Tokens that both models, and the judge, have written.
    tokens: int = 0

    def outcome(self, metric: str) -> Outcome | None:
        """That of this metric; None when it was not measured."""
        return next((each for each in self.outcomes if each.metric == metric), None)

    def to_json(self) -> Json:
        """JSON values only; `from_json` makes an equal report of it."""
        return {"format": FORMAT, **_plain(asdict(self))}

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> "Report":
        """The report of `to_json`. Raises EvaluationError (E856) for anything else."""
        try:
            return _report(body)
        except (KeyError, TypeError, AttributeError) as error:
            raise fault("E856", f"a stored evaluation cannot be read: {error}", fix="evaluate again") from error


def _report(body: Mapping[str, Any]) -> Report:
    if body["format"] != FORMAT:
        raise fault("E856", f"a stored evaluation has the format {body['format']}, not {FORMAT}", fix="evaluate again")
    fields = {name: value for name, value in body.items() if name != "format"}
    outcomes = tuple(
        Outcome(
            **{
                **each,
                "tuned": Measure(**each["tuned"]),
                "other": Measure(**each["other"]),
                "gain": Gain(**each["gain"]),
            }
        )
        for each in body["outcomes"]
    )
    return Report(
        **{
            **fields,
            "outcomes": outcomes,
            "samples": tuple(Sample(**each) for each in body["samples"]),
            "golden": tuple(Golden(**each) for each in body["golden"]),
            "warnings": tuple(body["warnings"]),
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
