"""Intervals: against scipy's figures, against how often they must hold the truth, and at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.evaluation.intervals import Bounds, mean_interval, ratio_interval

SHARE = Bounds(0.0, 1.0)
VALUES = [0.0, 0.1, 0.25, 0.25, 0.3, 0.5, 0.55, 0.6, 0.9, 1.0, 1.0, 0.2]
TOKENS = [3, 5, 8, 2, 40, 7, 9, 1, 12, 6, 4, 10]
ONE = [2.1, 7.5, 6.4, 3.0, 22.0, 9.1, 4.5, 1.7, 15.6, 3.3, 5.2, 11.0]
TWO = [3.1, 7.0, 9.9, 3.5, 41.0, 9.8, 8.5, 1.5, 17.0, 7.3, 5.9, 13.0]


def test_intervals_are_those_of_scipy() -> None:
    """scipy 1.17.1, stats.bootstrap(paired=True, method="percentile", n_resamples=200_000, rng=default_rng(0))."""
    assert mean_interval(VALUES, 0) == pytest.approx((0.2875, 0.6625), abs=0.01)
    assert ratio_interval(ONE, TOKENS, 0) == pytest.approx((0.6580, 1.1947), abs=0.02)
    gain = ratio_interval(TWO, TOKENS, 0, less=ONE, shown=math.exp)
    assert gain == pytest.approx((0.5834, 1.0922), abs=0.02)


def test_an_interval_worked_out_by_hand() -> None:
    """Of two rows 0 and 1 the resamples are 00, 01, 10, 11: the mean is 0 in a quarter of them, and 1 in another."""
    assert mean_interval([0, 1], 5) == (0, 1)
    # Of five rows 1 and one 0, none is the 0 in (5/6)^6 = 33 % of the resamples, all in 0.002 %.
    low, high = mean_interval([1, 1, 1, 1, 1, 0], 5)
    # P(3 zeros or more of 6) = 6.2 %, P(4 or more) = 0.87 %: the 2.5 % point is at 3 zeros.
    assert (low, high) == (0.5, 1)


@pytest.mark.parametrize(("rows", "chance"), [(40, 0.5), (60, 0.8), (200, 0.93)])
def test_the_interval_of_a_share_holds_the_truth_as_often_as_it_says(rows: int, chance: float) -> None:
    draw = np.random.default_rng(11)
    held = 0
    for number in range(400):
        values = (draw.random(rows) < chance).astype(float).tolist()
        low, high = mean_interval(values, number, SHARE, resamples=600)
        held += low <= chance <= high
    assert 0.90 <= held / 400 <= 0.985


def test_the_interval_of_a_paired_gain_holds_the_truth_and_is_narrower_than_an_unpaired_one() -> None:
    draw = np.random.default_rng(12)
    held, widths = 0, [0.0, 0.0]
    for number in range(300):
        # Rows are easy or hard for both models alike; the gain is 0.1.
        ease = draw.random(60)
        one, two = 0.9 * ease + 0.1, 0.9 * ease + 0.1 * draw.standard_normal(60)
        low, high = mean_interval((one - two).tolist(), number, resamples=600)
        held += low <= 0.1 <= high
        widths[0] += high - low
        ends = [mean_interval(side.tolist(), number, resamples=600) for side in (one, two)]
        widths[1] += math.hypot(*(end.high - end.low for end in ends))
    assert 0.90 <= held / 300 <= 0.985
    assert widths[0] < 0.5 * widths[1]


def test_the_interval_of_a_loss_weighs_tokens_and_holds_the_truth() -> None:
    """Long rows have a lower loss: the mean per token is 1.0, that of the rows' means 1.5."""
    draw = np.random.default_rng(13)
    held = 0
    for number in range(300):
        tokens = np.where(draw.random(80) < 0.5, 30, 10)
        nats = tokens * np.where(tokens == 30, 2 / 3, 2.0) * (1 + 0.2 * draw.standard_normal(80))
        low, high = ratio_interval(nats.tolist(), tokens.tolist(), number, resamples=600)
        held += low <= 1.0 <= high
    assert 0.90 <= held / 300 <= 0.985


def test_where_all_rows_are_equal_no_certainty_is_claimed() -> None:
    # Clopper and Pearson: with n of n the lower end is 0.025^(1/n); for 30 of 30 it is 0.884.
    assert mean_interval([1.0] * 30, 0, SHARE) == pytest.approx((0.8843, 1.0), abs=1e-4)
    assert mean_interval([0.0] * 30, 0, SHARE) == pytest.approx((0.0, 0.1157), abs=1e-4)
    assert mean_interval([0.0] * 30, 0, SHARE.of_difference) == pytest.approx((-0.1157, 0.1157), abs=1e-4)
    assert mean_interval([2.0] * 30, 0) == (2, 2)


def test_rows_without_tokens_change_nothing() -> None:
    assert ratio_interval([*ONE, 0.0], [*TOKENS, 0], 4) == ratio_interval(ONE, TOKENS, 4)


FLOATS = st.floats(0, 1, width=32)


@given(st.lists(FLOATS, min_size=1, max_size=30), st.integers(0, 9))
def test_an_interval_lies_within_the_values_and_repeats(values: list[float], seed: int) -> None:
    low, high = mean_interval(values, seed, resamples=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert mean_interval(values, seed, resamples=200) == (low, high)
    assert 0 <= mean_interval(values, seed, SHARE, resamples=200).low <= high + 1e-9


@given(st.lists(st.tuples(FLOATS, st.integers(1, 9)), min_size=2, max_size=20))
def test_the_interval_of_a_perplexity_is_the_exponential_of_the_losss(rows: list[tuple[float, int]]) -> None:
    nats, tokens = [nll for nll, _ in rows], [count for _, count in rows]
    plain = ratio_interval(nats, tokens, 3, resamples=201)
    assert ratio_interval(nats, tokens, 3, shown=math.exp, resamples=201) == pytest.approx(
        (math.exp(plain.low), math.exp(plain.high)), rel=5e-3
    )
