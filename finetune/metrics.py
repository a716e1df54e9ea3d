"""`/metrics`: the figures as Prometheus reads them. docs/metrics.md explains each. The only room with its client."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from finetune.figures import Figures, FigureSource, InState, Serving
from finetune.jobs import FINAL, JobState
from finetune.ports import Clock
from finetune.versions import PROMOTED, PromotionState

#: Quantiles of times; 1 is the longest.
QUANTILES: Final = (0.5, 0.9, 0.99, 1.0)

Labels = tuple[str, ...]
Rows = Iterable[tuple[Labels, float]]


class Metrics:
    """Looks at the database at every scrape and keeps nothing: any number of servers say the same."""

    def __init__(self, source: FigureSource, clock: Clock) -> None:
        self._source, self._clock = source, clock

    def page(self) -> bytes:
        """The page, in the text format 0.0.4. Blocks for the database. Raises StateError, StoreBusy."""
        registry = CollectorRegistry()
        registry.register(FiguresCollector(self._source.look(self._clock.now())))
        return generate_latest(registry)


class FiguresCollector(Collector):
    """One look, as families of samples."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Every family, also one without a sample."""
        yield from _queues(self._figures)
        yield from _jobs(self._figures)
        yield from _times(self._figures)
        yield from _troubles(self._figures)
        yield from _money(self._figures)
        yield from _promotions(self._figures.serving)
        yield from _calls(self._figures.serving)
        reach = {("events",): self._figures.events_reach_s, ("cost",): self._figures.spending_reach_s}
        said = "How far back the figures reach that are taken from events (an hour) and from prices (a day), or less."
        yield _gauge("ft_reach_seconds", said, ("figures",), reach.items())


def _queues(figures: Figures) -> Iterator[Metric]:
    backlogs = figures.backlogs.items()
    depths = [((queue,), each.depth) for queue, each in backlogs]
    yield _gauge("ft_queue_depth", "Jobs (remote) or trainings (gpu) that wait for a worker.", ("queue",), depths)
    ages = [((queue,), each.oldest_s) for queue, each in backlogs]
    said = "How long the first of them has waited; 0 when none waits."
    yield _gauge("ft_queue_oldest_age_seconds", said, ("queue",), ages)
    yield _gauge("ft_workers", "Living workers that serve the queue.", ("queue",), _one(figures.workers))


def _jobs(figures: Figures) -> Iterator[Metric]:
    providers = sorted({each.provider for each in figures.jobs})
    counted = {
        (each, str(state)): figures.jobs.get(InState(each, state), 0) for each in providers for state in JobState
    }
    by = ("provider", "state")
    yield _gauge("ft_jobs", "Jobs there are, ended ones too.", by, counted.items())
    ended = [(labels, count) for labels, count in counted.items() if labels[1] in FINAL]
    yield _counter("ft_jobs_finished", "Jobs that have ended, since the database began.", by, ended)
    all_of = {each: sum(count for (one, _), count in counted.items() if one == each) for each in providers}
    said = "Jobs that were submitted, since the database began."
    yield _counter("ft_jobs_submitted", said, ("provider",), _one(all_of))
    said = "Unfinished jobs whose latest step failed and will be tried again."
    retrying = {each: figures.retrying.get(each, 0) for each in providers}
    yield _gauge("ft_jobs_retrying", said, ("provider",), _one(retrying))
    said = "How late the latest poll of a running job is; 0 when none is due."
    yield _gauge("ft_poll_lag_seconds", said, ("provider",), _one(figures.poll_lag_s))


def _times(figures: Figures) -> Iterator[Metric]:
    waits = [((provider,), values) for provider, values in figures.waits_s.items()]
    said = "From submit to the first step, of jobs that left the queue within the reach of events; by quantile."
    yield _gauge("ft_job_wait_seconds", said, ("provider", "quantile"), _quantiles(waits))
    took = [((each.provider, str(each.state)), values) for each, values in figures.runs_s.items()]
    said = "From the attempt to the end, of the newest jobs that ended within the last hour; by quantile."
    yield _gauge("ft_job_run_seconds", said, ("provider", "state", "quantile"), _quantiles(took))


def _troubles(figures: Figures) -> Iterator[Metric]:
    by = ("provider", "code")
    said = "Steps that failed and were to be tried again, within the reach of events."
    yield _gauge("ft_provider_errors", said, by, figures.errors.items())
    said = "Jobs that failed within the last hour, the newest of each provider."
    yield _gauge("ft_failed_jobs", said, by, figures.failed.items())


def _money(figures: Figures) -> Iterator[Metric]:
    spent = figures.spending.items()
    amounts = [
        ((provider, figure), getattr(each, figure)) for provider, each in spent for figure in ("low", "high", "quote")
    ]
    said = "US dollars of the jobs submitted within the reach of prices: planned (low, high), named by the provider."
    yield _gauge("ft_cost_usd", said, ("provider", "figure"), amounts)
    unpriced = [((provider,), each.unpriced) for provider, each in spent]
    said = "Jobs among these that are billed for an amount that nobody has named."
    yield _gauge("ft_cost_unpriced_jobs", said, ("provider",), unpriced)


def _promotions(serving: Serving) -> Iterator[Metric]:
    counted = {(str(state),): serving.promotions.get(state, 0) for state in PromotionState}
    yield _gauge("ft_promotions", "Promotions there are, ended ones too.", ("state",), counted.items())
    ended = [(labels, count) for labels, count in counted.items() if labels[0] in PROMOTED]
    said = "Promotions that have ended, since the database began."
    yield _counter("ft_promotions_finished", said, ("state",), ended)
    said = "Unfinished promotions whose latest step failed and will be tried again."
    yield _gauge("ft_promotions_retrying", said, (), [((), serving.retrying)])
    said = "How long the longest due promotion has waited for a worker; 0 when none waits."
    yield _gauge("ft_promotions_oldest_age_seconds", said, (), [((), serving.oldest_s)])
    said = "Promotions that failed within the last hour, the newest."
    yield _gauge("ft_failed_promotions", said, ("code",), _one(serving.failed))


def _calls(serving: Serving) -> Iterator[Metric]:
    yield _gauge("ft_aliases", "Aliases that have had calls, since the database began.", (), [((), serving.aliases)])
    shares = [((each.name, each.alias, f"v{each.version}"), share) for each, share in serving.shares.items()]
    said = "The part of an alias's calls that a version gets, of the aliases that were moved last."
    yield _gauge("ft_alias_share", said, ("name", "alias", "version"), shares)
    said = "Versions and aliases that a gateway should have."
    yield _gauge("ft_gateway_deployments", said, ("gateway",), _one(serving.deployments))


def _quantiles(series: Iterable[tuple[Labels, Sequence[float]]]) -> Rows:
    """Exact ones, by nearest rank: each is a time that was measured."""
    for labels, values in series:
        ordered = sorted(values)
        for quantile in QUANTILES:
            yield (*labels, f"{quantile:g}"), ordered[math.ceil(quantile * len(ordered)) - 1]


def _one(values: Mapping[str, float]) -> Rows:
    return [((label,), value) for label, value in values.items()]


def _gauge(name: str, said: str, labels: Labels, rows: Rows) -> Metric:
    return _filled(GaugeMetricFamily(name, said, labels=labels), rows)


def _counter(name: str, said: str, labels: Labels, rows: Rows) -> Metric:
    return _filled(CounterMetricFamily(name, said, labels=labels), rows)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, rows: Rows) -> Metric:
    for labels, value in rows:
        family.add_metric(labels, value)
    return family
