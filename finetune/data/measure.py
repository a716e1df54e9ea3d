"""The tokens of a prepared file, all rows together: what is computed, and paid for, in one epoch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Final

from finetune.data.example import Chat, Example, Preference
from finetune.data.findings import Findings
from finetune.data.formats import FORMATS, local
from finetune.data.parts import Progress, parts_of
from finetune.data.reader import Reader
from finetune.data.report import DataReport
from finetune.data.request import DataRequest
from finetune.data.sides import Side
from finetune.data.sources import blocks, places
from finetune.data.tokens import Range, Tokens, Uncounted
from finetune.data.walk import Walk, written_as

#: Of so many rows of the most bytes one has the most tokens.
_LARGEST: Final = 64


def total(path: Path, format: str, tokens: Tokens, progress: Progress) -> Range:
    """At least, at most; equal where they are counted. Rows that cannot be counted have up to a token a byte.

    The file was written by `preparing.prepare`, so that every row can be read.
    """
    low = high = done = 0
    for place in places(str(path), path.parent, fetch=False, found=lambda problem: None):
        for block in blocks(place, lambda problem: None):
            found = _sum(_rows(block.rows, format), tokens)
            low, high = low + found.low, high + found.high
            done += block.read
            progress(done, place.size)
    return Range(low, high)


def longest(path: Path, format: str, tokens: Tokens) -> int:
    """Tokens of the longest row's longest sequence, at most. Reads all rows, and counts those of the most bytes only.

    The file was written by `preparing.prepare`, so that every row can be read.
    """
    largest: list[bytes] = []
    for place in places(str(path), path.parent, fetch=False, found=lambda problem: None):
        for block in blocks(place, lambda problem: None):
            largest = _largest(largest, block.rows)
    return _most(largest, format, tokens)


def _largest(so_far: Iterable[bytes], more: Iterable[bytes]) -> list[bytes]:
    return nlargest(_LARGEST, [*so_far, *more], key=len)


def _most(raws: Sequence[bytes], format: str, tokens: Tokens) -> int:
    """Tokens of the longest sequence of these rows, at most."""
    rows = _rows(raws, format)
    counts = zip(rows, tokens.count([row for _, row in rows]), strict=True)
    each = (size if isinstance(count, Uncounted) else count.longest.high for (size, _), count in counts)
    return max(each, default=0)


def _rows(raws: Sequence[bytes], format: str) -> list[tuple[int, Example]]:
    """Rows of whatever `preparing.prepare` writes, each with its bytes."""
    if FORMATS[format].read is not None:
        return _read(Reader(FORMATS[format], Findings(""), (), None), raws)
    preference = FORMATS[format].kind == "preference"
    return [(len(raw), local.again(raw, Preference) if preference else local.again(raw, Chat)) for raw in raws]


def counted(
    request: DataRequest, counters: Mapping[str, Tokens], progress: Progress
) -> tuple[DataReport, dict[str, Range], Callable[[str], int]]:
    """What `preparing.prepare` would find; `total` of the training rows that it would write, by each counter; `longest`
    of them, by one.

    Reads everything once and writes nothing of it. Never raises for what the rows say. Raises StateError as `inspect`.
    """
    format = written_as(request)
    with parts_of(request, None, progress, None, None) as parts:
        side = _Counted(format, counters)
        parts.write, parts.sides.train = format, side
        report = Walk(request, parts).run()
    return report, side.ranges, side.longest


class _Counted(Side):
    """A side whose rows are counted in place of being written."""

    def __init__(self, format: str, counters: Mapping[str, Tokens]) -> None:
        super().__init__()
        self._format, self._counters = format, counters
        self.ranges = dict.fromkeys(counters, Range(0, 0))
        self._most: list[bytes] = []

    @property
    def wants(self) -> bool:
        """They are counted."""
        return True

    def add(self, digests: bytes, lines: list[bytes], size: int) -> None:
        """See `Side.add`."""
        super().add(digests, lines, size)
        raws = [line.removesuffix(b"\n") for line in lines]
        self._most = _largest(self._most, raws)
        rows = _rows(raws, self._format)
        for name, tokens in self._counters.items():
            so_far, found = self.ranges[name], _sum(rows, tokens)
            self.ranges[name] = Range(so_far.low + found.low, so_far.high + found.high)

    def longest(self, name: str) -> int:
        """Tokens of the longest row, at most, by this counter."""
        return _most(self._most, self._format, self._counters[name])


def _read(reader: Reader, raws: Sequence[bytes]) -> list[tuple[int, Example]]:
    """Rows, each with its bytes."""
    rows = ((len(raw), reader.read(raw, line)) for line, raw in enumerate(raws))
    return [(size, row) for size, row in rows if row is not None]


def _sum(rows: Sequence[tuple[int, Example]], tokens: Tokens) -> Range:
    counts = tokens.count([row for _, row in rows])
    found = [
        Range(0, size) if isinstance(count, Uncounted) else count.total
        for (size, _), count in zip(rows, counts, strict=True)
    ]
    return Range(sum(each.low for each in found), sum(each.high for each in found))
