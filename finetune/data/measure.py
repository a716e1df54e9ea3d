"""The tokens of a prepared file, all rows together: what is computed, and paid for, in one epoch."""

from collections.abc import Callable
from pathlib import Path

from finetune.data.findings import Findings
from finetune.data.formats import FORMATS
from finetune.data.reader import Reader
from finetune.data.sources import blocks, places
from finetune.data.tokens import Range, Tokens, Uncounted


def total(path: Path, format: str, tokens: Tokens, progress: Callable[[int, int | None], None]) -> Range:
    """At least, at most; equal where they are counted. Rows that cannot be counted have up to a token a byte.

    The file was written by `preparing.prepare`, so that every row can be read.
    """
    low = high = done = 0
    reader = Reader(FORMATS[format], Findings(path.name), (), None)
    for place in places(str(path), path.parent, fetch=False, found=lambda problem: None):
        for block in blocks(place, lambda problem: None):
            rows = [(raw, reader.read(raw, line)) for line, raw in zip(block.numbers, block.rows, strict=True)]
            counts = tokens.count([row for _, row in rows if row is not None])
            for (raw, _), count in zip(((raw, row) for raw, row in rows if row is not None), counts, strict=True):
                found = Range(0, len(raw)) if isinstance(count, Uncounted) else count.total
                low, high = low + found.low, high + found.high
            done += block.read
            progress(done, place.size)
    return Range(low, high)
