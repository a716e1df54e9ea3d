"""What a file is: by its name, and against its content."""

import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from finetune.data.sources import places
from tests.support.sources import Read, read

LINES = b'{"a": "1"}\n{"a": "2"}\n'
LIST = b'[{"a": "1"},\n{"a": "2"}]'
PRETTY = b'{\n "a": "1"\n}\n{\n "a": "2"\n}\n'
CSV = b"a\n1\n2\n"
ROWS = [{"a": "1"}, {"a": "2"}]


def of(folder: Path, raw: bytes, name: str) -> Read:
    (folder / name).write_bytes(raw)
    return read(name, folder)


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


def archive(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(name, LINES)
    return out.getvalue()


def arrow() -> bytes:
    out = io.BytesIO()
    pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "packing"),
    [
        ("rows.jsonl", "jsonl", None),
        ("ROWS.NDJSON", "jsonl", None),
        ("rows.jsonlines", "jsonl", None),
        ("rows.json", "json", None),
        ("rows.csv", "csv", None),
        ("rows.tsv", "tsv", None),
        ("rows.tab", "tsv", None),
        ("rows.parquet", "parquet", None),
        ("rows.pq", "parquet", None),
        ("rows.v2.jsonl.gz", "jsonl", "gzip"),
        ("rows.csv.ZST", "csv", "zstd"),
        ("rows.txt", None, None),
        ("rows", None, None),
        ("rows.gz", None, "gzip"),
        ("jsonl", None, None),
    ],
)
def test_what_a_name_promises(tmp_path: Path, name: str, kind: str | None, packing: str | None) -> None:
    (tmp_path / name).write_bytes(LINES)

    (place,) = places(name, tmp_path, fetch=False, found=lambda _: None)

    assert (place.file, place.kind, place.packing, place.size) == (name, kind, packing, len(LINES))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("rows", LINES),
        ("rows.txt", LIST),
        ("rows.txt", b"\n\n" + LIST),
        ("rows.data", PRETTY),
        ("rows.json", LINES),
        ("rows.json", b"\xef\xbb\xbf" + LINES),
        ("rows.json", b"  \n" + PRETTY),
        ("rows.json", b'{"a":\n"1"}{"a": "2"}'),
        ("rows.json", b'{"a": "1"}{"a": "2"}'),
    ],
)
def test_content_that_fits_the_name(tmp_path: Path, name: str, raw: bytes) -> None:
    got = of(tmp_path, raw, name)

    assert got.rows == ROWS
    assert [code for code in got.warnings if code != "E218"] == []


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("rows.jsonl", LIST, "JSON,"),
        ("rows.jsonl", PRETTY, "JSON,"),
        ("rows.jsonl", parquet(), "Parquet,"),
        ("rows.json", parquet(), "Parquet,"),
        ("rows.csv", LINES, "JSON lines,"),
        ("rows.csv", LIST, "JSON,"),
        ("rows.tsv", PRETTY, "JSON,"),
        ("rows.csv", parquet(), "Parquet,"),
    ],
)
def test_content_that_says_what_it_is_wins_with_a_warning(tmp_path: Path, name: str, raw: bytes, said: str) -> None:
    got = of(tmp_path, raw, name)

    assert got.rows == ROWS
    assert got.warnings == ["E222"]
    assert f"content is {said}" in got.problems[0].what


def test_parquet_without_a_name_is_read(tmp_path: Path) -> None:
    assert of(tmp_path, parquet(), "rows").rows == ROWS


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows"])
@pytest.mark.parametrize(
    ("raw", "said", "fix"),
    [
        (archive("rows.jsonl"), "zip", "unzip"),
        (archive("[Content_Types].xml"), "Office", "CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "Office", "CSV"),
        (bytes(257) + b"ustar" + bytes(500), "tar", "tar -xf"),
        (b"BZh91AY&SY", "bzip2", "bunzip2"),
        (b"\xfd7zXZ\x00\x00", "xz", "unxz"),
        (b"7z\xbc\xaf\x27\x1c\x00", "7z", "7z"),
        (b"SQLite format 3\x00", "SQLite", "JSON lines"),
        (b"%PDF-1.7\n", "PDF", "JSON lines"),
        (b"\x89HDF\r\n\x1a\n", "HDF5", "JSON lines"),
        (arrow(), "Arrow", "Parquet"),
        (bytes(5000), "NUL", "copy"),
        (b"\x01\x02\x00\xff\xfe" * 100, "binary", "JSON lines"),
        (LINES.decode().encode("utf-16"), "UTF-16", "iconv -f UTF-16 -t UTF-8"),
        (LINES.decode().encode("utf-16-be"), "UTF-16", "iconv -f UTF-16BE"),
        (LINES.decode().encode("utf-16-le"), "UTF-16", "iconv -f UTF-16LE"),
        (LINES.decode().encode("utf-32"), "UTF-32", "iconv -f UTF-32"),
    ],
)
def test_a_file_of_another_kind_is_told_as_what_it_is(
    tmp_path: Path, name: str, raw: bytes, said: str, fix: str
) -> None:
    got = of(tmp_path, raw, name)

    assert got.blocks == []
    assert got.faults == [("E205", None)]
    assert said in got.fault.what
    assert fix in got.fault.fix


def test_a_file_that_could_be_anything(tmp_path: Path) -> None:
    got = of(tmp_path, b"hello, world\n", "rows.txt")

    assert got.faults == [("E205", None)]
    assert ".jsonl" in got.fault.fix


@pytest.mark.parametrize("name", ["rows", "rows.jsonl", "rows.json", "rows.csv"])
@pytest.mark.parametrize("raw", [b"", b"\n \n"])
def test_an_empty_file_has_no_rows_and_no_fault(tmp_path: Path, name: str, raw: bytes) -> None:
    got = of(tmp_path, raw, name)

    assert got.blocks == []
    assert got.problems == []


def test_nul_in_the_first_line_of_json_is_told_with_it(tmp_path: Path) -> None:
    got = of(tmp_path, b'{"a": "\0\0\0"}\n' + LINES, "rows.jsonl")

    assert got.faults == [("E205", 1)]
    assert got.rows == ROWS
