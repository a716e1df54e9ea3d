"""JSON lines: the fast path. Rows are cut out, not parsed; work per row is C's as long as nothing looks odd."""

from collections.abc import Iterator, Sequence

from finetune.data.sources.faults import LINE_ENDS, MAX_ROW_BYTES, Reading
from finetune.data.sources.lines import Splitter, is_plain, is_utf8, sound, without_bom
from finetune.data.sources.place import Block
from finetune.data.sources.streams import Stream


def blocks(stream: Stream, reading: Reading) -> Iterator[Block]:
    """The lines that are not blank. Lines at fault are told and left out. Raises Stopped."""
    stream = without_bom(stream, reading)
    lines = _Lines(reading)
    told = 0
    while piece := stream.read(min(reading.target_bytes, MAX_ROW_BYTES)):
        if rows := lines.feed(piece):
            yield Block(reading.file, *rows, stream.taken - told)
            told = stream.taken
    if rows := lines.end():
        yield Block(reading.file, *rows, stream.taken - told)


class _Lines:
    """Turns pieces of the file into numbered rows."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._splitter = Splitter(reading)
        self._returns = 0

    def feed(self, piece: bytes) -> tuple[Sequence[int], list[bytes]] | None:
        """The rows that end in `piece` with their numbers; None when there are none."""
        first = self._splitter.number
        rows = self._splitter.feed(piece)
        if rows and not (is_plain(piece) and is_plain(rows[0])):
            rows = self._looked_at(rows, first, piece)
        return _numbered(rows, first)

    def end(self) -> tuple[Sequence[int], list[bytes]] | None:
        """The row at the end of the file, if no line feed follows it. Reports what was counted."""
        first = self._splitter.number
        rows = self._each(self._splitter.end(), first)
        if self._returns:
            what = f"{self._returns} lines end with a carriage return, as on Windows"
            why = "The ends are not part of the rows, so nothing changes"
            self._reading.tell(LINE_ENDS, what, why, "save it as plain UTF-8", level="warning")
        return _numbered(rows, first)

    def _looked_at(self, rows: list[bytes], first: int, piece: bytes) -> list[bytes]:
        """The rows, of which the first may have begun before the piece; those at fault are empty."""
        inside = piece[piece.index(b"\n") : piece.rindex(b"\n")]
        if any(mark in part for mark in (b"\r", b"\0") for part in (inside, rows[0])) or not is_utf8(inside):
            return self._each(rows, first)
        return self._each(rows[:1], first) + rows[1:]

    def _each(self, rows: list[bytes], first: int) -> list[bytes]:
        return [self._without_return(row, line) for line, row in enumerate(rows, first)]

    def _without_return(self, row: bytes, line: int) -> bytes:
        if row.endswith(b"\r"):
            self._returns += 1
            row = row[:-1]
        return row if sound(row, line, self._reading) else b""


def _numbered(rows: list[bytes], first: int) -> tuple[Sequence[int], list[bytes]] | None:
    """Without those that are blank; None when no row is left."""
    if all(rows) and not any(map(bytes.isspace, rows)):
        return (range(first, first + len(rows)), rows) if rows else None
    kept = [(line, row) for line, row in enumerate(rows, first) if row and not row.isspace()]
    return ([line for line, _ in kept], [row for _, row in kept]) if kept else None
