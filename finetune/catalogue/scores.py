"""Scores of base models that a user has imported from somebody's table. None ships, and none is ever reckoned here."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from finetune.errors import NotFound, Problem, StateError, UsageError
from finetune.files import write_whole

FAULTY: Final = "E395"
MAX_BYTES: Final = 10_000_000
#: What `limits.quality` takes for a name.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOLD: Final = 20

#: Scores by model.
Scores = Mapping[str, float]


class Columns(NamedTuple):
    """Which columns of a table are read; their case does not count."""

    model: str = "model"
    score: str = "score"


_OURS: Final = Columns()


def parsed(path: Path, columns: Columns = _OURS) -> dict[str, float]:
    """The scores of a CSV file, whose first line names its columns.

    Raises UsageError with its faults, each at its line: a model twice, no number, a column that is not there, no row.
    """
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        model, score = (_column(path, rows.fieldnames or (), each) for each in columns)
        found: dict[str, float] = {}
        lines: dict[str, int] = {}
        problems: list[Problem] = []
        for row in rows:
            name, text = (row.get(model) or "").strip(), (row.get(score) or "").strip()
            faults = list(_faults(name, text, lines))
            if None in row:
                # `1,400` without quotes are two cells.
                faults.append(f"the line has more cells than the header: {name}")
            problems += (_problem(path, each, rows.line_num, score if name else model) for each in faults)
            if not faults:
                found[name], lines[name] = float(text), rows.line_num
    except csv.Error as error:
        raise UsageError(_problem(path, f"this cannot be read as CSV ({error})", rows.reader.line_num)) from None
    if not found and not problems:
        problems.append(_problem(path, "the table has no rows", 1))
    if problems:
        raise UsageError(*problems[:_TOLD])
    return found


def keep(folder: Path, name: str, scores: Scores) -> Path:
    """Write the scores under this name, in place of those that had it. Returns the file. Raises UsageError."""
    if not _NAME.fullmatch(name):
        why = "it is what recipes write under limits.quality"
        fix = "letters, digits, dots, dashes and underscores, such as --name arena"
        raise UsageError(Problem(code="E901", what=f"{name!r} is no name for scores", why=why, fix=fix))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_OURS)
    writer.writerows((model, repr(score)) for model, score in sorted(scores.items()))
    path = folder / f"{name}.csv"
    write_whole(path, out.getvalue())
    return path


def kept(folder: Path) -> dict[str, dict[str, float]]:
    """All that were imported, by name. Raises StateError when somebody has spoilt a file."""
    try:
        return {path.stem: parsed(path) for path in sorted(folder.glob("[!.]*.csv"))}
    except UsageError as error:
        raise StateError(*error.problems) from None


def one(folder: Path, name: str) -> dict[str, float]:
    """Those of this name. Raises NotFound, StateError."""
    found = kept(folder)
    if name in found:
        return found[name]
    what, why = f"no scores are called {name!r}", f"imported are {', '.join(found) or 'none'}"
    fix = f"ft catalogue scores import FILE.csv --name {name}"
    raise NotFound(Problem(code="E707", what=what, why=why, fix=fix))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(_problem(path, f"`{path}` cannot be read: {said}")) from None
    if len(raw) > MAX_BYTES:
        raise UsageError(_problem(path, f"the file is larger than {MAX_BYTES:,} bytes"))
    return text


def _column(path: Path, names: Sequence[str], wanted: str) -> str:
    found = [each for each in names if each.strip().casefold() == wanted.casefold()]
    if len(found) == 1:
        return found[0]
    said = "is not there" if not found else "is there twice"
    columns = ", ".join(names) or "none"
    fix = "name them: --model-column COLUMN --score-column COLUMN"
    raise UsageError(_problem(path, f"the column {wanted!r} {said}; the first line has {columns}", 1, fix=fix))


def _faults(name: str, text: str, lines: Mapping[str, int]) -> Iterator[str]:
    if not name:
        yield "the row names no model"
    elif name in lines:
        yield f"{name} is there twice: line {lines[name]} has it too"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # Python takes 1_000 for a number, and no table means one by it.
    if not math.isfinite(number) or "_" in text:
        yield f"the score of {name or 'the row'} is no number: {text[:40]!r}"


def _problem(path: Path, what: str, line: int | None = None, column: str | None = None, fix: str = "") -> Problem:
    return Problem(
        code=FAULTY,
        what=what,
        why="each model has one score, and a score is never guessed",
        fix=fix or "mend the file, and import it again",
        file=str(path),
        line=line,
        field=column,
    )
