"""What every room that writes files needs: a flush that survives a power cut, and one way to say that it cannot."""

import errno
import os
from pathlib import Path

from finetune.errors import Problem


def sync(path: Path) -> None:
    """Have the disk keep a file's bytes, or a folder's entries. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(folder: Path, error: OSError) -> Problem:
    """The problem of a folder below FT_HOME that takes no more: E504 when the disk is full, else E501."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Problem(
        code="E504" if full else "E501",
        what=f"the disk under {folder} is full" if full else f"cannot write to {folder}",
        why=f"{error.strerror or error}; jobs, data and adapters are kept there",
        fix="free some space and repeat the command" if full else "give write access to it, or set FT_HOME",
    )
