"""Check training data, split it, and write it down once for its target, under the name of its content."""

import errno
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from finetune.data.aside import folder_aside, writing
from finetune.data.lengths import OpenTokens
from finetune.data.parts import Progress, parts_of
from finetune.data.report import DataReport
from finetune.data.request import DataRequest
from finetune.data.sides import Sides
from finetune.data.walk import Walk, written_as
from finetune.errors import DataError
from finetune.files import sync
from finetune.ports import PreparedData

_TRAIN: Final = "train.jsonl"
_VALIDATION: Final = "validation.jsonl"
_ASIDE: Final = ".preparing-"


def _silent(read: int, total: int | None) -> None:
    del read, total


def inspect(
    request: DataRequest,
    tokens: OpenTokens | None = None,
    *,
    progress: Progress = _silent,
    processes: int | None = None,
    temporary: Path | None = None,
) -> DataReport:
    """What `prepare` of the same request would find and count. Reads everything once and writes nothing of it.

    `tokens` opens what counts tokens, when a row may be too long; None leaves lengths out. Never raises for what the
    rows say. Raises StateError when the folder for temporary files is full. Memory: 12 bytes a row of counts, and what
    is bounded.
    """
    with parts_of(request, tokens, progress, processes, temporary) as parts:
        parts.write = request.rules.format if request.rules else None
        return Walk(request, parts).run()


def prepare(
    request: DataRequest,
    out: Path,
    tokens: OpenTokens | None = None,
    *,
    progress: Progress = _silent,
    processes: int | None = None,
) -> PreparedData:
    """Write the checked rows, in the layout of the target, to a folder below `out` named by their digest and layout.

    Idempotent, and safe for several at once: the folder appears whole or not at all. What a killed `prepare` left in
    `out` is removed after a day. Raises DataError with every fault found, StateError when `out` cannot be written.
    """
    format = written_as(request)
    with writing(out):
        aside = folder_aside(out, _ASIDE)
    try:
        with writing(out), ExitStack() as files, parts_of(request, tokens, progress, processes, out) as parts:
            parts.write = format
            sides = parts.sides
            for side, name in ((sides.train, _TRAIN), (sides.validation, _VALIDATION)):
                if side is not None:
                    side.file = files.enter_context((aside / name).open("wb"))
            report = Walk(request, parts).run()
            if report.errors:
                raise DataError(*report.errors)
            _flush(sides)
        with writing(out):
            folder = _publish(aside, out / f"{sides.digest}.{format}")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return PreparedData(
        train=folder / _TRAIN,
        validation=folder / _VALIDATION if sides.validation else None,
        train_rows=report.train_rows,
        validation_rows=report.validation_rows,
        digest=sides.digest,
        format=format,
        # There are no errors among them: those were raised.
        warnings=report.problems,
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
