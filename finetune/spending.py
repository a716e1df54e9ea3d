"""What trainings were foreseen to cost and take, and what they have: by job, and by provider."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from finetune.catalogue import Cost
from finetune.estimates import from_row
from finetune.jobs import Job, JobState

_CENT: Final = Decimal("0.01")

#: What so many trained tokens cost at a job's target by its published price; without a figure where there is none.
PriceOf = Callable[[Job, int], Cost]
#: Seconds that a training has taken; None: it does not count.
Took = Callable[[Job], float | None]


@dataclass(frozen=True, kw_only=True)
class Held:
    """A range that was foreseen, and what has come."""

    low: float
    high: float
    actual: float

    @property
    def error(self) -> float | None:
        """The middle of the range over what has come, minus one; None where that is nothing."""
        return (self.low + self.high) / 2 / self.actual - 1 if self.actual else None


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
    #: Seconds, and bytes of a card at the peak; None where one of the two is unknown.
    seconds: Held | None = None
    memory: Held | None = None

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
    #: The means of the errors without their signs; None where nothing is compared.
    mean_error: float | None
    mean_time_error: float | None
    mean_memory_error: float | None


def spendings(jobs: Iterable[Job], price_of: PriceOf, took: Took) -> list[Spending]:
    """Those that have ended well, in their order."""
    return [_spending(job, price_of, took) for job in jobs if job.state is JobState.SUCCEEDED]


def tallies(found: Iterable[Spending]) -> list[Tally]:
    """By provider, by name."""
    by: dict[str, list[Spending]] = {}
    for each in found:
        by.setdefault(each.provider, []).append(each)
    return [_tally(name, by[name]) for name in sorted(by)]


def _spending(job: Job, price_of: PriceOf, took: Took) -> Spending:
    cost, foreseen = job.cost or {}, from_row(job.estimate)
    low, high = (Decimal(said) if (said := cost.get(key)) is not None else None for key in ("low", "high"))
    actual, how = _actual(job, price_of)
    return Spending(
        job_id=job.id,
        provider=job.provider,
        low=low,
        high=high,
        actual=actual,
        how=how,
        seconds=_held(foreseen.seconds, took(job) if foreseen.seconds else None),
        memory=_held(foreseen.memory, (job.artifact or {}).get("peak_memory_bytes")),
    )


def _held(foreseen: tuple[float, float] | None, actual: float | None) -> Held | None:
    if foreseen is None or actual is None:
        return None
    return Held(low=foreseen[0], high=foreseen[1], actual=actual)


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
    return Tally(
        provider=name,
        jobs=len(mine),
        compared=len(both),
        within=sum(bool(each.within) for each in both),
        estimated_low=sum((each.low or Decimal(0) for each in both), Decimal(0)),
        estimated_high=sum((each.high or Decimal(0) for each in both), Decimal(0)),
        actual=sum((each.actual or Decimal(0) for each in both), Decimal(0)),
        mean_error=_mean(each.error for each in both),
        mean_time_error=_mean(each.seconds.error for each in mine if each.seconds),
        mean_memory_error=_mean(each.memory.error for each in mine if each.memory),
    )


def _mean(errors: Iterable[float | None]) -> float | None:
    found = [abs(each) for each in errors if each is not None]
    return sum(found) / len(found) if found else None
