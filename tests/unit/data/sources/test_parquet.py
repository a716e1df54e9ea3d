"""Parquet: nested rows as JSON, and columns that JSON has no value for."""

import datetime as dt
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.sources import MIB, Read, read

NOON = dt.datetime(2026, 11, 24, 12, 0, 0, 5)


def of(folder: Path, table: pa.Table, target_bytes: int = 4 * MIB, **options: Any) -> Read:
    pq.write_table(table, folder / "rows.parquet", **options)
    return read("rows.parquet", folder, target_bytes=target_bytes)


def column(values: list[Any], kind: pa.DataType) -> pa.Table:
    return pa.table({"c": pa.array(values, kind)})


def test_nested_rows(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": None}], "n": 1, "x": 0.5},
        {"messages": None, "n": None, "x": -1.0},
        {"messages": [], "n": 2**62, "x": None},
    ]

    got = of(tmp_path, pa.Table.from_pylist(rows))

    assert got.rows == rows
    assert got.numbers == [1, 2, 3]
    assert got.problems == []
    assert (got.places[0].kind, got.files) == ("parquet", ["rows.parquet"])


def test_blocks_over_row_groups(tmp_path: Path) -> None:
    rows = [{"n": n, "text": f"{n} " * 50} for n in range(20_000)]

    got = of(tmp_path, pa.Table.from_pylist(rows), 100_000, row_group_size=3000)

    assert got.rows == rows
    assert got.numbers == list(range(1, 20_001))
    assert len(got.blocks) > 30
    assert all(isinstance(block.numbers, range) for block in got.blocks)
    assert sum(block.read for block in got.blocks) == (tmp_path / "rows.parquet").stat().st_size


@pytest.mark.parametrize("rows", [0, 1])
def test_small_files(tmp_path: Path, rows: int) -> None:
    assert of(tmp_path, column(["a"] * rows, pa.string())).rows == [{"c": "a"}] * rows


@pytest.mark.parametrize(
    ("values", "kind", "read_as"),
    [
        (["a", None], pa.large_string(), ["a", None]),
        ([True, None], pa.bool_(), [True, None]),
        ([None, None], pa.null(), [None, None]),
        ([1.5, float("nan"), float("inf")], pa.float64(), [1.5, None, None]),
        ([1.5], pa.float32(), [1.5]),
        ([2**64 - 1], pa.uint64(), [2**64 - 1]),
        ([NOON, None], pa.timestamp("us"), ["2026-11-24T12:00:00.000005", None]),
        ([NOON], pa.timestamp("ns"), ["2026-11-24T12:00:00.000005"]),
        ([NOON], pa.timestamp("us", tz="Europe/Berlin"), ["2026-11-24T13:00:00.000005+01:00"]),
        ([NOON.date()], pa.date32(), ["2026-11-24"]),
        ([NOON.time()], pa.time64("us"), ["12:00:00.000005"]),
        ([["a"], None, []], pa.list_(pa.string()), [["a"], None, []]),
        ([["a", "b"]], pa.list_(pa.string(), 2), [["a", "b"]]),
        ([[{"t": NOON}]], pa.list_(pa.struct([("t", pa.timestamp("ns"))])), [[{"t": "2026-11-24T12:00:00.000005"}]]),
        (["a", "b", "a"], pa.dictionary(pa.int8(), pa.string()), ["a", "b", "a"]),
    ],
)
def test_values_with_one_meaning_in_json(
    tmp_path: Path, values: list[Any], kind: pa.DataType, read_as: list[Any]
) -> None:
    got = of(tmp_path, column(values, kind))

    assert [row["c"] for row in got.rows] == read_as
    assert got.problems == []


def test_json_text_is_put_in_as_json(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("x", pa.json_())]))
    text = pa.array(['{"y": [1]}', None], pa.string())
    table = pa.table({"a": pa.ExtensionArray.from_storage(pa.json_(), text)})
    schema = pa.schema([("a", pa.json_()), ("b", kind)])
    pq.write_table(table, tmp_path / "rows.parquet")

    assert read("rows.parquet", tmp_path).rows == [{"a": {"y": [1]}}, {"a": None}]
    assert schema.names == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "kind", "field", "said"),
    [
        ([decimal.Decimal("1.5")], pa.decimal128(5, 2), "c", "decimal128(5, 2)"),
        ([b"x"], pa.binary(), "c", "binary"),
        ([b"xx"], pa.binary(2), "c", "fixed_size_binary"),
        ([dt.timedelta(1)], pa.duration("us"), "c", "duration"),
        ([[("k", 1)]], pa.map_(pa.string(), pa.int64()), "c", "map"),
        ([[{"x": b"x"}]], pa.list_(pa.struct([("x", pa.binary())])), "c[].x", "binary"),
    ],
)
def test_a_column_without_a_meaning_in_json_is_an_error(
    tmp_path: Path, values: list[Any], kind: pa.DataType, field: str, said: str
) -> None:
    got = of(tmp_path, column(values, kind))

    assert got.blocks == []
    assert (got.fault.code, got.fault.field) == ("E228", field)
    assert said in got.fault.what


def test_all_such_columns_are_told(tmp_path: Path) -> None:
    got = of(tmp_path, pa.table({"a": [b"x"], "b": ["y"], "c": [decimal.Decimal(1)]}))

    assert [each.field for each in got.problems] == ["a", "c"]


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    got = of(tmp_path, pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))

    assert "more than once" in got.fault.what


def test_a_date_that_python_does_not_know(tmp_path: Path) -> None:
    got = of(tmp_path, column([2**61], pa.timestamp("us")))

    assert got.faults == [("E228", 1)]


def test_a_row_over_the_limit_is_left_out(tmp_path: Path) -> None:
    got = of(tmp_path, column(["a", "x" * (17 * MIB), "b"], pa.string()))

    assert got.numbers == [1, 3]
    assert got.faults == [("E206", 2)]
    assert "row" in got.fault.what


def broken(folder: Path, keep: slice, put: bytes = b"") -> Read:
    pq.write_table(column([f"text {n}" for n in range(5000)], pa.string()), folder / "rows.parquet")
    raw = (folder / "rows.parquet").read_bytes()
    (folder / "rows.parquet").write_bytes(raw[keep] + put)
    return read("rows.parquet", folder)


@pytest.mark.parametrize("keep", [slice(0, -1), slice(0, -100), slice(0, 4), slice(0, 3), slice(1, None), slice(0, 0)])
def test_a_part_of_a_file(tmp_path: Path, keep: slice) -> None:
    got = broken(tmp_path, keep)

    assert got.blocks == []
    assert got.fault.code == "E223"


def test_a_damaged_page(tmp_path: Path) -> None:
    pq.write_table(column([f"text {n}" for n in range(50_000)], pa.string()), tmp_path / "rows.parquet")
    raw = bytearray((tmp_path / "rows.parquet").read_bytes())
    raw[200:5000] = bytes(4800)
    (tmp_path / "rows.parquet").write_bytes(bytes(raw))

    assert read("rows.parquet", tmp_path).fault.code in ("E223", "E205")


def test_a_text_that_is_not_utf8(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])

    assert of(tmp_path, pa.table({"c": text})).faults == [("E205", 1)]


def test_rows_are_json(tmp_path: Path) -> None:
    got = of(tmp_path, pa.table({'a"\n': ['\u2028\0"\\']}))

    assert json.loads(got.raw[0]) == {'a"\n': '\u2028\0"\\'}
    assert b"\n" not in got.raw[0]
