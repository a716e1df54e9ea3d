"""One prefix of a bucket, by fsspec: `s3://` and `gs://`. Three tries, time-outs, no secret in a message."""

import errno
import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MethodType
from typing import Any, Final

from finetune.data.sources.faults import UNREACHABLE, Reading, Stopped
from finetune.data.sources.remote import shown
from finetune.data.sources.tries import CONNECT_S, SILENCE_S, Guard

#: What only a disk says; permissions are asked for before anything is downloaded.
_OF_THE_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Refused(Exception):
    """The bucket did not do it. The arguments are why, and the fix. `again`: the same may go well later."""

    def __init__(self, why: str, fix: str, *, again: bool = False) -> None:
        super().__init__(why, fix)
        self.why, self.fix, self.again = why, fix, again


class NoPlace(Exception):
    """The address cannot be used at all. The arguments are what, why, and the fix."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.what, self.why, self.fix = what, why, fix


class DiskRefused(Exception):
    """This machine's disk did not take what came. The argument is the OSError."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An object of a bucket, as a list shows it."""

    bytes: int
    #: When it was last written, by the bucket's clock.
    at: datetime


class Bucket:
    """What lies below `SCHEME://BUCKET/PREFIX`; names are relative to it. Every method blocks, and raises Refused."""

    def __init__(self, address: str) -> None:
        """Asks nobody. Raises NoPlace; Refused where there are no credentials."""
        self._address, self.name = address.rstrip("/"), shown(address)
        scheme = address.partition("://")[0].lower()
        if scheme not in _SYSTEMS:
            fix = f"write a path, or one of {', '.join(f'{name}://' for name in _SYSTEMS)}"
            raise NoPlace(f"ft does not write to {scheme}://", "it knows no such place", fix)
        self._bucket, _, prefix = self._address.partition("://")[2].partition("/")
        if not self._bucket or not prefix or "@" in self._bucket:
            why = "a bucket and a prefix are needed, and no credentials: ft uses those of the environment"
            raise NoPlace(f"{self.name} is no prefix of a bucket", why, f"write {scheme}://bucket/models/support-bot")
        try:
            self._guard = Guard(scheme, False, Reading(self.name, lambda problem: None, 0))
            self._system = self._asked(_SYSTEMS[scheme])
        except ImportError:
            fix = "pip install 'ft-orchestrator[data]'"
            raise NoPlace(f"{scheme}:// needs the extra `data`", "it is not installed here", fix) from None

    def reach(self) -> None:
        """Ask whether the bucket is there and answers to these credentials."""
        self._asked(lambda: self._system.find(f"{self._address}/{_NOBODYS}"))

    def names(self) -> list[str]:
        """All that lies there, sorted."""
        return sorted(self.entries())

    def entries(self) -> dict[str, Entry]:
        """The same, with size and time. One question for each thousand objects."""
        below = f"{self._address.partition('://')[2]}/"
        found = self._asked(lambda: self._system.find(self._address, detail=True))
        return {str(path).removeprefix(below): _entry(told) for path, told in found.items()}

    def read(self, name: str) -> bytes | None:
        """A small object's bytes; None when it is not there."""

        def look() -> bytes | None:
            try:
                return bytes(self._system.cat_file(f"{self._address}/{name}"))
            except FileNotFoundError:
                return None

        found: bytes | None = self._asked(look)
        return found

    def upload(self, here: Path, name: str) -> None:
        """Write an object, in place of what is there."""
        self._asked(lambda: self._system.put_file(str(here), f"{self._address}/{name}"))

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a small object of JSON."""
        raw = (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
        self._asked(lambda: self._system.pipe_file(f"{self._address}/{name}", raw))

    def download(self, name: str, here: Path) -> None:
        """Write the object's bytes into the file `here`, whose folder is there. Raises DiskRefused too."""

        def load() -> None:
            try:
                self._system.get_file(f"{self._address}/{name}", str(here))
            except OSError as error:
                if error.errno in _OF_THE_DISK:
                    raise DiskRefused(error) from None
                raise

        self._asked(load)

    def remove(self, name: str) -> None:
        """Remove an object. Silent when it is not there."""

        def take() -> None:
            try:
                self._system.rm_file(f"{self._address}/{name}")
            except FileNotFoundError:
                return

        self._asked(take)

    def _asked(self, access: Callable[[], Any]) -> Any:
        try:
            return self._guard(access)
        except Stopped as stopped:
            problem = stopped.problem
            raise Refused(problem.why, problem.fix, again=problem.code == UNREACHABLE) from None


def _entry(told: Mapping[str, Any]) -> Entry:
    # The first is what S3 says, the second what Google does.
    return Entry(bytes=int(told["size"]), at=told["LastModified"] if "LastModified" in told else told["mtime"])


#: A name that nothing has: listing it is the smallest question to which a bucket has to answer.
_NOBODYS: Final = "ft-doctor"


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
