"""Folders of our own beside what is written, and one way to say that a folder takes no more."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.errors import StateError
from finetune.files import remove_left_behind, unwritable


def folder_aside(parent: Path, prefix: str) -> Path:
    """A new folder in `parent`, which is made too. What killed processes left by this prefix goes after a day.

    Raises OSError.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(parent, f"{prefix}*")
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises StateError (E504 full, E501 else) in place of OSError."""
    try:
        yield
    except OSError as error:
        raise StateError(unwritable(folder, error)) from error
