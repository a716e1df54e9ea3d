"""A place with rows, and the rows as they come from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

Kind = Literal["jsonl", "json", "csv", "tsv", "parquet", "hf"]
Packing = Literal["gzip", "zstd"]

_KINDS: Final[dict[str, Kind]] = {
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PACKINGS: Final[dict[str, Packing]] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}

#: For messages about names that say nothing.
SUFFIXES: Final = ".jsonl, .ndjson, .json, .csv, .tsv or .parquet, also with .gz or .zst"


class Block(NamedTuple):
    """Rows that follow each other in one place; at least one. Can be pickled."""

    #: The file as the user named it, for messages.
    file: str
    #: 1-based, one for each row: the line where it starts in text, the row in Parquet and in a data set of the hub.
    numbers: Sequence[int]
    #: JSON text of each row, UTF-8 without line end. From JSON as it stands in the file, neither parsed nor checked.
    rows: list[bytes]
    #: Bytes of the source read for this block. All blocks of a place together come to its size at most; where rows
    #: are not read from bytes of known number (the hub), the size of the rows.
    read: int


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine; its path may hold bytes that are not UTF-8, as Python's surrogates."""

    path: Path


@dataclass(frozen=True)
class RemoteFile:
    """An object behind fsspec. The address may hold a password or a signature."""

    scheme: str
    address: str = field(repr=False)
    #: The file system that found it; None when it was found in another process.
    system: Any = field(repr=False, compare=False)
    #: No credentials were found, so the requests are not signed.
    anonymous: bool = False

    def __reduce__(self) -> tuple[type["RemoteFile"], tuple[Any, ...]]:
        # Neither connections nor credentials travel: whoever reads it elsewhere uses those that are there.
        return RemoteFile, (self.scheme, self.address, None, self.anonymous)


@dataclass(frozen=True)
class HubSplit:
    """One split of one configuration of a data set of the Hugging Face hub; revision None is the newest."""

    repository: str
    config: str
    split: str
    revision: str | None = None


@dataclass(frozen=True)
class Place:
    """One file, object or data set with rows. Made by `places`. Can be pickled."""

    #: As the user named it, for messages; without passwords and signatures.
    file: str
    #: What its name promises; None when the name says nothing. `blocks` goes by the content.
    kind: Kind | None
    #: Bytes; None when it is not known before it is read.
    size: int | None
    source: LocalFile | RemoteFile | HubSplit
    #: How the name says that it is compressed; None when it does not.
    packing: Packing | None = None


def named(name: str) -> tuple[Kind | None, Packing | None]:
    """What a file's name promises: `rows.jsonl.gz` is ("jsonl", "gzip"). Case does not matter."""
    stem, packing = name.lower(), None
    for suffix, each in _PACKINGS.items():
        if stem.endswith(suffix):
            stem, packing = stem.removesuffix(suffix), each
            break
    _, dot, suffix = stem.rpartition(".")
    return _KINDS.get(dot + suffix), packing
