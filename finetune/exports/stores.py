"""Where exports go: a folder of this machine, or a prefix of a bucket. Whole or not at all, and never over another."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from finetune.data.sources.remote import shown
from finetune.errors import Problem, StateError, UsageError
from finetune.files import remove_left_behind, sync
from finetune.shelf.bucket import Bucket, NoPlace, Refused

#: The file that is written last: where it is, all others are.
MANIFEST: Final = "ft-export.json"

Fill = Callable[[Path], None]


def is_address(out: str) -> bool:
    """Whether it names something that is not on this machine."""
    return "://" in out


def publish(out: str, aside: Path, fill: Fill) -> None:
    """Have `fill` write into an empty folder, then let it appear at `out`: a path, or `s3://` or `gs://` and a prefix.

    `aside`: a folder of ours for what goes to a bucket. Blocks for as long as uploads take.
    Raises UsageError E846 when something is there, StateError E848 when it cannot be written; then nothing is left.
    """
    if not is_address(out):
        _to_folder(Path(out).expanduser().absolute(), fill)
        return
    with _in_bucket(shown(out)):
        bucket = Bucket(out)
        if bucket.names():
            raise _taken(bucket.name)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        with _told(out):
            aside.mkdir(parents=True)
        fill(aside)
        with _in_bucket(bucket.name):
            _put(bucket, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _to_folder(folder: Path, fill: Fill) -> None:
    if folder.exists() or folder.is_symlink():
        raise _taken(str(folder))
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    remove_left_behind(folder.parent, f".{folder.name}.*.part")
    try:
        with _told(str(folder)):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        fill(aside)
        with _told(str(folder)):
            for path in (*sorted(aside.rglob("*")), aside):
                sync(path)
            # Fails when somebody has put files there meanwhile.
            aside.rename(folder)
            sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _told(out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(
            Problem(
                code="E848",
                what=f"cannot write to {out}",
                why=f"{error.strerror or error}; nothing was left there",
                fix="make room or mend the permissions, or choose another place with --out",
            )
        ) from error


@contextmanager
def _in_bucket(name: str) -> Iterator[None]:
    try:
        yield
    except NoPlace as error:
        raise UsageError(Problem(code="E846", what=error.what, why=error.why, fix=error.fix)) from None
    except Refused as refused:
        what, why = f"cannot write to {name}", f"{refused.why}; no export is there"
        raise StateError(Problem(code="E848", what=what, why=why, fix=refused.fix)) from None


def _put(bucket: Bucket, folder: Path) -> None:
    """Upload all files, the manifest last; what went there is taken away again when one of them fails."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    done: list[str] = []
    try:
        for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
            done.append(name)
            bucket.upload(folder / name, name)
    except BaseException:
        for name in done:
            with suppress(Exception):
                bucket.remove(name)
        raise


def _taken(out: str) -> UsageError:
    return UsageError(
        Problem(
            code="E846",
            what=f"there is something at {out} already",
            why="an export never overwrites: somebody may use what is there",
            fix="choose another place with --out, or remove it",
        )
    )
