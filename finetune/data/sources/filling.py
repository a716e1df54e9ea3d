"""Rows that come one at a time, gathered into blocks."""

from collections.abc import Callable, Iterator, Sequence

from finetune.data.sources.faults import MAX_ROW_BYTES, Reading, Stopped
from finetune.data.sources.place import Block


def gathered(
    rows: Iterator[tuple[int, bytes]], reading: Reading, taken: Callable[[], int] | None = None
) -> Iterator[Block]:
    """Blocks of numbered rows. One that is too long is told and left out. Raises Stopped, after the rows before it.

    `taken` says how many bytes of the source were read so far; None: as many as the rows have.
    """
    filling = _Filling(reading, taken)
    fault = None
    try:
        for number, row in rows:
            if len(row) > MAX_ROW_BYTES:
                reading.too_long(number, "row")
            else:
                yield from filling.add(number, row)
    except Stopped as stopped:
        fault = stopped
    yield from filling.rest()
    if fault:
        raise fault


class _Filling:
    """The block that is being filled."""

    def __init__(self, reading: Reading, taken: Callable[[], int] | None) -> None:
        self._reading = reading
        self._taken = taken
        self._told = 0
        self._numbers: list[int] = []
        self._rows: list[bytes] = []
        self._size = 0

    def add(self, number: int, row: bytes) -> Iterator[Block]:
        """Take a row in; gives the block before it, if that is full."""
        if self._rows and self._size + len(row) > self._reading.target_bytes:
            yield self._block()
        self._numbers.append(number)
        self._rows.append(row)
        self._size += len(row)

    def rest(self) -> Iterator[Block]:
        """The last block, if it has rows."""
        if self._rows:
            yield self._block()

    def _block(self) -> Block:
        taken = self._taken() if self._taken else self._told + self._size
        block = Block(self._reading.file, shortened(self._numbers), self._rows, taken - self._told)
        self._told, self._numbers, self._rows, self._size = taken, [], [], 0
        return block


def shortened(numbers: list[int]) -> Sequence[int]:
    """The same numbers, as a range if they follow each other."""
    # They ascend, so that they are as many as their ends say only when none is there twice and none is missing.
    if numbers[-1] - numbers[0] + 1 == len(numbers) and len(set(numbers)) == len(numbers):
        return range(numbers[0], numbers[-1] + 1)
    return numbers
