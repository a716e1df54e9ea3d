"""What a file is, by its name and by how its content begins.

Bytes that say themselves what they are win over a name that says another thing, with a warning. A name that promises
compression or Parquet where there is none is an error: such a file was damaged or cut, and its rows would be guessed.
"""

from typing import Final, NamedTuple

from finetune.data.sources.faults import BROKEN, NOT_TEXT, OTHER_NAME, Reading
from finetune.data.sources.place import SUFFIXES, Kind, Packing

BOM: Final = b"\xef\xbb\xbf"

_PARQUET: Final = b"PAR1"
_SPACE: Final = b" \t\r\n"
#: A NUL further down is told with its line: it may be one damaged row.
_SAMPLE_BYTES: Final = 64
_WORDS: Final[dict[Kind, str]] = {
    "jsonl": "JSON lines",
    "json": "JSON",
    "csv": "CSV",
    "tsv": "CSV with tabs",
    "parquet": "Parquet",
}


class _Foreign(NamedTuple):
    """A kind of file that is not read: how it begins, what it is, what to do."""

    offset: int
    magic: bytes
    what: str
    fix: str


_UTF_16: Final = "save it as UTF-8: iconv -f {} -t UTF-8 FILE > NEW"
_UNPACK: Final = "unpack it: {}"
_EXPORT: Final = "write its rows as JSON lines, CSV or Parquet"
#: The first that fits counts. Sources of the magics: the formats' own specifications and the `file` utility's list.
_FOREIGN: Final = (
    _Foreign(0, b"\xff\xfe\x00\x00", "UTF-32 text", _UTF_16.format("UTF-32")),
    _Foreign(0, b"\x00\x00\xfe\xff", "UTF-32 text", _UTF_16.format("UTF-32")),
    _Foreign(0, b"\xff\xfe", "UTF-16 text", _UTF_16.format("UTF-16")),
    _Foreign(0, b"\xfe\xff", "UTF-16 text", _UTF_16.format("UTF-16")),
    _Foreign(30, b"[Content_Types].xml", "an Office document", "save its sheet as CSV (UTF-8)"),
    _Foreign(0, b"PK\x03\x04", "a zip archive", _UNPACK.format("unzip FILE")),
    _Foreign(0, b"PK\x05\x06", "an empty zip archive", "name a file with rows"),
    _Foreign(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document", "save its sheet as CSV (UTF-8)"),
    _Foreign(257, b"ustar", "a tar archive", _UNPACK.format("tar -xf FILE")),
    _Foreign(0, b"BZh", "compressed with bzip2", _UNPACK.format("bunzip2 -k FILE")),
    _Foreign(0, b"\xfd7zXZ\x00", "compressed with xz", _UNPACK.format("unxz -k FILE")),
    _Foreign(0, b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK.format("unlz4 FILE")),
    _Foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK.format("7z x FILE")),
    _Foreign(0, b"Rar!\x1a\x07", "a rar archive", _UNPACK.format("unrar x FILE")),
    _Foreign(0, b"PARE", "an encrypted Parquet file", "write it without encryption"),
    _Foreign(0, b"ARROW1", "an Arrow file", _EXPORT),
    _Foreign(0, b"ORC", "an ORC file", _EXPORT),
    _Foreign(0, b"Obj\x01", "an Avro file", _EXPORT),
    _Foreign(0, b"SQLite format 3\x00", "an SQLite database", _EXPORT),
    _Foreign(0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    _Foreign(0, b"\x93NUMPY", "a NumPy array", _EXPORT),
    _Foreign(0, b"%PDF-", "a PDF document", _EXPORT),
)


def packing_of(head: bytes, promised: Packing | None, reading: Reading) -> Packing | None:
    """How content that begins with `head` is compressed. Raises Stopped when the name promises otherwise."""
    found = _packing(head)
    if promised and found != promised:
        real = f"It is compressed with {found}" if found else f"It is {_described(head)}"
        raise reading.stop(
            BROKEN,
            f"the name says {promised}, and the content is not compressed with it",
            real,
            f"copy it again, or compress it with `{promised}`, or change its name",
        )
    if found and not promised:
        suffix = {"gzip": ".gz", "zstd": ".zst"}[found]
        what, why = f"the file is compressed with {found}, and its name does not say so", "It is unpacked and read"
        reading.tell(OTHER_NAME, what, why, f"add {suffix} to its name", level="warning")
    return found


def kind_of(head: bytes, promised: Kind | None, reading: Reading) -> Kind:
    """What unpacked content that begins with `head` is. Raises Stopped when it is none of the kinds that are read."""
    if head.startswith(_PARQUET):
        return _announced("parquet", promised, reading)
    if promised == "parquet":
        why = f"It is {_described(head)}; it was cut, damaged or given a wrong name"
        raise reading.stop(BROKEN, "the file is not a Parquet file", why, "copy it again, or change its name")
    if foreign := _foreign(head):
        why = "ft reads JSON lines, JSON, CSV and Parquet, in UTF-8"
        raise reading.stop(NOT_TEXT, f"the file is {foreign.what}", why, foreign.fix)
    if not head.strip(_SPACE):
        return promised or "jsonl"
    looks = _looks(head.removeprefix(BOM).lstrip(_SPACE), promised)
    if looks is None and promised is None:
        why = "Its name does not say it, and it begins with neither { nor ["
        raise reading.stop(NOT_TEXT, "it is not clear what kind of file this is", why, f"name it {SUFFIXES}")
    return _announced(looks or promised or "jsonl", promised, reading)


def refuse_packed(head: bytes, reading: Reading) -> None:
    """Raises Stopped when unpacked content is compressed once more, or Parquet, which is read from its end."""
    if inner := _packing(head):
        why, fix = f"Its content is compressed with {inner}", "unpack it once"
        raise reading.stop(BROKEN, "the file is compressed twice", why, fix)
    if head.startswith(_PARQUET):
        why = "Parquet is compressed inside, and read from its end"
        raise reading.stop(
            NOT_TEXT, "the file is a compressed Parquet file", why, "unpack it and name the .parquet file"
        )


def _announced(found: Kind, promised: Kind | None, reading: Reading) -> Kind:
    """Say it when the content is another thing than the name says. That .json holds lines is common, and no fault."""
    if promised not in (None, found) and (promised, found) != ("json", "jsonl"):
        what = f"the file's content is {_WORDS[found]}, and its name says otherwise"
        reading.tell(OTHER_NAME, what, f"It is read as {_WORDS[found]}", "change its name", level="warning")
    return found


def _looks(text: bytes, promised: Kind | None) -> Kind | None:
    """JSON or JSON lines, by the first lines of a text; None when it is neither."""
    if text.startswith(b"["):
        return "json"
    if not text.startswith(b"{"):
        return None
    first, _, rest = text.partition(b"\n")
    first, rest = first.strip(_SPACE), rest.lstrip(_SPACE)
    if first == b"{":
        return "json"
    if promised == "json":
        return "jsonl" if first.endswith(b"}") and rest.startswith(b"{") else "json"
    return "jsonl"


def _packing(head: bytes) -> Packing | None:
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    # The second is a frame to be skipped, which some writers put first (RFC 8878, 3.1.2).
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    return None


def _foreign(head: bytes) -> _Foreign | None:
    for each in _FOREIGN:
        if head.startswith(each.magic, each.offset):
            return each
    return _with_zeros(head) if b"\0" in head[:_SAMPLE_BYTES] else None


def _with_zeros(head: bytes) -> _Foreign | None:
    """What it is instead of text, in which NUL never stands; None when it begins like JSON all the same."""
    if not head.strip(b"\0"):
        return _Foreign(0, b"", "nothing but NUL bytes", "copy it again: its content never reached the disk")
    sample = head[:_SAMPLE_BYTES]
    for start, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        if len(sample) >= 4 and not sample[start::2].strip(b"\0") and b"\0" not in sample[1 - start :: 2]:
            return _Foreign(0, b"", "UTF-16 text", _UTF_16.format(encoding))
    if sample.lstrip(_SPACE)[:1] in (b"{", b"["):
        return None
    return _Foreign(0, b"", "binary, no text", _EXPORT)


def _described(head: bytes) -> str:
    if not head:
        return "empty"
    if foreign := _foreign(head):
        return foreign.what
    return "a Parquet file" if head.startswith(_PARQUET) else "something else"
