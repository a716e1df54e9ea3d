"""An adapter out of the archive in which a provider hands it out: what PEFT needs of it, and nothing else.

Nothing in an archive decides where a file goes: two names are known, and only those are written.
"""

import gzip
import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, cast

from finetune.errors import Problem, ProviderError, StateError
from finetune.files import ADAPTER_FILES, sync, unwritable
from finetune.providers.weights import MOST_WEIGHTS, fault_of

CONFIG, WEIGHTS = ADAPTER_FILES
#: What may come out of an archive, bytes: a file that unpacks to more is no adapter.
_MOST: Final = {CONFIG: 1024 * 1024, WEIGHTS: MOST_WEIGHTS}
#: What an archive may have, bytes: those two, and room for the files that are left out (tokenizer, notes).
ARCHIVE_MOST: Final = sum(_MOST.values()) + 2**30
#: What `zstd` takes without `--long`; a frame that asks for more memory is refused.
_WINDOW_BYTES: Final = 128 * 1024 * 1024
_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
#: Kinds of entries that say something of the next one, and what such a one may have, bytes.
_HEADS: Final = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.SOLARIS_XHDTYPE}
)
_MOST_HEAD: Final = 1024 * 1024


class Unpacked(Exception):
    """Why an archive is no adapter. `lasting` says that another download would be the same."""

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        super().__init__(why)
        self.lasting = lasting


def present(folder: Path) -> bool:
    """Whether the folder has a whole adapter: the config is written last."""
    return all((folder / name).is_file() for name in ADAPTER_FILES)


def unpack(archive: Path, folder: Path) -> None:
    """Take the adapter out of a tar, plain or packed by gzip or zstd, and put it into `folder`, which exists.

    Raises Unpacked, StateError (the disk), ProviderError E412 (a package is missing).
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as name:
            there = Path(name)
            with _opened(archive) as stream:
                _take(stream, there)
            _check(there)
            for each in (WEIGHTS, CONFIG):
                sync(there / each)
                (there / each).replace(folder / each)
        sync(folder)
    except OSError as error:
        raise StateError(unwritable(folder, error)) from None


@contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    """The tar inside. Raises Unpacked for what breaks off while it is read."""
    with archive.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        try:
            if magic.startswith(_GZIP):
                with gzip.GzipFile(fileobj=file) as stream:
                    yield cast("IO[bytes]", stream)
            elif magic == _ZSTD:
                with _zstd(file) as stream:
                    yield stream
            else:
                yield file
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Unpacked(f"it breaks off or is damaged: {error}", lasting=False) from None


@contextmanager
def _zstd(file: IO[bytes]) -> Iterator[IO[bytes]]:
    try:
        import zstandard
    except ImportError:
        fix = "pip install 'ft-orchestrator[together]', where the workers run"
        what = "the package zstandard is not installed"
        raise ProviderError(
            Problem(code="E412", what=what, why="the adapter comes as a .tar.zst, which it unpacks", fix=fix)
        ) from None
    try:
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).stream_reader(
            file, read_across_frames=True
        ) as stream:
            yield stream
    except zstandard.ZstdError as error:
        raise Unpacked(f"it is damaged: {error}", lasting=False) from None


class _Member(tarfile.TarInfo):
    """An entry whose own heads are no larger than a head is: `tarfile` reads them whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """See `tarfile.TarInfo`."""
        made = super().frombuf(buf, encoding, errors)
        if made.type in _HEADS and made.size > _MOST_HEAD:
            raise Unpacked(f"one of its heads is {made.size} bytes, which none has")
        return made


def _take(stream: IO[bytes], there: Path) -> None:
    """Write the two files that make an adapter, whatever folder of the archive they are in."""
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise Unpacked(f"it has a file that would leave its folder: {member.name[:80]!r}")
            if path.name not in ADAPTER_FILES:
                continue
            if not member.isreg():
                raise Unpacked(f"its {path.name} is no plain file")
            if (there / path.name).exists():
                raise Unpacked(f"it has {path.name} twice")
            if member.size > _MOST[path.name]:
                raise Unpacked(f"its {path.name} is {member.size} bytes, which no adapter has")
            _copy(tar, member, there / path.name)


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    with into.open("wb") as file:
        shutil.copyfileobj(source, file, 1024 * 1024)
    if into.stat().st_size != member.size:
        raise Unpacked(f"its {into.name} breaks off", lasting=False)


def _check(there: Path) -> None:
    """Whether the two files are there and are what their names say. Raises Unpacked, OSError."""
    missing = [name for name in ADAPTER_FILES if not (there / name).is_file()]
    if missing:
        raise Unpacked(f"it has no {' and no '.join(missing)}")
    config = _object((there / CONFIG).read_bytes())
    if config is None or config.get("peft_type") != "LORA":
        raise Unpacked(f"its {CONFIG} is not that of a LoRA")
    if fault := fault_of(there / WEIGHTS):
        raise Unpacked(f"its {WEIGHTS} {fault}")


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
