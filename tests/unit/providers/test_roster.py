"""The roster: what one list tells is handed to all who ask within its freshness, and nobody gets anything older."""

import threading

import pytest

from finetune.errors import Problem, ProviderUnavailable
from finetune.providers.roster import Roster
from finetune.testing import ManualClock
from tests.support.process import wait_until


class Api:
    """Jobs that change with time; counts requests."""

    def __init__(self, clock, jobs, page=100):
        self.clock, self.page = clock, page
        self.ids = [f"job-{number}" for number in range(jobs)]
        self.lists = 0
        self.fault = None
        self.takes_s = 0.0
        self.on_list = lambda: None

    def at(self):
        return self.clock.now().timestamp()

    def rows(self):
        newest = self.ids[::-1]
        for start in range(0, len(newest), self.page):
            self.lists += 1
            self.on_list()
            if self.fault:
                raise self.fault
            # A request shows the state at its begin, and takes its time.
            at = self.at()
            self.clock.sleep(self.takes_s)
            yield from ({"id": each, "at": at} for each in newest[start : start + self.page])


@pytest.fixture
def clock():
    return ManualClock()


def polled(roster, api, ids):
    """How many requests it takes to look at all of these, one after the other; each gets what is fresh."""
    own = 0
    before = api.lists
    for each in ids:
        asked_at = api.at()
        row = roster.get(each)
        if row is None:
            own += 1
        else:
            assert row["id"] == each
            assert asked_at - row["at"] <= 1.0
    return own + api.lists - before


def test_few_polls_are_requests_of_their_own(clock):
    api = Api(clock, 50)
    roster = Roster(api.rows, clock)
    assert [roster.get("job-1"), roster.get("job-2"), roster.get("job-1"), roster.get("job-3")] == [None] * 4
    assert api.lists == 0


def test_many_polls_within_a_second_are_few_requests(clock):
    api = Api(clock, 100)
    assert polled(Roster(api.rows, clock), api, api.ids) == 4


@pytest.mark.parametrize("order", [1, -1])
def test_round_after_round(clock, order):
    api = Api(clock, 200)
    roster, requests = Roster(api.rows, clock), 0
    for _ in range(20):
        requests += polled(roster, api, api.ids[::order])
        clock.sleep(5)
    # A page for a hundred, and before it three jobs that were asked for by themselves; from the old end one more.
    assert requests == 20 * {1: 9, -1: 8}[order]


def test_nobody_gets_what_is_older_than_a_second(clock):
    api = Api(clock, 10)
    roster = Roster(api.rows, clock)
    polled(roster, api, api.ids)
    listed_at = api.at()
    clock.sleep(1.0)
    assert roster.get("job-1")["at"] == listed_at
    clock.sleep(0.01)
    assert [roster.get(f"job-{number}") for number in range(3)] == [None] * 3
    assert roster.get("job-3")["at"] == api.at()


def test_the_age_counts_from_the_first_that_was_asked_for(clock):
    api = Api(clock, 10)
    roster = Roster(api.rows, clock)
    for each in ("job-1", "job-2", "job-3", "job-4"):
        clock.sleep(0.2)
        roster.get(each)
    assert api.lists == 1
    clock.sleep(0.5)
    assert roster.get("job-4") is None


@pytest.mark.parametrize("takes_s", [0.1, 0.4, 0.8, 3.0])
def test_time_that_a_list_takes_counts(clock, takes_s):
    api = Api(clock, 300)
    api.takes_s = takes_s
    roster = Roster(api.rows, clock)
    for _ in range(5):
        polled(roster, api, [*api.ids[::-7], *api.ids[::11]])


def test_jobs_that_are_old_make_it_no_dearer_than_a_quarter(clock):
    api = Api(clock, 5000)
    roster = Roster(api.rows, clock)
    # None of them is among the newest thousand.
    ids = [f"job-{number}" for number in range(40)]
    assert polled(roster, api, ids) == 40 + 10
    assert polled(roster, api, ids) == 40


def test_a_list_is_read_only_as_far_as_needed(clock):
    api = Api(clock, 1000)
    roster = Roster(api.rows, clock)
    for number in range(999, 959, -1):
        roster.get(f"job-{number}")
    assert api.lists == 1


def test_a_job_that_is_not_there_is_asked_for_by_itself(clock):
    api = Api(clock, 10)
    roster = Roster(api.rows, clock)
    polled(roster, api, api.ids)
    assert roster.get("never") is None
    assert api.lists == 1


def test_the_bound_of_a_list(clock):
    api = Api(clock, 3000)
    roster = Roster(api.rows, clock, most=200)
    for number in range(100):
        assert roster.get(f"job-{number}") is None
    assert api.lists == 2


def test_a_fault_is_told_and_the_next_one_asks_anew(clock):
    api = Api(clock, 10)
    roster = Roster(api.rows, clock)
    for each in ("job-1", "job-2", "job-3"):
        roster.get(each)
    api.fault = ProviderUnavailable(Problem(code="E403", what="no"))
    with pytest.raises(ProviderUnavailable):
        roster.get("job-4")
    api.fault = None
    assert [roster.get(f"job-{number}") for number in (5, 6, 7)] == [None] * 3
    assert roster.get("job-8")["id"] == "job-8"


def test_after_a_fault_the_list_begins_anew_and_what_was_read_stays(clock):
    api = Api(clock, 300)
    roster = Roster(api.rows, clock)
    for number in range(299, 289, -1):
        roster.get(f"job-{number}")
    api.fault = ProviderUnavailable(Problem(code="E403", what="no"))
    old = ["job-0", "job-1", "job-2", "job-3"]
    assert [roster.get(each) for each in old[:3]] == [None] * 3
    with pytest.raises(ProviderUnavailable):
        roster.get(old[3])
    assert roster.get("job-299") is not None
    api.fault, api.ids = None, api.ids[:250]
    for _ in range(4):
        got = [roster.get(each) for each in old]
    assert [row["id"] for row in got] == old


def test_a_clock_that_is_put_back_makes_no_list_last_for_ever(clock):
    api = Api(clock, 10)
    roster = Roster(api.rows, clock)
    polled(roster, api, api.ids)
    clock.sleep(-3600)
    lists = api.lists
    assert [roster.get(each) for each in api.ids[:3]] == [None] * 3
    assert roster.get(api.ids[3])["at"] == api.at()
    assert api.lists == lists + 1


def test_threads_share_one_list(clock):
    api = Api(clock, 64)
    roster = Roster(api.rows, clock)
    got, inside, most = [], [], []

    def watch():
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    api.on_list = watch
    begin = threading.Barrier(16)

    def work(first):
        begin.wait()
        for number in range(first, 64, 16):
            got.append((f"job-{number}", roster.get(f"job-{number}")))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert api.lists == 1
    assert set(most) == {1}
    assert sum(row is None for _, row in got) == 3
    assert all(row is None or row["id"] == each for each, row in got)


class Counting(ManualClock):
    """Counts who looks at it."""

    looks = 0

    def now(self):
        self.looks += 1
        return super().now()


def test_whoever_waits_for_a_list_gets_it():
    clock = Counting()
    api = Api(clock, 10)
    roster = Roster(api.rows, clock)
    for each in ("job-1", "job-2", "job-3"):
        roster.get(each)
    listing, go_on, got = threading.Event(), threading.Event(), []

    def hold():
        listing.set()
        assert go_on.wait(10)
        # It takes longer than a list is fresh.
        clock.sleep(5)

    api.on_list = hold
    threads = [threading.Thread(target=lambda: got.append(roster.get("job-4")))]
    threads[0].start()
    assert listing.wait(10)
    looks = clock.looks
    threads.append(threading.Thread(target=lambda: got.append(roster.get("job-5"))))
    threads[1].start()
    # It has looked at the clock, and now it waits.
    wait_until(lambda: clock.looks > looks, 10, "the second to come")
    go_on.set()
    for thread in threads:
        thread.join()
    assert {row["id"] for row in got} == {"job-4", "job-5"}
    assert api.lists == 1
