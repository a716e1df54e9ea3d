"""CSV: a header with the columns, then a row a line (or more, within quotes). Every cell is text."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NoReturn

from finetune.data.sources.content import BOM
from finetune.data.sources.faults import CSV_HEADER, CSV_ROW, MAX_ROW_BYTES, Reading, Stopped, printable
from finetune.data.sources.filling import gathered
from finetune.data.sources.lines import Splitter, is_plain, sound
from finetune.data.sources.place import Block
from finetune.data.sources.streams import Stream
from finetune.errors import Problem

_STEP_BYTES: Final = 1024 * 1024
_DELIMITERS: Final = ",;\t"
#: What Python's reader finds, by a part of its message.
_FAULTS: Final = (
    ("end of data", "a quote is opened and not closed", 'close it; a quote within a cell is written ""'),
    ("expected after", "text stands behind a closing quote", 'write a quote within a cell as ""'),
    ("new-line character", "there is a lone carriage return in the row", r"tr '\r' '\n' < FILE > NEW"),
)
_NO_INDEX: Final = "give every column a name of its own; pandas writes no nameless one with to_csv(..., index=False)"


def commas(stream: Stream, reading: Reading) -> Iterator[Block]:
    """The rows of a file whose delimiter is the one of comma, semicolon and tab that divides its header most."""
    return _blocks(stream, reading, _DELIMITERS)


def tabs(stream: Stream, reading: Reading) -> Iterator[Block]:
    """The rows of a file with tabs between cells."""
    return _blocks(stream, reading, "\t")


def _blocks(stream: Stream, reading: Reading, delimiters: str) -> Iterator[Block]:
    # Excel marks UTF-8 so, and the standard ends lines with CR LF (RFC 4180): in CSV neither is worth a warning.
    if stream.peek().startswith(BOM):
        stream.read(len(BOM))
    rows = _Rows(stream, reading, _delimiter(stream.peek(), delimiters))
    yield from gathered(_encoded(rows), reading, lambda: stream.taken)


def _encoded(rows: "_Rows") -> Iterator[tuple[int, bytes]]:
    """The rows as JSON objects."""
    import msgspec

    encode = msgspec.json.Encoder().encode
    names = rows.header()
    for line, cells in rows:
        if len(cells) == len(names):
            yield line, encode(dict(zip(names, cells, strict=True)))
        else:
            rows.tell_width(line, len(cells), len(names))


def _delimiter(head: bytes, delimiters: str) -> str:
    header = head.lstrip(b"\r\n").partition(b"\n")[0].replace(b"\r", b" ").decode("utf-8", "replace")

    def columns(delimiter: str) -> int:
        return max(map(len, csv.reader([header], delimiter=delimiter)), default=0)

    return max(delimiters, key=columns)


class _Rows:
    """The rows as lists of cells, with the line where each starts; those that Python cannot read are told."""

    def __init__(self, stream: Stream, reading: Reading, delimiter: str) -> None:
        # The library's limit is one for the whole process; raising it takes nothing from anybody.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
        self._found = reading.found
        self._in_header = True
        self._reading = replace(reading, found=self._report)
        self._lines = _Lines(stream, self._reading)
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)

    def header(self) -> Sequence[str]:
        """The names of the columns, without the space around them; none in an empty file. Raises Stopped."""
        line, names = next(iter(self), (1, []))
        names = [name.strip() for name in names]
        for number, name in enumerate(names, 1):
            if not name:
                what, why = f"column {number} has no name", "The first line names the columns"
                raise self._reading.stop(CSV_HEADER, what, why, _NO_INDEX, line=line, column=number)
        for name, times in Counter(names).items():
            if times > 1:
                what, why = f"the column `{printable(name[:60])}` is there {times} times", "Only one of them can count"
                raise self._reading.stop(CSV_HEADER, what, why, "rename or remove one", line=line)
        self._in_header = False
        return names

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            self._lines.begin()
            line = self._lines.number + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._tell(str(error), line)
                continue
            # A blank line is no row.
            if len(cells) > 1 or any(map(str.strip, cells)):
                yield line, cells

    def tell_width(self, line: int, cells: int, columns: int) -> None:
        """Report a row that has more or fewer cells than there are columns."""
        what = f"the row has {cells} cells, and there are {columns} columns"
        fix = "put cells that hold the delimiter or a line feed into double quotes"
        self._reading.tell(CSV_ROW, what, "It is not clear which cell belongs to which column", fix, line=line)

    def _report(self, problem: Problem) -> None:
        # Without its header the file would get the first row's cells as names, and a flood of faults.
        if self._in_header and problem.level == "error":
            raise Stopped(problem)
        self._found(problem)

    def _tell(self, error: str, line: int) -> None:
        what, fix = "the row is not CSV", "write the file with a library"
        for part, known, remedy in _FAULTS:
            if part in error:
                what, fix = known, remedy
        self._reading.tell(CSV_ROW, what, "The row cannot be divided into cells", fix, line=line)


class _Lines:
    """The lines of the file as text, with their ends. A line at fault is told, and is blank."""

    def __init__(self, stream: Stream, reading: Reading) -> None:
        #: Lines given out so far.
        self.number = 0
        self._stream = stream
        self._reading = reading
        self._splitter = Splitter(reading)
        self._raw = self._bytes()
        self._size = 0

    def begin(self) -> None:
        """A row begins with the next line."""
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = next(self._raw)
        self.number += 1
        self._size += len(raw) + 1
        if self._size > MAX_ROW_BYTES:
            self._endless()
        if not is_plain(raw) and not sound(raw.removesuffix(b"\r"), self.number, self._reading):
            raw = b""
        return raw.decode() + "\n"

    def _bytes(self) -> Iterator[bytes]:
        while piece := self._stream.read(_STEP_BYTES):
            yield from self._splitter.feed(piece)
        yield from self._splitter.end()

    def _endless(self) -> NoReturn:
        what = f"a row is longer than {MAX_ROW_BYTES // 1024**2} MiB, and goes on in this line"
        why, fix = "A quote before it is probably not closed", 'close it; a quote within a cell is written ""'
        raise self._reading.stop(CSV_ROW, what, why, fix, line=self.number)
