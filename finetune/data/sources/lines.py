"""Lines of bytes, cut from large pieces; and what is checked of every text: UTF-8, NUL, marks of other systems."""

import codecs
import re
from typing import Final

from finetune.data.sources.content import BOM
from finetune.data.sources.faults import LINE_ENDS, MAX_ROW_BYTES, NOT_TEXT, Reading
from finetune.data.sources.streams import Stream

#: Pieces that stay in the processor's cache: decoding 64 KiB at a time is up to four times as fast as 4 MiB at once.
_DECODED_BYTES: Final = 64 * 1024
#: Cannot be in one JSON value: between two objects there is a comma, and in a text a carriage return is escaped.
_ROWS_OF_AN_OLD_MAC: Final = re.compile(rb"\}[ \t]*\r[ \t\r]*\{")


class Splitter:
    """Cuts pieces of a text into lines without their line feeds.

    Holds at most MAX_ROW_BYTES of an open line; one that is longer is told. Pieces must not be longer than that.
    """

    def __init__(self, reading: Reading) -> None:
        #: 1-based number of the first line that the next `feed` returns.
        self.number = 1
        self._reading = reading
        self._parts: list[bytes] = []
        self._held = 0
        self._passing = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in `piece`. One that was too long is empty."""
        lines = piece.split(b"\n")
        rest = lines.pop()
        if lines:
            lines[0] = self._joined(lines[0])
            self.number += len(lines)
        self._hold(rest)
        return lines

    def end(self) -> list[bytes]:
        """The last line, if it has no line feed and is not too long; else nothing."""
        line = self._joined(b"")
        self.number += bool(line)
        return [line] if line else []

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._passing or not part:
            return
        self._parts.append(part)
        if self._held > MAX_ROW_BYTES:
            tell_too_long(self._reading, self.number, b"".join(self._parts))
            self._parts.clear()
            self._passing = True

    def _joined(self, end: bytes) -> bytes:
        self._hold(end)
        line = b"" if self._passing else b"".join(self._parts)
        self._parts.clear()
        self._held, self._passing = 0, False
        return line


def without_bom(stream: Stream, reading: Reading) -> Stream:
    """The stream behind a byte order mark, which is told, if there is one. Raises Stopped."""
    if stream.peek().startswith(BOM):
        stream.read(len(BOM))
        what, why = "the file begins with a byte order mark", "It is not part of the rows; nothing changes"
        reading.tell(LINE_ENDS, what, why, "save it as plain UTF-8", level="warning")
    return stream


def is_plain(text: bytes) -> bool:
    """True for ASCII without NUL and carriage returns: nothing in it needs a second look."""
    return text.isascii() and b"\0" not in text and b"\r" not in text


def is_utf8(text: bytes) -> bool:
    """True if `text` can be decoded as a whole."""
    if text.isascii():
        return True
    try:
        if len(text) <= _DECODED_BYTES:
            text.decode("utf-8")
            return True
        decoder, view = codecs.getincrementaldecoder("utf-8")(), memoryview(text)
        for at in range(0, len(view), _DECODED_BYTES):
            decoder.decode(view[at : at + _DECODED_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def sound(text: bytes, line: int, reading: Reading, *, from_column_1: bool = True) -> bool:
    """Whether `text`, which begins at `line`, is UTF-8 without NUL and of one row. If not, that is told."""
    if b"\0" in text:
        why = "NUL stands in no text; the line was damaged, or the file cut off while it was written"
        line += text.count(b"\n", 0, text.index(b"\0"))
        reading.tell(NOT_TEXT, "there are NUL bytes in the line", why, "remove the line, or write it again", line=line)
        return False
    if b"\r" in text and _ROWS_OF_AN_OLD_MAC.search(text):
        tell_lone_returns(reading, line)
        return False
    if is_utf8(text):
        return True
    tell_other_encoding(text, line, reading, from_column_1=from_column_1)
    return False


def tell_lone_returns(reading: Reading, line: int) -> None:
    """Report rows that are divided by carriage returns alone."""
    why = "They were written as on old Macs; here a line ends with a line feed"
    reading.tell(
        NOT_TEXT, "the rows are divided by lone carriage returns", why, r"tr '\r' '\n' < FILE > NEW", line=line
    )


def tell_other_encoding(text: bytes, line: int, reading: Reading, *, from_column_1: bool) -> None:
    """Report the first byte of `text` that is not UTF-8. There must be one."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        start = text.rfind(b"\n", 0, error.start) + 1
        column = len(text[start : error.start].decode("utf-8")) + 1 if start or from_column_1 else None
        why = f"The byte 0x{text[error.start]:02x} cannot stand here; the line is in another encoding"
        fix = "save the file as UTF-8; from Windows: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
        line += text.count(b"\n", 0, error.start)
        reading.tell(NOT_TEXT, "the line is not UTF-8 text", why, fix, line=line, column=column)


def tell_too_long(reading: Reading, line: int, begin: bytes) -> None:
    """Report a line over the limit, or what made it one: a file of an old Mac is a single line."""
    if _ROWS_OF_AN_OLD_MAC.search(begin):
        tell_lone_returns(reading, line)
    else:
        reading.too_long(line)
