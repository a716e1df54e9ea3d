"""What trainings were reckoned to cost, and what they have cost: by job, and by provider."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from finetune.catalogue import Cost
from finetune.jobs import Job, JobState

_CENT: Final = Decimal("0.01")

#: What so many trained tokens cost at a job's target by its published price; without a figure where there is none.
PriceOf = Callable[[Job, int], Cost]


@dataclass(frozen=True, kw_only=True)
class Spending:
    """One job that has ended well. US dollars."""

    job_id: str
    provider: str
    #: As planned; None where no price is published.
    low: Decimal | None
    high: Decimal | None
    actual: Decimal | None
    #: `counted` by the provider or this machine; `reckoned` from the tokens that the provider has trained on; None:
    #: nobody tells.
    how: str | None

    @property
    def error(self) -> float | None:
        """The middle of the estimate over what it has cost, minus one: 0.1 is a tenth too much. None: unknown."""
        if self.low is None or self.high is None or not self.actual:
            return None
        return float((self.low + self.high) / 2 / self.actual) - 1

    @property
    def within(self) -> bool | None:
        """Whether it has cost what was planned, to the cent."""
        if self.low is None or self.high is None or self.actual is None:
            return None
        return self.low - _CENT <= self.actual <= self.high + _CENT


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The jobs of one provider."""

    provider: str
    jobs: int
    #: Of those whose estimate and cost are both known.
    compared: int
    within: int
    estimated_low: Decimal
    estimated_high: Decimal
    actual: Decimal
    #: The mean of the errors without their signs; None where nothing is compared.
    mean_error: float | None


def spendings(jobs: Iterable[Job], price_of: PriceOf) -> list[Spending]:
    """Those that have ended well, in their order."""
    return [_spending(job, price_of) for job in jobs if job.state is JobState.SUCCEEDED]


def tallies(found: Iterable[Spending]) -> list[Tally]:
    """By provider, by name."""
    by: dict[str, list[Spending]] = {}
    for each in found:
        by.setdefault(each.provider, []).append(each)
    return [_tally(name, by[name]) for name in sorted(by)]


def _spending(job: Job, price_of: PriceOf) -> Spending:
    cost = job.cost or {}
    low, high = (Decimal(said) if (said := cost.get(key)) is not None else None for key in ("low", "high"))
    actual, how = _actual(job, price_of)
    return Spending(job_id=job.id, provider=job.provider, low=low, high=high, actual=actual, how=how)


def _actual(job: Job, price_of: PriceOf) -> tuple[Decimal | None, str | None]:
    if (spent := (job.cost or {}).get("spent")) is not None:
        return Decimal(spent), "counted"
    tokens = (job.artifact or {}).get("trained_tokens")
    if isinstance(tokens, int):
        reckoned = price_of(job, tokens).high_usd
        return reckoned, "reckoned" if reckoned is not None else None
    return None, None


def _tally(name: str, mine: list[Spending]) -> Tally:
    both = [each for each in mine if each.within is not None]
    errors = [abs(each.error) for each in both if each.error is not None]
    return Tally(
        provider=name,
        jobs=len(mine),
        compared=len(both),
        within=sum(bool(each.within) for each in both),
        estimated_low=sum((each.low or Decimal(0) for each in both), Decimal(0)),
        estimated_high=sum((each.high or Decimal(0) for each in both), Decimal(0)),
        actual=sum((each.actual or Decimal(0) for each in both), Decimal(0)),
        mean_error=sum(errors) / len(errors) if errors else None,
    )
