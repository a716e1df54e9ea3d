"""gzip and zstd: unpacked on the way, and told when they are not what they seem or end too early."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.support.sources import MIB, Read, read

ROWS = [{"n": n, "text": f"row {n} " * 10} for n in range(20_000)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()

Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
packs = pytest.mark.parametrize(("suffix", "pack"), PACKS.items(), ids=list(PACKS))


def of(folder: Path, raw: bytes, name: str, target_bytes: int = 4 * MIB) -> Read:
    (folder / name).write_bytes(raw)
    return read(name, folder, target_bytes=target_bytes)


@packs
@pytest.mark.parametrize("target_bytes", [10_000, 4 * MIB])
def test_lines_in_a_packed_file(tmp_path: Path, suffix: str, pack: Pack, target_bytes: int) -> None:
    got = of(tmp_path, pack(TEXT), f"rows.jsonl{suffix}", target_bytes)

    assert got.rows == ROWS
    assert got.numbers == list(range(1, 20_001))
    assert got.problems == []
    assert sum(block.read for block in got.blocks) == (tmp_path / f"rows.jsonl{suffix}").stat().st_size
    assert got.places[0].packing == {".gz": "gzip", ".zst": "zstd"}[suffix]


@packs
@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("rows.json", b'[{"a": "1"},\n{"a": "2"}]'),
        ("rows.csv", b"a\n1\n2\n"),
        ("rows.tsv", b"a\n1\n2\n"),
        ("rows", b'{"a": "1"}\n{"a": "2"}'),
    ],
)
def test_other_kinds_in_a_packed_file(tmp_path: Path, suffix: str, pack: Pack, name: str, raw: bytes) -> None:
    got = of(tmp_path, pack(raw), name + suffix)

    assert got.rows == [{"a": "1"}, {"a": "2"}]
    assert got.problems == []


@packs
def test_parts_behind_each_other(tmp_path: Path, suffix: str, pack: Pack) -> None:
    assert of(tmp_path, pack(b'{"a": 1}\n{"b"') + pack(b"") + pack(b": 2}\n"), f"x.jsonl{suffix}").rows == [
        {"a": 1},
        {"b": 2},
    ]


def test_zeros_behind_a_gzip_file_are_filling(tmp_path: Path) -> None:
    got = of(tmp_path, gzip.compress(TEXT) + bytes(1024), "x.jsonl.gz")

    assert got.rows == ROWS
    assert got.problems == []


@packs
def test_a_packed_file_without_its_suffix_is_read_with_a_warning(tmp_path: Path, suffix: str, pack: Pack) -> None:
    got = of(tmp_path, pack(TEXT), "rows.jsonl")

    assert got.rows == ROWS
    assert got.warnings == ["E222"]
    assert suffix in got.problems[0].fix


@packs
@pytest.mark.parametrize("raw", [TEXT, b"", b"PK\x03\x04", bytes(100), "other"])
def test_a_suffix_without_its_packing_is_an_error(tmp_path: Path, suffix: str, pack: Pack, raw: bytes | str) -> None:
    other = next(each for name, each in PACKS.items() if name != suffix)

    got = of(tmp_path, raw if isinstance(raw, bytes) else other(TEXT), f"rows.jsonl{suffix}")

    assert got.blocks == []
    assert got.fault.code == "E223"
    assert "the name says" in got.fault.what


@packs
@pytest.mark.parametrize("left", [4, 6, 12, 1000, -8, -1])
def test_a_file_that_is_cut_off(tmp_path: Path, suffix: str, pack: Pack, left: int) -> None:
    got = of(tmp_path, pack(TEXT)[:left], f"rows.jsonl{suffix}")

    assert got.faults == [("E223", None)]
    assert "ends before its content" in got.fault.what
    assert got.rows == ROWS[: len(got.rows)]


def test_rows_before_the_cut_are_read(tmp_path: Path) -> None:
    assert len(of(tmp_path, gzip.compress(TEXT)[:-8], "rows.jsonl.gz").rows) == len(ROWS)


@packs
def test_a_second_part_that_is_cut_off(tmp_path: Path, suffix: str, pack: Pack) -> None:
    got = of(tmp_path, pack(TEXT) + pack(TEXT)[:100], f"rows.jsonl{suffix}")

    assert got.faults == [("E223", None)]


@packs
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_rows_before_the_cut_are_read_in_other_kinds(tmp_path: Path, suffix: str, pack: Pack, kind: str) -> None:
    text = (
        json.dumps(ROWS, indent=0) if kind == "json" else "n,text\n" + "".join(f"{r['n']},{r['text']}\n" for r in ROWS)
    )

    got = of(tmp_path, pack(text.encode())[:-9], f"rows.{kind}{suffix}")

    assert [code for code, _ in got.faults] == ["E223"]
    assert [int(row["n"]) for row in got.rows] == list(range(len(got.rows)))


@packs
@pytest.mark.parametrize("at", [20, 200, -6])
def test_a_damaged_file(tmp_path: Path, suffix: str, pack: Pack, at: int) -> None:
    raw = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(TEXT) if suffix == ".zst" else pack(TEXT))
    raw[at] ^= 0xFF
    if suffix == ".zst" and at == -6:
        raw[-1] ^= 0xFF

    got = of(tmp_path, bytes(raw), f"rows.jsonl{suffix}")

    assert "E223" in [code for code, _ in got.faults]


@packs
def test_something_behind_the_packing(tmp_path: Path, suffix: str, pack: Pack) -> None:
    got = of(tmp_path, pack(TEXT) + b"more than nothing", f"rows.jsonl{suffix}")

    assert got.faults == [("E223", None)]
    assert got.rows == ROWS


@packs
def test_a_file_that_is_packed_twice(tmp_path: Path, suffix: str, pack: Pack) -> None:
    got = of(tmp_path, pack(gzip.compress(TEXT)), f"rows.jsonl{suffix}")

    assert got.blocks == []
    assert got.faults == [("E223", None)]
    assert "twice" in got.fault.what


@packs
def test_packed_parquet_and_tar_are_told(tmp_path: Path, suffix: str, pack: Pack) -> None:
    assert "Parquet" in of(tmp_path, pack(b"PAR1" + TEXT), f"rows.parquet{suffix}").fault.what
    assert "tar" in of(tmp_path, pack(bytes(257) + b"ustar" + bytes(500)), f"rows.tar{suffix}").fault.what


def test_a_window_that_takes_too_much_memory(tmp_path: Path) -> None:
    options = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)

    got = of(tmp_path, zstandard.ZstdCompressor(compression_params=options).compress(TEXT * 200), "rows.jsonl.zst")

    assert got.faults == [("E223", None)]
    assert "--long" in got.fault.why


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)

    got = of(tmp_path, PACKS[".zst"](TEXT), "rows.jsonl.zst")

    assert got.faults == [("E234", None)]
    assert "ft-orchestrator[data]" in got.fault.fix
