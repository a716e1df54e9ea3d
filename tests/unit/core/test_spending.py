"""What trainings were reckoned to cost beside what they have cost."""

from decimal import Decimal

import pytest

from finetune.catalogue import Cost
from finetune.jobs import JobState
from finetune.spending import spendings, tallies
from tests.support.jobs import World, sqlite


@pytest.fixture
def ended(tmp_path):
    world = World(sqlite(tmp_path))

    def submit(number, provider="openai", state=JobState.SUCCEEDED, **more):
        return world.submit(f"ft_{number}", fingerprint=str(number), provider=provider, state=state, **more)

    yield submit
    world.database.close()


def price_of(job, tokens):
    """3.00 US dollars a million."""
    usd = None if job.provider == "silent" else Decimal(tokens) * 3 / 1_000_000
    return Cost(low_usd=usd, high_usd=usd)


def took(job):
    """Of every training a minute, but of those that nobody looked at."""
    return None if job.provider == "silent" else 60.0


def test_what_was_counted_goes_before_what_is_reckoned(ended):
    plan = {"low": "2.00", "high": "4.00"}
    jobs = [
        ended(1, cost={**plan, "spent": "3.00"}, artifact={"trained_tokens": 9}),
        ended(2, cost=plan, artifact={"trained_tokens": 2_000_000}),
        ended(3, cost=plan, artifact={"model": "m"}),
        ended(4, cost=None, artifact={"trained_tokens": 1_000_000}),
        ended(5, state=JobState.FAILED, cost={**plan, "spent": "9.00"}),
        ended(6, provider="silent", cost=plan, artifact={"trained_tokens": 5}),
    ]
    found = {each.job_id: each for each in spendings(jobs, price_of, took)}
    assert [(each.actual, each.how) for each in found.values()] == [
        (Decimal("3.00"), "counted"),
        (Decimal("6"), "reckoned"),
        (None, None),
        (Decimal("3"), "reckoned"),
        (None, None),
    ]
    assert "ft_5" not in found
    assert (found["ft_1"].error, found["ft_1"].within) == (0.0, True)
    assert (found["ft_2"].error, found["ft_2"].within) == (-0.5, False)
    assert (found["ft_4"].error, found["ft_4"].within) == (None, None)


def test_by_provider(ended):
    jobs = [
        ended(1, cost={"low": "2.00", "high": "4.00", "spent": "3.00"}),
        ended(2, cost={"low": "1.00", "high": "1.00", "spent": "2.00"}),
        ended(3, cost=None),
        ended(4, provider="local", cost={"spent": "0.50"}),
    ]
    local, openai = tallies(spendings(jobs, price_of, took))
    assert (local.provider, local.jobs, local.compared, local.mean_error) == ("local", 1, 0, None)
    assert (openai.jobs, openai.compared, openai.within, openai.mean_error) == (3, 2, 1, 0.25)
    assert (openai.estimated_low, openai.estimated_high, openai.actual) == (3, 5, 5)


def test_a_cent_of_rounding_is_no_error(ended):
    (found,) = spendings([ended(1, cost={"low": "1.00", "high": "1.00", "spent": "1.01"})], price_of, took)
    assert found.within


def test_time_and_memory_are_held_against_what_was_foreseen(ended):
    foreseen = {"seconds": {"low": 30.0, "high": 60.0}, "memory_bytes": {"low": 100, "high": 300}}
    jobs = [
        ended(1, estimate=foreseen, artifact={"peak_memory_bytes": 100}),
        ended(2, estimate={"seconds": {"low": 60.0, "high": 60.0}}, artifact={"peak_memory_bytes": 5}),
        ended(3, estimate=None, artifact={"peak_memory_bytes": 5}),
        ended(4, provider="silent", estimate=foreseen, artifact={}),
    ]
    first, second, third, fourth = spendings(jobs, price_of, took)
    assert (first.seconds.error, first.memory.error) == (-0.25, 1.0)
    assert (first.memory.low, first.memory.high, first.memory.actual) == (100, 300, 100)
    assert (second.seconds.error, second.memory) == (0.0, None)
    assert (third.seconds, third.memory, fourth.seconds, fourth.memory) == (None,) * 4
    openai, silent = tallies([first, second, third, fourth])
    assert (openai.mean_time_error, openai.mean_memory_error, openai.mean_error) == (0.125, 1.0, None)
    assert (silent.mean_time_error, silent.mean_memory_error) == (None, None)
