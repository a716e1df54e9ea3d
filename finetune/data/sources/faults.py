"""How the readers say what is wrong: codes, the way to the caller, and the exception that ends one place."""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack

from finetune.errors import Level, Problem

MISSING: Final = "E201"
NO_FILE: Final = "E202"
UNREADABLE: Final = "E203"
NOT_TEXT: Final = "E205"
LONG_LINE: Final = "E206"
LINE_ENDS: Final = "E218"
OTHER_NAME: Final = "E222"
BROKEN: Final = "E223"
CHANGED: Final = "E224"
BROKEN_JSON: Final = "E225"
CSV_HEADER: Final = "E226"
CSV_ROW: Final = "E227"
COLUMN: Final = "E228"
NO_MATCH: Final = "E229"
LEFT_OUT: Final = "E230"
NOT_FETCHED: Final = "E231"
UNREACHABLE: Final = "E232"
REFUSED: Final = "E233"
NO_EXTRA: Final = "E234"
TO_BE_NAMED: Final = "E235"

#: A row of this size is some million tokens, far beyond any model's context.
MAX_ROW_BYTES: Final = 16 * 1024 * 1024

#: Takes what is found, in the order in which it is found.
Report = Callable[[Problem], None]


class Where(TypedDict, total=False):
    """The parts of a Problem that are not always there."""

    level: Level
    line: int | None
    column: int | None
    field: str | None
    value: str | None


class Stopped(Exception):
    """This place cannot be read, or not further; the argument is the problem to report. Never leaves this room."""

    def __init__(self, problem: Problem, *, again: bool = False) -> None:
        """`again`: the same may go well at the next try."""
        super().__init__(problem)
        self.problem = problem
        self.again = again


@dataclass(frozen=True)
class Reading:
    """What every reader needs: the name for messages, where to report, and how large a block may be."""

    file: str
    found: Report
    #: A block holds no more than this, and one row.
    target_bytes: int

    def tell(self, code: str, what: str, why: str, fix: str, **where: Unpack[Where]) -> None:
        """Report a problem with this place and go on."""
        self.found(Problem(code=code, what=what, why=why, fix=fix, file=self.file, **where))

    def stop(self, code: str, what: str, why: str, fix: str, **where: Unpack[Where]) -> Stopped:
        """The exception that ends the reading of this place with a problem."""
        return Stopped(Problem(code=code, what=what, why=why, fix=fix, file=self.file, **where))

    def too_long(self, line: int, what: str = "line") -> None:
        """Report a row that is left out because of its size. `line` is 1-based."""
        self.tell(
            LONG_LINE,
            f"the {what} is longer than {MAX_ROW_BYTES // 1024**2} MiB",
            "No model reads a row of that length",
            "check that every row ends with a line feed" if what == "line" else "split it, or remove it",
            line=line,
        )


def printable(name: str) -> str:
    """A name for a message: bytes that are not UTF-8 and what a terminal would act on are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace") if _from_the_system(name) else name
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _from_the_system(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def library(name: str, purpose: str, reading: Reading) -> Any:
    """The module `name`. Raises Stopped that names the extra when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        why = f"The package `{package}` is not installed; {purpose}"
        fix = "pip install 'ft-orchestrator[data]'"
        raise reading.stop(NO_EXTRA, "this data needs an extra of ft", why, fix) from None
