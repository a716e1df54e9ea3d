"""Folders that are there whole or not at all, and what names their content. No torch here."""

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.errors import Problem, TrainingError
from finetune.files import sync

#: How safetensors and tokenizers end their messages: they are written in Rust and know no OSError.
_RUST = re.compile(r"\(os error (\d+)\)")


class DiskFull(TrainingError):
    """There is no room for what the trainer writes; the same request may succeed when somebody has made some."""

    retry = True


def publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder, flush it to the disk, then rename it to `folder`, replacing what was there.

    Whatever kills the process, `folder` holds all of the new files or none of them. One process at a time.
    Raises TrainingError (E622) when the disk does not take it, DiskFull when it has no room.
    """
    aside = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        write(aside)
        for path in (*aside.iterdir(), aside):
            sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        sync(folder.parent)
    except Exception as error:
        shutil.rmtree(aside, ignore_errors=True)
        told = refusal(error, folder)
        if told is None:
            raise
        raise told from error


def refusal(error: Exception, path: Path) -> TrainingError | None:
    """E622 when `error` says that the system did not let us write at `path`, DiskFull when for want of room.

    None for any other error. Reads what the Rust libraries raise, too.
    """
    number = _errno(error)
    if number is None and not isinstance(error, OSError):
        return None
    full = number in (errno.ENOSPC, errno.EDQUOT)
    problem = Problem(
        code="E622",
        what=f"the trainer cannot write: {os.strerror(number) if number else error}",
        why="checkpoints, the adapter and built-in base models must reach the disk",
        fix="make room there: ft tries again from the last checkpoint; if it has given up, submit again"
        if full
        else "fix the permissions there, or give it another disk, then submit again",
        file=str(path),
    )
    return DiskFull(problem) if full else TrainingError(problem)


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = _RUST.search(str(error))
    return int(found[1]) if found else None


def write_json(path: Path, value: Any) -> None:
    """`value` as JSON whose bytes depend on nothing but the value."""
    path.write_text(json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class FolderBusy(TrainingError):
    """Another trainer still works in this run's folder; it may be gone soon."""

    retry = True


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold `folder` against a second trainer. The system lets go when this process ends, however it ends.

    Raises FolderBusy (E601), without waiting.
    """
    with (folder / "trainer.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderBusy(
                Problem(
                    code="E601",
                    what="another trainer is at work in this run's folder",
                    why="two trainers would overwrite each other's checkpoints",
                    fix="wait until the other one has ended; ft tries again by itself",
                    file=str(folder),
                )
            ) from error
        yield
