"""Leases are renewed while their blocks run, by one thread for all."""

import threading

import pytest

from finetune.errors import LeaseLost, Problem, StoreBusy
from finetune.leases import held
from tests.support.process import wait_until


class Renewals:
    def __init__(self, error: Exception | None = None) -> None:
        self.count, self.error = 0, error

    def __call__(self) -> None:
        self.count += 1
        if self.error:
            raise self.error


def problem():
    return Problem(code="E502", what="the database server does not answer")


def test_a_lease_is_renewed_again_and_again_until_its_block_ends():
    renewed, other = Renewals(), Renewals()
    with held(other, 0.01):
        with held(renewed, 0.01):
            wait_until(lambda: renewed.count >= 3, 10, "three renewals", 0.005)
        # One may have begun before the end.
        after = renewed.count + 1
        more = other.count + 5
        wait_until(lambda: other.count >= more, 10, "renewals of another lease", 0.005)
    assert renewed.count <= after


def test_a_short_pause_is_kept_beside_a_long_one():
    """The thread that waits for an hour is woken."""
    renewed, never = Renewals(), Renewals()
    with held(never, 3600), held(renewed, 0.01):
        wait_until(lambda: renewed.count >= 2, 10, "renewals", 0.005)
    assert never.count == 0


@pytest.mark.parametrize("error", [LeaseLost(problem()), KeyError("a fault")])
def test_a_lost_lease_is_not_renewed_again_and_ends_no_other(error):
    lost, other = Renewals(error), Renewals()
    with held(lost, 0.01), held(other, 0.01):
        wait_until(lambda: other.count >= 5, 10, "renewals of another lease", 0.005)
    assert lost.count == 1


def test_a_store_that_does_not_answer_is_asked_again():
    away = Renewals(StoreBusy(problem()))
    with held(away, 0.01):
        wait_until(lambda: away.count >= 3, 10, "three tries", 0.005)


def test_many_leases_need_one_thread():
    with held(Renewals(), 3600):
        before = threading.active_count()
        with held(Renewals(), 3600), held(Renewals(), 3600):
            assert threading.active_count() == before


def test_what_the_block_raises_comes_out():
    with pytest.raises(KeyError), held(Renewals(), 3600):
        raise KeyError
