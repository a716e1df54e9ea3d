"""The pace of requests: a burst, the long run, patience, and silence when it is asked for."""

import threading

import pytest

from finetune.clock import SystemClock
from finetune.errors import ProviderUnavailable
from finetune.providers.pace import Pace
from finetune.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


def at(clock):
    return clock.now().timestamp()


def later(pace):
    with pytest.raises(ProviderUnavailable) as caught:
        pace.take()
    assert caught.value.problems[0].code == "E410"
    return caught.value.after_s


def test_a_burst_waits_for_nothing_and_then_comes_the_pace(clock):
    pace, begun = Pace("X", clock, 4.0, burst=3), at(clock)
    for _ in range(3):
        pace.take()
    assert at(clock) == begun
    for number in range(1, 9):
        pace.take()
        assert at(clock) - begun == pytest.approx(number / 4)


def test_no_more_than_the_rate_in_the_long_run(clock):
    pace, begun, taken = Pace("X", clock, 2.0, burst=5), at(clock), 0
    while at(clock) - begun < 60:
        pace.take()
        taken += 1
    assert taken <= 5 + 2 * 60 + 1


def test_after_a_rest_there_is_one_burst_and_no_more(clock):
    pace = Pace("X", clock, 10.0, burst=3)
    clock.sleep(1000)
    begun = at(clock)
    for _ in range(4):
        pace.take()
    assert at(clock) - begun == pytest.approx(0.1)


def test_a_long_wait_is_the_jobs_own(clock):
    pace, begun = Pace("Vendor", clock, 0.25, burst=1), at(clock)
    pace.take()
    assert later(pace) == pytest.approx(4.0)
    # Nothing was waited for, and nothing was taken.
    assert at(clock) == begun
    assert later(pace) == pytest.approx(4.0)
    clock.sleep(4.0)
    pace.take()


def test_it_says_how_long_and_at_whom(clock):
    pace = Pace("Vendor", clock, 1.0)
    pace.hush(30)
    with pytest.raises(ProviderUnavailable, match="requests to Vendor wait 30 s"):
        pace.take()


def test_silence(clock):
    pace = Pace("X", clock, 10.0)
    pace.hush(5)
    assert later(pace) == 5.0
    clock.sleep(2)
    assert later(pace) == 3.0
    # A shorter wish does not shorten it, a longer one lengthens it.
    pace.hush(1)
    assert later(pace) == 3.0
    pace.hush(10)
    assert later(pace) == 10.0
    clock.sleep(9.5)
    begun = at(clock)
    pace.take()
    assert at(clock) - begun == pytest.approx(0.5)


class Interrupted(ManualClock):
    """While somebody sleeps, something happens."""

    def __init__(self):
        super().__init__()
        self.meanwhile = lambda: None

    def sleep(self, seconds):
        super().sleep(seconds)
        self.meanwhile()


def test_whoever_waits_hears_of_a_silence_that_begins_meanwhile():
    clock = Interrupted()
    pace = Pace("X", clock, 1.0, burst=1)
    pace.take()
    clock.meanwhile = lambda: pace.hush(0.5)
    assert later(pace) == 0.5
    clock.meanwhile = lambda: None
    clock.sleep(0.5)
    # The turn that was not used was given back.
    begun = at(clock)
    pace.take()
    assert at(clock) == begun


def test_a_clock_that_is_put_back_takes_no_turns_away(clock):
    pace = Pace("X", clock, 1.0, burst=2)
    clock.sleep(-3600)
    pace.take()
    pace.take()
    begun = at(clock)
    pace.take()
    assert at(clock) - begun == pytest.approx(1.0)


def test_threads_get_no_more_turns_together():
    clock = Fixed()
    pace = Pace("X", clock, 1.0, burst=50)
    taken, refused = [], []

    def work():
        for _ in range(20):
            try:
                pace.take()
                taken.append(1)
            except ProviderUnavailable:
                refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The burst, and the one that may wait a second for its turn.
    assert len(taken) == 51
    assert len(refused) == 8 * 20 - 51


class Fixed(SystemClock):
    """Time stands still."""

    def __init__(self):
        self._now = super().now()

    def now(self):
        return self._now

    def sleep(self, seconds):
        pass
