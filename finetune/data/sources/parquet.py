"""Parquet: record batch after record batch, so that a file of any size passes through."""

import io
from collections.abc import Iterator
from typing import Any, Final

from finetune.data.sources.columns import Columns
from finetune.data.sources.faults import BROKEN, Reading, library
from finetune.data.sources.filling import gathered
from finetune.data.sources.place import Block

_BUFFER_BYTES: Final = 1024 * 1024
#: However small the rows are: more at once are not faster.
_MOST_ROWS: Final = 16 * 1024


def blocks(handle: io.RawIOBase, size: int | None, reading: Reading) -> Iterator[Block]:
    """The rows as JSON objects; the number of a row is its position. `size` is the file's, in bytes. Raises Stopped.

    `read` of a block is the file's size, in proportion to the rows.
    """
    rows = _Rows(handle, size or 0, reading)
    yield from gathered(iter(rows), reading, rows.taken)


class _Rows:
    """The rows with their numbers, and how far they have come."""

    def __init__(self, handle: io.RawIOBase, size: int, reading: Reading) -> None:
        self._handle = handle
        self._size = size
        self._reading = reading
        self._number = 0
        self._total = 1

    def taken(self) -> int:
        """The part of the file's bytes that the rows given out are of its rows."""
        return self._size * self._number // self._total

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        arrow = library("pyarrow", "it reads Parquet", self._reading)
        parquet = library("pyarrow.parquet", "it reads Parquet", self._reading)
        try:
            # Without a buffer, whole columns of a row group are held; ahead of time, all row groups.
            with parquet.ParquetFile(self._handle, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
                yield from self._of(file)
        except (arrow.ArrowException, OSError):
            what, why = "the Parquet file is broken", "It was cut off, or damaged on its way"
            raise self._reading.stop(BROKEN, what, why, "copy it again, or write it again") from None

    def _of(self, file: Any) -> Iterator[tuple[int, bytes]]:
        columns = Columns(file.schema_arrow, self._reading)
        self._total = max(file.metadata.num_rows, 1)
        at_once = _batch_rows(file.metadata, self._reading)
        for batch in file.iter_batches(batch_size=at_once, use_threads=False):
            for row in columns.rows(batch, self._number + 1):
                self._number += 1
                yield self._number, row


def _batch_rows(metadata: Any, reading: Reading) -> int:
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    # The largest of the averages: rows of one group are mostly alike.
    largest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=1)
    return max(1, min(_MOST_ROWS, reading.target_bytes // max(largest, 1)))
