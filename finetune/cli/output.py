"""Printing: data to stdout, chatter to stderr, colour on a terminal only and never against NO_COLOR."""

import json
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import TextIO

from finetune.cli.columns import Sheet, wrapped
from finetune.errors import FtError, Problem, UsageError

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}
_OF_STATE = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}


def out(text: str = "") -> None:
    """A line of data. Ends the program, as if all was printed, when the reader has gone, as in `ft logs | head`."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more at its end, when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def say(text: str = "") -> None:
    """A line of chatter."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def out_json(value: object) -> None:
    """One JSON document; in another encoding than UTF-8 with escapes, which mean the same everywhere."""
    plain = sys.stdout.encoding.lower() in ("utf-8", "utf8")
    out(json.dumps(value, indent=2, ensure_ascii=not plain))


def paint(text: str, colour: str, stream: TextIO | None = None, *, underlined: bool = False) -> str:
    """The text, coloured if the stream (default: stdout) is a terminal."""
    if os.environ.get("NO_COLOR") or not (stream or sys.stdout).isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}{';4' if underlined else ''}m{text}\x1b[0m"


def state(text: str, width: int = 0) -> str:
    """A job's state in its colour, padded."""
    padded = text.ljust(width)
    return paint(padded, _OF_STATE[text]) if text in _OF_STATE else padded


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    to: Callable[[str], None] | None = None,
    under: Collection[str] = (),
) -> None:
    """Columns under a head, to stdout or `to` (`say`: to stderr). A column that is called STATE is coloured.

    On a terminal that is too narrow the columns `under` go below their row, the first of them first; then cells are
    wrapped. Elsewhere each row is a line.
    """
    stream = sys.stderr if to is say else sys.stdout
    sheet = Sheet(
        head=head,
        rows=rows,
        width=columns(stream),
        under=under,
        paint=lambda name, text: state(text.rstrip(), len(text)) if name == "STATE" else text,
        dim=lambda text: paint(text, "dim", stream),
        bold=lambda text: paint(text, "bold", stream),
    )
    for line in sheet.lines():
        (to or out)(line)


def flow(text: str, colour: str | None = None, hang: str = "    ") -> None:
    """A line of data, wrapped between words on a terminal; lines after the first begin with `hang`."""
    for line in wrapped(text, columns(sys.stdout), hang):
        out(paint(line, colour) if colour else line)


def labelled(label: str, text: str) -> None:
    """A line of data behind its dim label, wrapped below the text on a terminal."""
    first, *more = wrapped(f"{label}  {text}", columns(sys.stdout), " " * (len(label) + 2))
    out(paint(label, "dim") + first[len(label) :])
    for line in more:
        out(line)


def columns(stream: TextIO) -> int | None:
    """How wide the terminal is, or what COLUMNS says of it; None: the stream is none, or nobody knows."""
    if not stream.isatty():
        return None
    if (said := os.environ.get("COLUMNS", "")).isdecimal() and int(said):
        return int(said)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def complain(error: FtError) -> None:
    """Every problem of the error, three lines each, to stderr."""
    for problem in error.problems:
        tell(problem)


def tell(problem: Problem) -> None:
    """One problem or warning, to stderr."""
    first, *rest = problem.lines()
    colour = "red" if problem.level == "error" else "yellow"
    say(paint(first, colour, sys.stderr))
    for line in rest:
        say(line)


def confirm(question: str, *, yes: bool, unasked: bool = True) -> bool:
    """Ask on a terminal. `yes` (-y) answers; where nobody can be asked the answer is `unasked`."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return yes or unasked
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def must(condition: bool, what: str, why: str, fix: str) -> None:
    """Raise UsageError (E901) unless the condition holds."""
    if not condition:
        raise UsageError(Problem(code="E901", what=what, why=why, fix=fix))
