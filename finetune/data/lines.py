"""The lines of a text file, one at a time, however long the file is and whoever wrote it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from finetune.data.report import Findings
from finetune.errors import Problem

#: A row of this size is some million tokens, far beyond any model's context.
MAX_LINE_BYTES: Final = 16 * 1024 * 1024

MISSING: Final = "E201"
NO_FILE: Final = "E202"
UNREADABLE: Final = "E203"
NOT_TEXT: Final = "E205"
LONG_LINE: Final = "E206"
LINE_ENDS: Final = "E218"

_BOM: Final = b"\xef\xbb\xbf"
#: How other kinds of files begin, and what to do about them.
_KINDS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"\x1f\x8b", "compressed with gzip", "unpack it: gunzip -k {}"),
    (b"PK\x03\x04", "a zip archive", "unpack it: unzip {}"),
    (b"PAR1", "a Parquet file", "write its rows as JSON lines"),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 {}"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 {}"),
)


class Line(NamedTuple):
    """A line without its end."""

    #: 1-based.
    number: int
    text: str


def lines(path: Path, findings: Findings) -> Iterator[Line]:
    """The lines of UTF-8 text that are not blank. Faults go to `findings`; a line at fault is left out.

    Memory is bounded by MAX_LINE_BYTES. Ends early, with one problem, when the file cannot be read or is no text.
    """
    try:
        file = _opened(path)
    except FileNotFoundError:
        findings.add(_missing(path))
        return
    except (OSError, ValueError) as error:
        findings.add(_unreadable(path, error))
        return
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            findings.add(_problem(path, NO_FILE, f"`{path}` is no file", "It is a device or a pipe", "name a file"))
            return
        yield from _decoded(file, path, findings)


def _opened(path: Path) -> BinaryIO:
    # Without O_NONBLOCK, to open a pipe would wait for its writer.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _decoded(file: BinaryIO, path: Path, findings: Findings) -> Iterator[Line]:
    number, carriage_returns = 0, 0
    while (raw := _next(file, path, number + 1, findings)) is not None:
        number += 1
        if number == 1:
            if kind := next((kind for kind in _KINDS if raw.startswith(kind[0])), None):
                why = f"It is {kind[1]}; ft reads JSON lines"
                findings.add(_problem(path, NOT_TEXT, "the file is not UTF-8 text", why, kind[2].format(path)))
                return
            raw = _without_bom(raw, path, findings)
        carriage_returns += raw.endswith(b"\r\n")
        try:
            text = raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            column = len(raw[: error.start].decode("utf-8")) + 1
            why = f"The byte 0x{raw[error.start]:02x} cannot stand here; the line is in another encoding"
            fix = "save the file as UTF-8"
            findings.add(_problem(path, NOT_TEXT, "the line is not UTF-8 text", why, fix, (number, column)))
            continue
        if text.strip():
            yield Line(number, text)
    if carriage_returns:
        what = f"{carriage_returns} lines end with a carriage return, as on Windows"
        findings.add(_warning(path, what, "The ends are not part of the rows, so nothing changes"))


def _next(file: BinaryIO, path: Path, number: int, findings: Findings) -> bytes | None:
    """The next line with its end; empty when it is too long; None at the end of the file or of our luck."""
    try:
        raw = file.readline(MAX_LINE_BYTES + 1)
        if len(raw) <= MAX_LINE_BYTES:
            return raw or None
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(MAX_LINE_BYTES)
    except OSError as error:
        findings.add(_unreadable(path, error))
        return None
    limit = MAX_LINE_BYTES // 1024**2
    what, why = f"the line is longer than {limit} MiB", "No model reads a row of that length"
    findings.add(_problem(path, LONG_LINE, what, why, "check that every row ends with a line feed", (number, None)))
    return b"\n"


def _without_bom(raw: bytes, path: Path, findings: Findings) -> bytes:
    if not raw.startswith(_BOM):
        return raw
    findings.add(
        _warning(path, "the file begins with a byte order mark", "It is not part of the rows; nothing changes")
    )
    return raw[len(_BOM) :]


def _missing(path: Path) -> Problem:
    return _problem(path, MISSING, f"there is no file `{path}`", "", "check the path; it starts at the recipe's folder")


def _unreadable(path: Path, error: Exception) -> Problem:
    if isinstance(error, IsADirectoryError):
        return _problem(path, NO_FILE, f"`{path}` is a folder", "", "name a file in it")
    why = getattr(error, "strerror", None) or "The name is not one that a file can have"
    return _problem(path, UNREADABLE, f"`{path}` cannot be read", why, "check that you may read it")


def _warning(path: Path, what: str, why: str) -> Problem:
    return Problem(code=LINE_ENDS, what=what, why=why, level="warning", file=str(path), fix="save it as plain UTF-8")


def _problem(
    path: Path, code: str, what: str, why: str, fix: str, place: tuple[int | None, int | None] = (None, None)
) -> Problem:
    return Problem(code=code, what=what, why=why, fix=fix, file=str(path), line=place[0], column=place[1])
