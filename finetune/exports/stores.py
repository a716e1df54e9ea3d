"""Where exports go: a folder of this machine, or a prefix of a bucket. Whole or not at all, and never over another."""

import importlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, Final

from finetune.data.sources.faults import Reading, Stopped
from finetune.data.sources.remote import shown
from finetune.data.sources.tries import CONNECT_S, SILENCE_S, Guard
from finetune.errors import Problem, StateError, UsageError
from finetune.files import remove_left_behind, sync

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
    bucket = _Bucket(out)
    bucket.must_be_empty()
    try:
        shutil.rmtree(aside, ignore_errors=True)
        with _told(out):
            aside.mkdir(parents=True)
        fill(aside)
        bucket.put(aside)
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


class _Bucket:
    """One prefix of a bucket, by fsspec. Errors are told in the words of the readers of training data."""

    def __init__(self, out: str) -> None:
        self._out, self._name, scheme = out.rstrip("/"), shown(out), out.partition("://")[0].lower()
        if scheme not in _SYSTEMS:
            fix = f"write a path, or one of {', '.join(f'{name}://' for name in _SYSTEMS)}"
            raise _unusable(f"ft does not write to {scheme}://", "it knows no such place", fix)
        bucket, _, prefix = self._out.partition("://")[2].partition("/")
        if not bucket or not prefix or "@" in bucket:
            why = "a bucket and a prefix are needed, and no credentials: ft uses those of the environment"
            raise _unusable(
                f"{self._name} is no place for an export", why, f"write {scheme}://bucket/models/support-bot"
            )
        self._guard = Guard(scheme, False, Reading(self._name, lambda problem: None, 0))
        try:
            self._system = self._asked(_SYSTEMS[scheme])
        except ImportError:
            fix = "pip install 'ft-orchestrator[data]'"
            raise _unusable(f"{scheme}:// needs the extra `data`", "it is not installed here", fix) from None

    def must_be_empty(self) -> None:
        """Raises UsageError when the prefix holds anything."""
        if self._asked(lambda: self._system.find(self._out)):
            raise _taken(self._name)

    def put(self, folder: Path) -> None:
        """Upload all files, the manifest last; what went there is taken away again when one of them fails."""
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        done: list[str] = []
        try:
            for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
                done.append(name)
                here, there = str(folder / name), f"{self._out}/{name}"
                self._asked(partial(self._system.put_file, here, there))
        except BaseException:
            for name in done:
                with suppress(Exception):
                    self._system.rm_file(f"{self._out}/{name}")
            raise

    def _asked(self, access: Callable[[], Any]) -> Any:
        try:
            return self._guard(access)
        except Stopped as stopped:
            what, why = f"cannot write to {self._name}", f"{stopped.problem.why}; no export is there"
            raise StateError(Problem(code="E848", what=what, why=why, fix=stopped.problem.fix)) from None


def _s3() -> Any:
    module = importlib.import_module("s3fs")
    # The retries are ours.
    config = {"connect_timeout": CONNECT_S, "read_timeout": SILENCE_S, "retries": {"total_max_attempts": 1}}
    system = module.S3FileSystem(config_kwargs=config, skip_instance_cache=True, use_listings_cache=False)
    system.retries = 1
    return system


def _gcs() -> Any:
    # Not `gcsfs` itself, whose class asks for the kind of each bucket by gRPC first, which takes a minute to fail.
    module = importlib.import_module("gcsfs.core")
    credentials: Any = "anon"
    if not os.environ.get("STORAGE_EMULATOR_HOST"):
        scope = "https://www.googleapis.com/auth/devstorage.read_write"
        credentials, _ = importlib.import_module("google.auth").default(scopes=[scope])
    system = module.GCSFileSystem(
        token=credentials, access="read_write", skip_instance_cache=True, use_listings_cache=False
    )
    # Its tries are logged with tracebacks.
    plain = getattr(type(system)._request, "__wrapped__", None)
    if plain is not None:
        system._request = MethodType(plain, system)
    return system


_SYSTEMS: Final[Mapping[str, Callable[[], Any]]] = {"s3": _s3, "gs": _gcs}


def _taken(out: str) -> UsageError:
    return UsageError(
        Problem(
            code="E846",
            what=f"there is something at {out} already",
            why="an export never overwrites: somebody may use what is there",
            fix="choose another place with --out, or remove it",
        )
    )


def _unusable(what: str, why: str, fix: str) -> UsageError:
    return UsageError(Problem(code="E846", what=what, why=why, fix=fix))
