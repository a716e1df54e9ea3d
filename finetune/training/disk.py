"""Folders that are there whole or not at all, and what names their content. No torch here."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.errors import Problem, TrainingError
from finetune.files import sync

#: The files whose names and bytes make an adapter what it is; lineage.json is not among them.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder, flush it to the disk, then rename it to `folder`, replacing what was there.

    Whatever kills the process, `folder` holds all of the new files or none of them. One process at a time.
    Raises TrainingError (E622) when the disk does not take it.
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
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise TrainingError(unwritable(error, folder)) from error


def unwritable(error: OSError, path: Path) -> Problem:
    """E622: the system does not let us write there."""
    return Problem(
        code="E622",
        what=f"the trainer cannot write: {error.strerror or error}",
        why="checkpoints, the adapter and built-in base models must reach the disk",
        fix="make room or fix the permissions there, then submit again",
        file=str(path),
    )


def write_json(path: Path, value: Any) -> None:
    """`value` as JSON whose bytes depend on nothing but the value."""
    path.write_text(json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def digest(folder: Path, names: Iterable[str] = ADAPTER_FILES) -> str:
    """sha256, in hex, over the names, lengths and bytes of these files of `folder`. Raises OSError."""
    total = hashlib.sha256()
    for name in sorted(names):
        path = folder / name
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


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
