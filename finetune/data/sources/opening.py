"""A file, open: its bytes in order or at any place, and whether it changed meanwhile."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

from finetune.data.sources.faults import MISSING, NO_FILE, UNREADABLE, Reading, Stopped
from finetune.data.sources.place import LocalFile
from finetune.data.sources.streams import Stream

T = TypeVar("T")


class Guard(Protocol):
    """Runs one access to a source."""

    def __call__(self, access: Callable[[], T], /) -> T:
        """What `access` returns. Raises Stopped in place of the errors of the source."""


class Source:
    """An open source. Its errors come as Stopped."""

    def __init__(
        self, file: Any, guard: Guard, changed: Callable[[], bool], seekable: Callable[[], Any] | None = None
    ) -> None:
        """`changed` says whether somebody wrote to the source since it was opened.

        `seekable` opens the source once more, to seek in; without it, `file` can.
        """
        self._guard = guard
        self._guarded = _Guarded(file, guard)
        self._seekable = seekable
        self._changed = changed

    def stream(self) -> Stream:
        """Its bytes from where it stands."""
        return Stream(self._guarded)

    def handle(self) -> io.RawIOBase:
        """It as a file to seek in, for the libraries that read from the end. Raises Stopped."""
        return _Guarded(self._guard(self._seekable), self._guard) if self._seekable else self._guarded

    def changed(self) -> bool:
        """True when it was written to since it was opened. Raises Stopped."""
        return self._changed()


class _Guarded(io.RawIOBase):
    """A file whose errors are ours."""

    def __init__(self, file: Any, guard: Guard) -> None:
        self._file = file
        self._guard = guard

    def read(self, size: int = -1, /) -> bytes:
        out: bytes = self._guard(lambda: self._file.read(size))
        return out

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        at: int = self._guard(lambda: self._file.seek(offset, whence))
        return at

    def tell(self) -> int:
        at: int = self._file.tell()
        return at


#: What a path leads to, when it is no file; None is for all others.
_KINDS: Final[dict[int | None, tuple[str, str, str]]] = {
    stat.S_IFDIR: ("is a folder", "A file is needed here", "name a file in it"),
    stat.S_IFIFO: ("is a pipe", "It can be read only once, and ft reads data more than once", "write it to a file"),
    stat.S_IFSOCK: ("is a socket", "Nothing can be read from its name", "name a file"),
    None: ("is a device", "It has no end, and no rows", "name a file"),
}


def checked(file: LocalFile, reading: Reading) -> int:
    """The size of a file in bytes, without opening it. Raises Stopped when it is missing or no file."""
    return _regular(_asked(lambda: os.stat(file.path), reading), reading).st_size


@contextmanager
def opened(file: LocalFile, reading: Reading) -> Iterator[Source]:
    """A file of this machine, open; never waits for the writer of a pipe. Raises Stopped."""
    # A socket cannot be opened and a device may act on it, so look first; what is there may change before it is opened.
    checked(file, reading)
    raw = _asked(lambda: open(file.path, "rb", buffering=0, opener=_without_waiting), reading)
    with raw:
        _regular(os.fstat(raw.fileno()), reading)

        def guard(access: Callable[[], T], /) -> T:
            return _asked(access, reading)

        def state() -> tuple[int, int]:
            now = os.fstat(raw.fileno())
            return now.st_size, now.st_mtime_ns

        before = state()
        yield Source(raw, guard, lambda: state() != before)


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)


def _regular(found: os.stat_result, reading: Reading) -> os.stat_result:
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFREG:
        return found
    what, why, fix = _KINDS.get(kind, _KINDS[None])
    raise reading.stop(NO_FILE, f"`{reading.file}` {what}", why, fix)


def _asked(access: Callable[[], T], reading: Reading) -> T:
    try:
        return access()
    except (FileNotFoundError, NotADirectoryError):
        raise missing(reading) from None
    except (OSError, ValueError) as error:
        raise unreadable(reading, error) from None


def missing(reading: Reading) -> Stopped:
    """The path leads nowhere."""
    fix = "check the path; it starts at the recipe's folder"
    return reading.stop(MISSING, f"there is no file `{reading.file}`", "", fix)


def unreadable(reading: Reading, error: Exception) -> Stopped:
    """The system does not let us read what is there."""
    why = getattr(error, "strerror", None) or "The name is not one that a file can have"
    return reading.stop(UNREADABLE, f"`{reading.file}` cannot be read", why, "check that you may read it")
