"""Rows that are there twice, and rows that are on both sides, found with bounded memory.

A row is known by the first half of its sha256 and by its place; that is kept in memory while it is little, and on
disk after that, in 256 bucket files by the digest's first byte. Rows that are equal lie in one bucket, so buckets
are looked at one after the other. A bucket that is itself too much is split by the next byte of the digest that
tells its rows apart; where none does, all its rows are one, and are counted as they stream by.

Sixteen bytes of sha256: among 10^9 different rows the chance that any two of them are taken for one is below 10^-20.
"""

import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Final, NamedTuple, Self

from finetune.data.aside import folder_aside, writing

#: What a row takes on disk: 16 bytes of its digest, 8 of its place.
BYTES_A_ROW: Final = 24

#: What a row takes in memory at most while it is packed, sorted into buckets or compared (a test measures it).
_WORKING_BYTES: Final = 256
_DIGEST: Final = 16
_LAYOUT: Final = "<16sQ"
_SHA256: Final = 32
_PLACE: Final = 8
_ASIDE: Final = ".ft-repeats-"
#: Samples gathered before all but the first are dropped.
_GATHERED: Final = 4096

_LINE_BITS: Final = 40
_FILE_BITS: Final = 20
_SIDE_BIT: Final = _LINE_BITS + _FILE_BITS
#: The places below it are of training rows.
_VALIDATION: Final = 1 << _SIDE_BIT


#: Half a digest and a place.
_Row = tuple[bytes, int]


class Place(NamedTuple):
    """Where a row stands."""

    #: 0 train, 1 validation.
    side: int
    #: Its file's number among the files read, from 0; below 2^20.
    file: int
    #: Below 2^40.
    line: int


def pack(side: int, file: int, line: int) -> int:
    """A place as one number of at most 61 bits: ordered by side, then file, then line. Raises ValueError."""
    if side not in (0, 1) or not 0 <= file < 1 << _FILE_BITS or not 0 <= line < 1 << _LINE_BITS:
        raise ValueError("a place has side 0 or 1, a file below 2^20 and a line below 2^40")
    return side << _SIDE_BIT | file << _LINE_BITS | line


def unpack(place: int) -> Place:
    """What `pack` made one number of."""
    file = place >> _LINE_BITS & ((1 << _FILE_BITS) - 1)
    return Place(place >> _SIDE_BIT, file, place & ((1 << _LINE_BITS) - 1))


class Repeat(NamedTuple):
    """A row and the one it is equal to, as places."""

    place: int
    #: The first equal row: of the same side, or of the training side where the two sides are compared.
    of: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """What stands twice."""

    #: Rows that are equal to an earlier one of their side: what there would be less if each were there once.
    repeated: int
    #: The first of them, in the order of their places.
    first: tuple[Repeat, ...]
    #: Validation rows that are training rows too; a row that is repeated in validation counts each time.
    shared: int
    #: The first of them, in the order of their places.
    first_shared: tuple[Repeat, ...]


class Repeats:
    """Takes the rows' digests block by block, then tells which are equal. A context manager: leaving it removes
    its files.

    `memory_bytes` bounds what it holds, apart from a constant and the blocks handed in; beyond that it writes
    BYTES_A_ROW for each row to a folder of its own below `folder` (the system's for temporary files when None;
    mind that some systems keep that in memory). What a killed process left in `folder` is removed after a day.

    Within a side, places come in rising order; the sides may alternate. The outcome depends on the rows alone, not
    on `memory_bytes` or the size of blocks. For one thread. `add` and `found` raise StateError when the folder cannot
    be written (E504 full, E501 else); after that, only `close` is of use.
    """

    def __init__(self, *, memory_bytes: int = 64 << 20, folder: Path | None = None) -> None:
        self._most_rows = max(1, memory_bytes // _WORKING_BYTES)
        self._parent = folder or Path(tempfile.gettempdir())
        self._held = bytearray()
        self._aside: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop all rows and remove the files. Idempotent, never raises."""
        self._held.clear()
        if self._aside is not None:
            shutil.rmtree(self._aside, ignore_errors=True)
            self._aside = None

    def add(self, digests: bytes, places: bytes) -> None:
        """Take rows: their sha256 one after the other, and as many places of 8 bytes each, little-endian (`pack`).

        Raises ValueError when the two are not of the same number of rows.
        """
        rows = len(places) // _PLACE
        if len(places) != rows * _PLACE or len(digests) != rows * _SHA256:
            raise ValueError("as many digests of 32 bytes as places of 8 bytes")
        for start in range(0, rows, self._most_rows):
            end = min(start + self._most_rows, rows)
            packed = _packed(digests[start * _SHA256 : end * _SHA256], places[start * _PLACE : end * _PLACE])
            if len(self._held) + len(packed) > self._most_bytes:
                self._spill()
            self._held += packed

    def found(self, *, keep: int = 20) -> Found:
        """What is equal among the rows so far, with the first `keep` of each kind. More may be added afterwards."""
        tally = _Tally(keep)
        if self._aside is None:
            tally.take(_suspects(bytes(self._held)))
        else:
            self._spill()
            with writing(self._parent):
                for bucket in sorted(self._aside.iterdir()):
                    self._look(bucket, tally)
        return tally.found()

    @property
    def _most_bytes(self) -> int:
        return self._most_rows * BYTES_A_ROW

    def _spill(self) -> None:
        with writing(self._parent):
            if self._aside is None:
                self._aside = folder_aside(self._parent, _ASIDE)
            held, self._held = bytes(self._held), bytearray()
            _scatter(held, 0, self._aside)

    def _look(self, bucket: Path, tally: "_Tally") -> None:
        if bucket.stat().st_size <= self._most_bytes:
            tally.take(_suspects(bucket.read_bytes()))
            return
        at = _telling_byte(self._chunks(bucket))
        if at is None:
            tally.take(lambda: (row for chunk in self._chunks(bucket) for row in _rows(chunk)))
            return
        parts = bucket.with_name(f"{bucket.name}-parts")
        parts.mkdir()
        for chunk in self._chunks(bucket):
            _scatter(chunk, at, parts)
        for part in sorted(parts.iterdir()):
            self._look(part, tally)
        shutil.rmtree(parts)

    def _chunks(self, bucket: Path) -> Iterator[bytes]:
        with bucket.open("rb") as file:
            while chunk := file.read(self._most_bytes):
                yield chunk


def _packed(digests: bytes, places: bytes) -> bytes:
    """BYTES_A_ROW for each row, in _LAYOUT."""
    words, ends = array("Q"), array("Q")
    words.frombytes(digests)
    ends.frombytes(places)
    rows = array("Q", bytes(len(ends) * BYTES_A_ROW))
    rows[0::3], rows[1::3], rows[2::3] = words[0::4], words[1::4], ends
    return rows.tobytes()


def _scatter(rows: bytes, at: int, folder: Path) -> None:
    """Append each row to the file in `folder` that is named by its byte `at`. Raises OSError."""
    buckets: list[list[bytes]] = [[] for _ in range(256)]
    take = [bucket.append for bucket in buckets]
    for byte, (row,) in zip(rows[at::BYTES_A_ROW], struct.iter_unpack(f"{BYTES_A_ROW}s", rows), strict=True):
        take[byte](row)
    for byte, bucket in enumerate(buckets):
        if bucket:
            # Opened anew each time: 256 open files are more than some systems allow.
            with (folder / f"{byte:02x}").open("ab") as file:
                file.write(b"".join(bucket))


def _telling_byte(chunks: Iterable[bytes]) -> int | None:
    """The first byte of the digest that is not the same in all rows; None when all digests are equal."""
    first, at = b"", _DIGEST
    for rows in chunks:
        first = first or rows[:_DIGEST]
        count = len(rows) // BYTES_A_ROW
        at = next((i for i in range(at) if rows[i::BYTES_A_ROW].count(first[i]) != count), at)
    return at if at < _DIGEST else None


class _Foremost:
    """Counts rows and keeps the first `keep` of them."""

    def __init__(self, keep: int) -> None:
        self.count = 0
        self._keep = keep
        self._gathered: list[Repeat] = []
        #: Places from here on are too late to be among the first.
        self._late: int = 1 << 64

    def note(self, place: int, of: int) -> None:
        """Count a row."""
        self.count += 1
        if place < self._late:
            self._gathered.append(Repeat(place, of))
            if len(self._gathered) >= self._keep + _GATHERED:
                self._gathered = list(self.first())
                self._late = self._gathered[-1].place if self._gathered else 0

    def first(self) -> tuple[Repeat, ...]:
        """The first of them, in the order of their places."""
        return tuple(sorted(self._gathered)[: self._keep])


class _Tally:
    """Adds up what is found, bucket by bucket."""

    def __init__(self, keep: int) -> None:
        self._repeated = _Foremost(keep)
        self._shared = _Foremost(keep)

    def take(self, rows: Callable[[], Iterable[_Row]]) -> None:
        """Rows of which no equal one is elsewhere; `rows` is called twice. Memory grows with the different ones."""
        trained: dict[bytes, int] = {}
        held_back: dict[bytes, int] = {}
        for digest, place in rows():
            if place < _VALIDATION:
                if digest in trained:
                    self._repeated.note(place, trained[digest])
                else:
                    trained[digest] = place
        for digest, place in rows():
            if place >= _VALIDATION:
                if digest in trained:
                    self._shared.note(place, trained[digest])
                if digest in held_back:
                    self._repeated.note(place, held_back[digest])
                else:
                    held_back[digest] = place

    def found(self) -> Found:
        """The sum."""
        return Found(
            repeated=self._repeated.count,
            first=self._repeated.first(),
            shared=self._shared.count,
            first_shared=self._shared.first(),
        )


def _rows(packed: bytes) -> Iterator[_Row]:
    return struct.iter_unpack(_LAYOUT, packed)


def _suspects(packed: bytes) -> Callable[[], Iterable[_Row]]:
    """Gives those rows whose first 8 bytes another row has too: often none, which is found out quickly."""
    words = array("Q")
    words.frombytes(packed)
    heads = words[0::3]
    if len(set(heads)) == len(heads):
        return tuple
    seen: set[int] = set()
    twice: set[int] = set()
    for head in heads:
        (twice if head in seen else seen).add(head)
    return lambda: compress(_rows(packed), map(twice.__contains__, heads))
