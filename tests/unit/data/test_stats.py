"""Distributions: their figures are those of a sorted list, and their drawing holds every value once."""

import math
import pickle
import random
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune.data.stats import LIMIT, Bin, Distribution, share

VALUES = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 5000), st.integers(0, LIMIT - 1)), min_size=1)
WIDE = [round(1.4**n) for n in range(60)]


def nearest(values: list[int], percent: Fraction) -> int:
    """By the definition, on the sorted list."""
    return sorted(values)[max(math.ceil(percent * len(values) / 100), 1) - 1]


@settings(deadline=None)
@given(VALUES, st.integers(0, 100))
@example([0, LIMIT - 1], 50)
@example(list(range(200)), 99)
@example([2**18 - 1] * 3 + [2**18], 75)
@example([2**30 + n for n in range(100)], 37)
def test_percentiles_are_by_nearest_rank(values: list[int], percent: int) -> None:
    assert Distribution(values).percentile(percent) == nearest(values, Fraction(percent))


def test_percentiles_of_one_to_a_hundred_are_themselves() -> None:
    values = list(range(1, 101))
    random.Random(1).shuffle(values)
    distribution = Distribution(values)
    assert [distribution.percentile(percent) for percent in range(1, 101)] == list(range(1, 101))
    assert distribution.percentile(0) == 1
    assert distribution.percentile(99.5) == 100


@settings(deadline=None)
@given(VALUES)
def test_the_summary_is_of_all_values(values: list[int]) -> None:
    found = Distribution(values).summary()
    assert (found.count, found.total, found.min, found.max) == (len(values), sum(values), min(values), max(values))
    assert [found.p50, found.p90, found.p99] == [nearest(values, Fraction(percent)) for percent in (50, 90, 99)]


@settings(deadline=None)
@given(VALUES, VALUES)
def test_merged_is_as_if_counted_at_once(first: list[int], second: list[int]) -> None:
    merged, later = Distribution(first), Distribution()
    for value in second:
        later.add(value)
    merged.merge(later)
    assert merged == Distribution(second + first)
    assert merged.summary() == Distribution(first + second).summary()
    assert later == Distribution(second)
    assert merged != Distribution([*first, *second, 1])


def test_another_order_is_the_same_and_another_value_is_not() -> None:
    assert Distribution([1, 2, 2]) == Distribution([2, 1, 2])
    assert Distribution([1, 2, 2]) != Distribution([1, 1, 2])
    assert Distribution([1]) != [1]


def test_a_value_takes_four_bytes_and_travels_between_processes() -> None:
    distribution = Distribution(range(100_000))
    packed = pickle.dumps(distribution)
    assert len(packed) < 4 * 100_000 + 500
    assert pickle.loads(packed) == distribution


@pytest.mark.parametrize("value", [-1, LIMIT])
def test_a_value_that_does_not_fit_is_refused_and_changes_nothing(value: int) -> None:
    distribution = Distribution([1])
    with pytest.raises(OverflowError):
        distribution.add(value)
    assert (len(distribution), distribution.total) == (1, 1)


@pytest.mark.parametrize("percent", [-1, 100.1])
def test_there_is_no_such_percentile(percent: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 100"):
        Distribution([1]).percentile(percent)


def test_nothing_has_zeros_and_no_drawing() -> None:
    nothing = Distribution()
    assert set(vars(nothing.summary()).values()) == {0}
    assert (nothing.percentile(50), nothing.bins(10), nothing.histogram(80)) == (0, [], [])
    assert share(1, 0) is None
    assert share(1, 4) == 0.25


@settings(deadline=None)
@given(VALUES, st.integers(1, 30))
@example([0, 1, LIMIT - 1], 1)
@example(WIDE, 4)
@example([0] * 9 + [9], 3)
def test_bins_lie_side_by_side_and_hold_every_value(values: list[int], most: int) -> None:
    bins = Distribution(values).bins(most)
    assert 1 <= len(bins) <= most
    assert all(b.first <= b.last for b in bins)
    assert [b.last + 1 for b in bins[:-1]] == [b.first for b in bins[1:]]
    assert [b.count for b in bins] == [sum(b.first <= value <= b.last for value in values) for b in bins]
    assert sum(b.count for b in bins) == len(values)


@settings(deadline=None)
@given(VALUES, st.integers(10, 30))
def test_no_bin_at_an_end_is_empty(values: list[int], most: int) -> None:
    bins = Distribution(values).bins(most)
    assert bins[0].count
    assert bins[-1].count


def test_close_values_get_bins_of_one_round_width() -> None:
    assert Distribution([*range(310, 690)]).bins(8) == [
        Bin(300, 349, 40), *(Bin(first, first + 49, 50) for first in range(350, 650, 50)), Bin(650, 699, 40)
    ]  # fmt: skip
    assert Distribution([2, 3, 5]).bins(10) == [Bin(2, 2, 1), Bin(3, 3, 1), Bin(4, 4, 0), Bin(5, 5, 1)]


def test_values_far_apart_get_bins_that_grow() -> None:
    bins = Distribution(WIDE).bins(12)
    widths = [b.last - b.first for b in bins]
    assert widths == sorted(widths)
    assert widths[-1] > 1000 * widths[1]
    assert {str(b.first).rstrip("0") for b in bins} <= {"", "1", "2", "3", "5", "15", "7"}
    assert Distribution([*[100] * 99, 2000]).bins(12)[0] == Bin(100, 149, 99)
    # The more lines there are, the finer they are.
    assert len(Distribution(WIDE).bins(40)) > 25


def test_the_drawing() -> None:
    values = [*[15] * 8, *[25] * 16, *[45]]
    assert Distribution(values).histogram(40, 4, unit="tokens") == [
        "tokens                        rows",
        " 10-19  ██████████               8   32%",
        " 20-29  ████████████████████    16   64%",
        " 30-39                           0    0%",
        " 40-49  █▎                       1    4%",
    ]
    assert Distribution(values).histogram(40, 4, unit="tokens", plain=True)[1:] == [
        " 10-19  ##########               8   32%",
        " 20-29  ####################    16   64%",
        " 30-39                           0    0%",
        " 40-49  ##                       1    4%",
    ]


@settings(deadline=None)
@given(VALUES, st.integers(60, 120), st.integers(1, 12), st.booleans())
def test_lines_are_as_wide_as_asked_and_bars_as_long_as_counts(
    values: list[int], width: int, most: int, plain: bool
) -> None:
    distribution = Distribution(values)
    head, *lines = distribution.histogram(width, most, unit="tokens", plain=plain)
    bins = distribution.bins(most)
    assert len(lines) == len(bins)
    assert all(len(line) <= width for line in (head, *lines))
    assert all(line.isascii() for line in lines) or not plain
    assert not any("\x1b" in line or line.endswith(" ") for line in lines)
    bars = [sum(line.count(mark) for mark in "#█▏▎▍▌▋▊▉") for line in lines]
    assert [bool(bar) for bar in bars] == [bool(b.count) for b in bins]
    assert bars[max(range(len(bins)), key=lambda place: bins[place].count)] == max(bars)
    for bar, b, line in zip(bars, bins, lines, strict=True):
        assert line.split()[0].split("-")[0].replace(",", "") == str(b.first)
        assert f" {b.count:,} " in line
        assert b.count == 0 or bar >= max(bars) * b.count // max(each.count for each in bins)


def test_a_share_is_never_rounded_to_nothing_or_to_all() -> None:
    lines = Distribution([0] * 999 + [9]).histogram(60, 10)
    assert lines[1].endswith(">99%")
    assert lines[-1].endswith("<1%")
    assert Distribution([3]).histogram(60)[1].endswith("100%")


@pytest.mark.parametrize(("plain", "least"), [(False, "▏"), (True, "#")])
def test_a_bin_with_few_values_has_a_bar(plain: bool, least: str) -> None:
    lines = Distribution([0] * 9999 + [9]).histogram(60, 10, plain=plain)
    assert [least in line for line in lines[2:]] == [*[False] * 8, True]


def test_a_narrow_terminal_still_shows_the_numbers() -> None:
    for line in Distribution([1_000_000, 1_000_001]).histogram(1, 5, unit="bytes")[1:]:
        assert line.startswith(("1,000,000", "1,000,001"))
        assert line.endswith("1   50%")


def test_statistics_load_no_heavy_library() -> None:
    program = "import sys, finetune.data.stats; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
