"""How sure a figure is: percentile bootstrap intervals over rows, and paired ones of differences.

Method: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3 (percentile intervals); paired by
resampling rows, not models: Koehn, Statistical Significance Tests for Machine Translation Evaluation (EMNLP 2004). The
percentile interval, and not BCa, because it follows every monotone function of a figure (that of the perplexity is the
exponential of that of the loss) and exists for every sample.

When all rows have one and the same value a bootstrap says [v, v], which no sample can know. For values with bounds the
interval is then exact: with confidence 1 - a/2 at least (a/2)^(1/n) of all rows have that value (Clopper and Pearson,
The use of confidence or fiducial limits, Biometrika 1934), and the others may be anywhere.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Of all intervals in this room.
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 10_000
#: Cells of one block of resamples.
_BLOCK: Final = 2_000_000


class Interval(NamedTuple):
    """From `low` to `high`."""

    low: float
    high: float


class Bounds(NamedTuple):
    """The least and the greatest value that a row can have."""

    low: float
    high: float

    @property
    def of_difference(self) -> "Bounds":
        """Those of the difference of two such values."""
        return Bounds(self.low - self.high, self.high - self.low)


def mean_interval(
    values: Sequence[float], seed: int, bounds: Bounds | None = None, *, resamples: int = RESAMPLES
) -> Interval:
    """The interval of the mean of `values`, one a row, at least one. The same seed gives the same interval.

    For the paired gain hand in the rows' differences. Without `bounds` (of a row's value) equal values give [v, v].
    """
    import numpy as np

    rows = np.asarray(values, dtype=np.float64)
    if (rows == rows[0]).all():
        return _constant(float(rows[0]), len(rows), bounds)
    return _percentiles(len(rows), seed, lambda counts: counts @ rows / len(rows), resamples)


def ratio_interval(
    above: Sequence[float],
    below: Sequence[float],
    seed: int,
    *,
    less: Sequence[float] | None = None,
    shown: Callable[[float], float] = float,
    resamples: int = RESAMPLES,
) -> Interval:
    """The interval of shown(sum(above) / sum(below)), for instance of nats a token: rows with more tokens weigh more.

    With `less` that of the paired difference shown(sum(above) / sum(below)) - shown(sum(less) / sum(below)).
    `below` >= 0, with at least one row above 0: rows with 0 are left out.
    """
    import numpy as np

    weights = np.asarray(below, dtype=np.float64)
    kept = weights > 0
    sides = [np.asarray(side, dtype=np.float64)[kept] for side in (above, less) if side is not None]
    weights = weights[kept]
    show = np.frompyfunc(shown, 1, 1)

    def figure(counts: "NDArray[np.float64]") -> "NDArray[np.float64]":
        shares = [np.asarray(show((counts @ side) / (counts @ weights)), dtype=np.float64) for side in sides]
        return shares[0] - shares[1] if len(shares) == 2 else shares[0]

    return _percentiles(len(weights), seed, figure, resamples)


def _constant(value: float, rows: int, bounds: Bounds | None) -> Interval:
    if bounds is None:
        return Interval(value, value)
    sure = ((1 - CONFIDENCE) / 2) ** (1 / rows)
    return Interval(sure * value + (1 - sure) * bounds.low, sure * value + (1 - sure) * bounds.high)


def _percentiles(
    rows: int, seed: int, figure: "Callable[[NDArray[np.float64]], NDArray[np.float64]]", resamples: int
) -> Interval:
    """Percentiles of the figure over resamples; it is given how often each row was drawn, [resamples, rows]."""
    import numpy as np

    draw = np.random.default_rng(seed)
    block = max(1, _BLOCK // rows)
    figures = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = draw.integers(0, rows, size=(size, rows))
        drawn += np.arange(size)[:, None] * rows
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        figures.append(figure(counts))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(figures), [tail, 1 - tail])
    return Interval(float(low), float(high))
