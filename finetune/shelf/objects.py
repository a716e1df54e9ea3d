"""One adapter below an address: `PREFIX/DIGEST[:32]`, never overwritten, whole where its manifest is.

The name of the folder stands for its content, so whoever finds the manifest has nothing left to upload, and two who
upload at once write the same bytes.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

from finetune.errors import Problem, ShelfUnavailable, StateError
from finetune.files import ADAPTER_FILES, changed, remove_left_behind, sync, unwritable
from finetune.shelf.bucket import Bucket, DiskRefused, NoPlace, Refused

#: Written last, removed first: without it nothing that is there counts.
MANIFEST: Final = "ft-adapter.json"
#: Says which training made it. Written first, removed last: what broke off can be accounted for.
LINEAGE: Final = "lineage.json"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What lies below a prefix under one name, whole or not."""

    bytes: int
    #: When the newest of it was written, by the bucket's clock.
    at: datetime
    #: Its manifest is there.
    whole: bool


def put(folder: Path, address: str, known: str) -> None:
    """Upload the adapter whose digest is `known`. Idempotent; several may do it at once. Blocks.

    Raises StateError: E512 (ShelfUnavailable where it may pass), E513 when another adapter is there, E838 when the
    folder's files have another digest.
    """
    with _told(address, "written"):
        bucket = Bucket(address)
        if not _is_there(bucket, known):
            _must_be(folder, known, str(folder))
            # Not `rglob`: a trainer writes no folders, and what else is there is none of the adapter.
            files = sorted(path.name for path in folder.iterdir() if path.is_file())
            for name in sorted(files, key=lambda name: name != LINEAGE):
                bucket.upload(folder / name, name)
            bucket.write(MANIFEST, {"digest": known, "files": files})


def get(address: str, known: str, target: Path) -> None:
    """Have the adapter with this digest in the folder `target`. Idempotent; several may do it at once. Blocks.

    It is downloaded aside, its digest is looked at, and it appears whole. What is there already is left as it is.
    Raises StateError: E512 (ShelfUnavailable where it may pass), E513, E838 when what came has another digest, E501
    and E504 when the disk does not take it.
    """
    if target.exists():
        return
    aside = target.with_name(f".{target.name}-{os.getpid()}-{threading.get_ident()}.part")
    remove_left_behind(target.parent, f".{target.name}-*.part")
    try:
        aside.mkdir(parents=True)
        with _told(address, "read"):
            _download(Bucket(address), known, aside)
        _must_be(aside, known, address)
        for path in (*aside.iterdir(), aside):
            sync(path)
        _appear(aside, target)
    except OSError as error:
        raise StateError(unwritable(target.parent, error)) from error
    except DiskRefused as refused:
        raise StateError(unwritable(target.parent, refused.error)) from refused.error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove(address: str) -> None:
    """Remove what is there. Idempotent. Raises StateError E512."""
    with _told(address, "removed"):
        bucket = Bucket(address)
        for name in sorted(bucket.names(), key=lambda name: (name == LINEAGE, name != MANIFEST)):
            bucket.remove(name)


def is_used(address: str) -> bool:
    """Whether anything is there, whole or not. Raises StateError E512."""
    with _told(address, "read"):
        return bool(Bucket(address).names())


def copies(prefix: str) -> dict[str, Copy]:
    """What lies in folders below the prefix, by the folder's name. Raises StateError E512."""
    found: dict[str, Copy] = {}
    with _told(prefix, "read"):
        for path, entry in Bucket(prefix).entries().items():
            name, _, inside = path.partition("/")
            before = found.get(name) or Copy(bytes=0, at=entry.at, whole=False)
            if inside:
                size, whole = before.bytes + entry.bytes, before.whole or inside == MANIFEST
                found[name] = Copy(bytes=size, at=max(before.at, entry.at), whole=whole)
    return found


def lineage(address: str) -> bytes | None:
    """What the adapter there says of its making, as it was written; None: nothing. Raises StateError E512."""
    with _told(address, "read"):
        return Bucket(address).read(LINEAGE)


def reach(prefix: str) -> str:
    """Ask whether adapters can be kept below this prefix; its name. Raises StateError E512."""
    with _told(prefix, "read"):
        bucket = Bucket(prefix)
        bucket.reach()
        return bucket.name


def _is_there(bucket: Bucket, known: str) -> bool:
    """Whether it is there whole. Raises StateError E513 when another is."""
    manifest = _manifest(bucket)
    if manifest is None:
        return False
    if manifest.get("digest") != known:
        raise StateError(_another(bucket.name, known, manifest))
    return True


def _manifest(bucket: Bucket) -> dict[str, Any] | None:
    raw = bucket.read(MANIFEST)
    if raw is None:
        return None
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _download(bucket: Bucket, known: str, folder: Path) -> None:
    if not _is_there(bucket, known):
        why, fix = "there is no whole adapter at that address", "`ft models sync` on the machine that has it uploads it"
        raise Refused(why, fix)
    listed = (_manifest(bucket) or {}).get("files")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    for name in sorted({*ADAPTER_FILES, *names}):
        # Somebody else may have written the manifest: nothing of it leads out of the folder.
        if PurePosixPath(name).name == name and name not in ("..", MANIFEST):
            bucket.download(name, folder / name)


def _appear(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        # Another one was faster, and has looked at its digest as this one has.
        if not target.is_dir():
            raise
    sync(target.parent)


def _must_be(folder: Path, known: str, place: str) -> None:
    if why := changed(folder, known):
        raise StateError(
            Problem(
                code="E838",
                what=f"the adapter in {place} is not what was registered",
                why=why,
                fix="restore it, or train again with `ft submit RECIPE --force`",
            )
        )


@contextmanager
def _told(address: str, done: str) -> Iterator[None]:
    try:
        yield
    except NoPlace as error:
        raise StateError(Problem(code="E512", what=error.what, why=error.why, fix=error.fix)) from None
    except Refused as refused:
        kind = ShelfUnavailable if refused.again else StateError
        problem = Problem(
            code="E512", what=f"the adapter at {address} cannot be {done}", why=refused.why, fix=refused.fix
        )
        raise kind(problem) from None


def _another(name: str, known: str, manifest: dict[str, Any]) -> Problem:
    return Problem(
        code="E513",
        what=f"{name} holds another adapter than {known[:12]}",
        why=f"its manifest says {str(manifest.get('digest'))[:12]}, and nothing there is ever overwritten",
        fix=f"see who writes to that prefix; if its `{MANIFEST}` is damaged, remove that folder, then `ft models sync`",
    )
