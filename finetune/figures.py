"""How an installation is doing, in numbers that the database can tell exactly. `finetune.metrics` writes them out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from finetune.jobs import JobState
from finetune.versions import PromotionState


class InState(NamedTuple):
    """A provider's jobs in one state."""

    provider: str
    state: JobState


class Coded(NamedTuple):
    """A provider and an error code."""

    provider: str
    code: str


class Sharing(NamedTuple):
    """A version that gets calls of `name@alias`."""

    name: str
    alias: str
    version: int


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What waits for a worker in one queue."""

    #: Rows that are due and that no live lease holds.
    depth: int
    #: Seconds since the first of them became due; 0.0 when none waits.
    oldest_s: float


@dataclass(frozen=True, kw_only=True)
class Spending:
    """US dollars of a provider's jobs within the reach; a job without the number in question adds nothing to it."""

    #: Planned, at least and at most.
    low: float
    high: float
    #: Named by the provider.
    quote: float
    #: Jobs that are billed, for an amount that is neither planned nor named.
    unpriced: int


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Promotions, and who gets which calls."""

    #: All promotions there are, by state; a state without one may be left out.
    promotions: Mapping[PromotionState, int]
    #: Unfinished promotions whose latest step failed and will be tried again.
    retrying: int
    #: Seconds that the longest due promotion has waited for a worker; 0.0 when none waits.
    oldest_s: float
    #: Promotions that failed within the last hour, the newest, by error code.
    failed: Mapping[str, int]
    #: Aliases that send calls to a version.
    aliases: int
    #: Shares above 0, of the aliases that were moved last.
    shares: Mapping[Sharing, float]
    #: What gateways should have, by gateway; one that never had anything is left out.
    deployments: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One look. A provider is in a mapping if it has a job that the mapping speaks of."""

    #: By queue; every queue is here.
    backlogs: Mapping[str, Backlog]
    #: Living workers by queue; every queue is here.
    workers: Mapping[str, int]
    #: All jobs there are.
    jobs: Mapping[InState, int]
    #: Unfinished jobs whose latest step failed and will be tried again.
    retrying: Mapping[str, int]
    #: How late the latest poll is, seconds; 0.0 where none is due. For providers with a running job.
    poll_lag_s: Mapping[str, float]
    #: From submit to the first step, seconds, of each job that left the queue within `events_reach_s`.
    waits_s: Mapping[str, Sequence[float]]
    #: From the attempt to the end, seconds, of the newest jobs that ended within the last hour.
    runs_s: Mapping[InState, Sequence[float]]
    #: Steps within `events_reach_s` that failed and were to be tried again.
    errors: Mapping[Coded, int]
    #: Jobs that failed within the last hour, the newest of each provider.
    failed: Mapping[Coded, int]
    #: Of jobs submitted within `spending_reach_s`, without those that ended before a provider had them.
    spending: Mapping[str, Spending]
    serving: Serving
    #: How far back, seconds: an hour, or less where so much happened that the look would be dear.
    events_reach_s: float
    #: How far back, seconds: a day, or less where so many jobs were submitted.
    spending_reach_s: float


class FigureSource(Protocol):
    """Looks at the database."""

    def look(self, now: datetime) -> Figures:
        """The figures of this moment. Reads only, and a bounded number of rows. Raises StateError, StoreBusy."""
        ...
