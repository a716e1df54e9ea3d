"""Check training data, split it, and write it down once, under the name of its content."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from finetune.data.report import DataReport, Findings
from finetune.data.rows import Row, rows
from finetune.data.sides import Side, Sides, held_back
from finetune.errors import DataError, Problem, StateError
from finetune.files import remove_left_behind, sync, unwritable
from finetune.ports import PreparedData

REPEATED: Final = "E215"
EMPTY_SIDE: Final = "E216"
ON_BOTH_SIDES: Final = "E217"

_TRAIN: Final = "train.jsonl"
_VALIDATION: Final = "validation.jsonl"
_ASIDE: Final = ".preparing-"
#: Nobody prepares for so long without a sign.
_LEFT_BEHIND_S: Final = 24 * 3600


def check(path: Path) -> DataReport:
    """What is wrong with one file of training rows. Reads it once, writes nothing, never raises for its content."""
    return inspect(path, None, None)


def inspect(train: Path, validation: Path | None, split: float | None) -> DataReport:
    """What `prepare` of the same arguments would find and count. Writes nothing, never raises for the content."""
    return _walk(train, validation, split, _sides(validation, split))


def prepare(train: Path, validation: Path | None, split: float | None, out: Path) -> PreparedData:
    """Write the checked rows to a folder below `out` that is named by their digest.

    `split`, between 0 and 1, holds that share of the training rows back for validation; `validation` is a file of
    its own; at most one of the two is given.

    Idempotent, and safe for several at once: the folder appears whole or not at all. Rows stream through; memory
    grows with the number of rows (one sha256 each), not with their size. What a killed `prepare` left in `out` is
    removed after a day. Raises DataError with every fault found
    (the first of each file, and a count), StateError when `out` cannot be written.
    """
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        remove_left_behind(out, f"{_ASIDE}*")
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=out))
    try:
        with _writing(out), ExitStack() as files:
            sides = _sides(validation, split)
            for side, name in ((sides.train, _TRAIN), (sides.validation, _VALIDATION)):
                if side is not None:
                    side.file = files.enter_context((aside / name).open("wb"))
            report = _walk(train, validation, split, sides)
            if report.errors:
                raise DataError(*report.errors)
            _flush(sides)
        with _writing(out):
            folder = _publish(aside, out / sides.digest)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return PreparedData(
        train=folder / _TRAIN,
        validation=folder / _VALIDATION if sides.validation else None,
        train_rows=report.train_rows,
        validation_rows=report.validation_rows,
        digest=sides.digest,
        # There are no errors among them: those were raised.
        warnings=report.problems,
    )


def _sides(validation: Path | None, split: float | None) -> Sides:
    if validation is not None and split is not None:
        raise ValueError("a validation file and a split exclude each other")
    if split is not None and not 0 < split < 1:
        raise ValueError("split must be above 0 and below 1")
    return Sides(Side(), None if validation is None and split is None else Side())


def _walk(train: Path, validation: Path | None, split: float | None, sides: Sides) -> DataReport:
    findings = [Findings(str(train))]
    seen: set[bytes] = set()
    for row in _unrepeated(rows(train, findings[0]), seen, findings[0]):
        back = sides.validation if split is not None and held_back(row.digest, split) else None
        (back or sides.train).add(row.text)
    if validation is not None and sides.validation is not None:
        findings.append(Findings(str(validation)))
        if _same(train, validation):
            findings[1].add(_one_file(train))
        else:
            _validate(validation, findings[1], seen, sides.validation)
    if split is not None and not findings[0].errors and (empty := _empty_side(train, split, sides)):
        findings[0].add(empty)
    problems = tuple(problem for each in findings for problem in each.all())
    return DataReport(
        problems=problems,
        train_rows=sides.train.rows,
        validation_rows=sides.validation.rows if sides.validation else 0,
        digest=None if any(each.errors for each in findings) else sides.digest,
    )


def _validate(path: Path, findings: Findings, trained: set[bytes], side: Side) -> None:
    shared: list[int] = []
    for row in _unrepeated(rows(path, findings), set(), findings):
        if row.digest in trained:
            shared.append(row.line)
        side.add(row.text)
    if shared:
        findings.add(_on_both_sides(path, shared))


def _unrepeated(source: Iterator[Row], seen: set[bytes], findings: Findings) -> Iterator[Row]:
    """All rows, and in the end a warning if some are there twice."""
    repeated, first = 0, 0
    for row in source:
        if row.digest in seen:
            repeated, first = repeated + 1, first or row.line
        seen.add(row.digest)
        yield row
    if repeated:
        findings.add(
            Problem(
                code=REPEATED,
                what=f"{repeated} rows repeat an earlier one; this is the first that does",
                why="They count that many times in training; copies are never on two sides of a split",
                fix="remove the copies, if they are not meant",
                level="warning",
                file=findings.file,
                line=first,
            )
        )


def _same(train: Path, validation: Path) -> bool:
    try:
        return train.samefile(validation)
    except (OSError, ValueError):
        return False


def _one_file(path: Path) -> Problem:
    return Problem(
        code=ON_BOTH_SIDES,
        what="training and validation are the same file",
        why="A model is good at what it was trained on, so the measure would say nothing",
        fix="write validation: {split: 0.1} to hold rows back from it",
        file=str(path),
    )


def _on_both_sides(path: Path, shared: list[int]) -> Problem:
    return Problem(
        code=ON_BOTH_SIDES,
        what=f"{len(shared)} rows are in the training file too; this is the first",
        why="A model is good at what it was trained on, so the measure would look better than it is",
        fix="remove them from one of the files",
        level="warning",
        file=str(path),
        line=shared[0],
    )


def _empty_side(path: Path, split: float, sides: Sides) -> Problem | None:
    held = sides.validation.rows if sides.validation else 0
    if held and sides.train.rows:
        return None
    total = held + sides.train.rows
    return Problem(
        code=EMPTY_SIDE,
        what=f"validation.split {split} leaves no rows for {'training' if held else 'validation'}",
        why=f"Rows are chosen by their content, each with that chance, and there are {total}",
        fix="add rows, change validation.split, or name a file with validation.path",
        file=str(path),
        field="validation.split",
        value=str(split),
    )


def _flush(sides: Sides) -> None:
    for side in (sides.train, sides.validation):
        if side is not None and side.file is not None:
            side.file.flush()
            os.fsync(side.file.fileno())


def _publish(aside: Path, folder: Path) -> Path:
    """Give the finished folder its name. One that is there already has the same content, or is mended with it."""
    sync(aside)
    try:
        aside.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        for each in aside.iterdir():
            each.replace(folder / each.name)
    sync(folder.parent)
    return folder


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(unwritable(out, error)) from error
