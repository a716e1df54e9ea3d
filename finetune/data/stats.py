"""Statistics of numbers that every row has one of: its turns, its bytes, its tokens. Mergeable, and small in memory."""

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import Final

#: Values are below this.
LIMIT: Final = 2**32

#: Values of more bits are looked at in two steps, so that no table grows with the number of rows.
_FINE_BITS: Final = 18
_COARSE_BITS: Final = 16
#: From this ratio between the greatest value and the first decile on, bins that grow show more than bins of one width.
_WIDE: Final = 16
#: Ways to divide a decade, the finest first; then decades, two at a time, four at a time.
_SERIES: Final[Sequence[tuple[tuple[int, ...], int]]] = (
    ((10, 12, 15, 20, 25, 30, 40, 50, 60, 80), 1),
    ((10, 15, 20, 30, 50, 70), 1),
    ((10, 20, 50), 1),
    ((10, 30), 1),
    ((10,), 1),
    ((10,), 2),
    ((10,), 4),
)
_DECADES: Final = 10
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_LEAST_BAR: Final = 8


@dataclass(frozen=True)
class Summary:
    """What there is to say about a distribution in one line. All of it is 0 when it has no values."""

    count: int
    total: int
    min: int
    p50: int
    p90: int
    p99: int
    max: int


@dataclass(frozen=True)
class Bin:
    """How many values lie from `first` to `last`, both included."""

    first: int
    last: int
    count: int


class Distribution:
    """Whole numbers from 0 to 2**32 - 1, one a row, in any order. Takes 4 bytes a value and can be pickled.

    Equal if they hold the same values as often; the order does not matter.
    """

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._values = array("I", values)
        self._total = sum(self._values)

    def add(self, value: int) -> None:
        """One more value. Raises OverflowError for one that is negative or does not fit."""
        self._values.append(value)
        self._total += value

    def merge(self, other: "Distribution") -> None:
        """Take in the values of another, which stays as it is."""
        self._values.extend(other._values)
        self._total += other._total

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Distribution):
            return NotImplemented
        return len(self) == len(other) and Counter(self._values) == Counter(other._values)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Distribution({len(self)} values, total {self._total})"

    @property
    def total(self) -> int:
        """The sum of all values."""
        return self._total

    def percentile(self, percent: float) -> int:
        """The nearest rank: the smallest value that at least `percent` per cent of the values do not exceed.

        One of the values, never between two; 0 when there are none. Takes about 0.1 us a value.
        """
        return self._percentiles(percent)[0] if self._values else 0

    def summary(self) -> Summary:
        """Count, sum, least, median, 90 %, 99 % and greatest; the percentiles by nearest rank (`percentile`)."""
        if not self._values:
            return Summary(0, 0, 0, 0, 0, 0, 0)
        p50, p90, p99 = self._percentiles(50, 90, 99)
        return Summary(len(self), self._total, min(self._values), p50, p90, p99, max(self._values))

    def bins(self, most: int) -> list[Bin]:
        """At most `most` (at least 1) bins side by side that hold all values, those at both ends not empty.

        Their borders are round numbers. They are of one width, or grow by a factor where the values spread widely:
        where the greatest is 16 times the first decile or more. Empty when there are no values.
        """
        if not self._values:
            return []
        low, high = min(self._values), max(self._values)
        wide = high >= _WIDE * max(self.percentile(10), 1)
        borders = _growing(low, high, max(most, 1)) if wide else _even(low, high, max(most, 1))
        counts = Counter(map(partial(bisect_right, borders), self._values))
        return [Bin(start, stop - 1, counts[place]) for place, (start, stop) in enumerate(pairwise(borders), start=1)]

    def histogram(self, width: int, most: int = 12, *, unit: str = "", plain: bool = False) -> list[str]:
        """Lines of text that draw the distribution: a head that names `unit`, then a line for each of `bins(most)`.

        A line has the bin's values, a bar as long as its count is large, the count and its share of all. Lines are
        `width` columns at most, but never too narrow for the numbers and 8 columns of bar. `plain` draws with ASCII
        only. A bin that is not empty has a bar. No lines when there are no values.
        """
        found = self.bins(most)
        if not found:
            return []
        labels = [f"{b.first:,}" if b.first == b.last else f"{b.first:,}-{b.last:,}" for b in found]
        counts = [f"{b.count:,}" for b in found]
        shares = [_share(b.count, len(self)) for b in found]
        left = max(map(len, (unit, *labels)))
        right = max(map(len, ("rows", *counts)))
        space = max(width - left - right - 10, _LEAST_BAR)
        peak = max(b.count for b in found)
        lines = [f"{unit:>{left}}  {'':{space}}  {'rows':>{right}}      "]
        for b, label, count, share in zip(found, labels, counts, shares, strict=True):
            drawn = _bar(b.count, peak, space, plain)
            lines.append(f"{label:>{left}}  {drawn:{space}}  {count:>{right}}  {share:>4}")
        return [line.rstrip() for line in lines]

    def _percentiles(self, *percents: float) -> list[int]:
        ranks = [_rank(percent, len(self._values)) for percent in percents]
        coarse = max(self._values).bit_length()
        if coarse <= _FINE_BITS:
            return [_at(Counter(self._values), rank)[0] for rank in ranks]
        # int.__rrshift__ runs in C for every value; a lambda would take four times as long.
        shift = coarse - _COARSE_BITS
        tops = Counter(map(shift.__rrshift__, self._values))
        return [self._within(*_at(tops, rank), shift) for rank in ranks]

    def _within(self, top: int, rank: int, shift: int) -> int:
        return _at(Counter(value for value in self._values if value >> shift == top), rank)[0]


def share(part: int, whole: int) -> float | None:
    """The part of a whole, from 0 to 1; None where there is no whole."""
    return part / whole if whole else None


def _rank(percent: float, count: int) -> int:
    """Which of `count` sorted values it is, from 1. In whole numbers as far as `percent` is one."""
    if not 0 <= percent <= 100:
        raise ValueError(f"a percentile is from 0 to 100, not {percent}")
    whole, rest = divmod(percent * count, 100)
    return max(int(whole) + bool(rest), 1)


def _at(counts: Counter[int], rank: int) -> tuple[int, int]:
    """The key of the value at this rank, and its rank among the values of that key."""
    for key in sorted(counts):
        if rank <= counts[key]:
            return key, rank
        rank -= counts[key]
    raise IndexError(rank)


def _even(low: int, high: int, most: int) -> list[int]:
    """Borders at multiples of a round step: low <= all values < high."""
    for step in _round_numbers((10, 20, 50)):
        start = low // step * step
        bins = (high - start) // step + 1
        if bins <= most:
            return [start + step * place for place in range(bins + 1)]
    raise OverflowError(high)


def _growing(low: int, high: int, most: int) -> list[int]:
    """Borders at round numbers that grow by about a factor; 0 is by itself, or with the first of them."""
    for decade, every in _SERIES:
        numbers = [0, *_round_numbers(decade, every), LIMIT * 10]
        borders = numbers[bisect_right(numbers, low) - 1 : bisect_right(numbers, high) + 1]
        if len(borders) <= most + 1:
            return borders
    return [0, LIMIT]


def _round_numbers(decade: Sequence[int], every: int = 1) -> Iterator[int]:
    """1, 2, 5, 10, 20, ... for (10, 20, 50): whole numbers that grow."""
    every_tenth = chain.from_iterable(
        (number * 10**power // 10 for number in decade if number * 10**power % 10 == 0)
        for power in range(0, _DECADES + 1, every)
    )
    return iter(every_tenth)


def _bar(count: int, peak: int, space: int, plain: bool) -> str:
    eighths = -(-count * space * 8 // peak)
    if plain:
        return "#" * -(-eighths // 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _share(part: int, whole: int) -> str:
    """A whole per cent, but never 0 % of something or 100 % of less than all."""
    percent = round(100 * part / whole)
    if percent == 0 and part:
        return "<1%"
    return ">99%" if percent == 100 and part < whole else f"{percent}%"
