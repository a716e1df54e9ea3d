"""What rooms that write files need: a flush that survives a power cut, digests, one way to say that it cannot be."""

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from finetune.errors import Problem, StateError

#: The files whose names and bytes make an adapter what it is; lineage.json is not among them.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
#: Nobody works for so long on a folder without a sign.
_LEFT_BEHIND_S = 24 * 3600


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


def remove_left_behind(folder: Path, pattern: str) -> None:
    """Remove the folders of this name in `folder` that a killed process has left: a day old, with all in them.

    Those that somebody still fills stay. Idempotent, safe for several at once. Never raises.
    """
    before = time.time() - _LEFT_BEHIND_S
    for left in folder.glob(pattern):
        with suppress(OSError):
            if max(path.lstat().st_mtime for path in (left, *left.iterdir())) < before:
                shutil.rmtree(left, ignore_errors=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that others see the old one or the new one, never a part. Makes its folder.

    Raises StateError.
    """
    raw = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(raw)
        beside.replace(path)
    except OSError as error:
        raise StateError(unwritable(path.parent, error)) from None


def digest(folder: Path, names: Iterable[str] = ADAPTER_FILES) -> str:
    """sha256, in hex, over the names, lengths and bytes of these files of `folder`. Raises OSError."""
    total = hashlib.sha256()
    for name in sorted(names):
        path = folder / name
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def changed(folder: Path, known: str) -> str | None:
    """Why the folder is not what has this digest (`digest`), in a sentence; None: it is. Reads all of it."""
    try:
        there = digest(folder)
    except OSError as error:
        there = f"unreadable: {error.strerror}"
    return None if there == known else f"its digest was {known[:12]}, and is {there[:40]}"
