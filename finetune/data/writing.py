"""Copies of data that a user asks for: in another layout, split in two, or without personal data."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from finetune.data.aside import writing
from finetune.data.parts import Progress, parts_of
from finetune.data.report import DataReport
from finetune.data.request import DataRequest
from finetune.data.walk import Walk
from finetune.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What to write, and where."""

    #: A name of FORMATS; None: the layout that the rows have.
    format: str | None
    train: Path
    #: None when nothing is held back.
    validation: Path | None = None
    #: Write rows that lose something, with a warning.
    lossy: bool = False
    #: Put placeholders in the place of personal data.
    redact: bool = False


def write(request: DataRequest, copy: Copy, progress: Progress) -> DataReport:
    """Write a checked copy. A file appears whole or not at all, in the place of one of its name.

    Raises DataError with every fault found, StateError when a file cannot be written.
    """
    with ExitStack() as stack, parts_of(request, None, progress, None, copy.train.parent) as parts:
        parts.write, parts.lossy, parts.redact = copy.format or "", copy.lossy, copy.redact
        parts.allow = "add --lossy, if that is meant"
        parts.sides.train.file = stack.enter_context(_replaced(copy.train))
        if copy.validation is not None and parts.sides.validation is not None:
            parts.sides.validation.file = stack.enter_context(_replaced(copy.validation))
        report = Walk(request, parts).run()
        if report.errors:
            raise DataError(*report.problems)
    return report


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its name when all went well."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)
