"""JSON lines: cut at line feeds as they stand, whatever pieces the file is read in."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sources import MIB, Read, read


def of(folder: Path, raw: bytes, target_bytes: int = 4 * MIB) -> Read:
    (folder / "rows.jsonl").write_bytes(raw)
    return read("rows.jsonl", folder, target_bytes=target_bytes)


@pytest.mark.parametrize("target_bytes", [1, 7, 64, MIB])
def test_rows_come_as_they_stand(tmp_path: Path, target_bytes: int) -> None:
    got = of(tmp_path, b'{"a": 1}\n{ "b":\t2 }\n{"c": "\xc3\xa9"}\n', target_bytes)

    assert got.raw == [b'{"a": 1}', b'{ "b":\t2 }', b'{"c": "\xc3\xa9"}']
    assert got.numbers == [1, 2, 3]
    assert {block.file for block in got.blocks} == {"rows.jsonl"}
    assert sum(block.read for block in got.blocks) == (tmp_path / "rows.jsonl").stat().st_size
    assert got.problems == []


def test_rows_are_not_parsed(tmp_path: Path) -> None:
    assert of(tmp_path, b'{"a": \nnonsense\n{"messages": [\n').raw == [b'{"a": ', b"nonsense", b'{"messages": [']


def test_a_row_at_the_end_needs_no_line_feed(tmp_path: Path) -> None:
    assert of(tmp_path, b'{"a": 1}\n{"b": 2').raw == [b'{"a": 1}', b'{"b": 2']


@pytest.mark.parametrize("target_bytes", [5, MIB])
def test_blank_lines_are_left_out_and_counted(tmp_path: Path, target_bytes: int) -> None:
    got = of(tmp_path, b'\n{"a": 1}\n \t\n\r\n\n{"b": 2}\n\n', target_bytes)

    assert got.raw == [b'{"a": 1}', b'{"b": 2}']
    assert got.numbers == [2, 6]


def test_numbers_that_follow_each_other_are_a_range(tmp_path: Path) -> None:
    (block,) = of(tmp_path, b"{}\n" * 1000).blocks

    assert block.numbers == range(1, 1001)


@pytest.mark.parametrize("raw", [b"", b"\n\n", b" \n\t", b"\xef\xbb\xbf"])
def test_a_file_without_rows_gives_none(tmp_path: Path, raw: bytes) -> None:
    got = of(tmp_path, raw)

    assert got.blocks == []
    assert got.faults == []


@pytest.mark.parametrize("target_bytes", [2, MIB])
def test_windows_files_are_read_with_warnings(tmp_path: Path, target_bytes: int) -> None:
    got = of(tmp_path, b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"b": 2}\r\n{"c": 3}', target_bytes)

    assert got.raw == [b'{"a": 1}', b'{"b": 2}', b'{"c": 3}']
    assert got.numbers == [1, 3, 4]
    assert got.warnings == ["E218", "E218"]
    assert "3 lines" in got.problems[1].what


def test_a_carriage_return_within_a_row_is_white_space(tmp_path: Path) -> None:
    got = of(tmp_path, b'{"a":\r1}\n')

    assert got.rows == [{"a": 1}]
    assert got.problems == []


@pytest.mark.parametrize("target_bytes", [3, MIB])
def test_a_file_of_an_old_mac_is_told_once(tmp_path: Path, target_bytes: int) -> None:
    got = of(tmp_path, b'{"a": 1}\r{"b": 2}\r{"c": 3}\r', target_bytes)

    assert got.faults == [("E205", 1)]
    assert "carriage returns" in got.fault.what
    assert "tr " in got.fault.fix


def test_a_large_file_of_an_old_mac_is_not_called_a_long_line(tmp_path: Path) -> None:
    got = of(tmp_path, b'{"a": 1}\r' * (2 * MIB))

    assert got.faults == [("E205", 1)]
    assert "carriage returns" in got.fault.what


@pytest.mark.parametrize("target_bytes", [3, MIB])
def test_a_line_in_another_encoding_is_left_out(tmp_path: Path, target_bytes: int) -> None:
    got = of(tmp_path, '{"a": "é"}\n'.encode() + b'{"m": "\xe9"}\n{"b": 2}\n', target_bytes)

    assert got.rows == [{"a": "é"}, {"b": 2}]
    assert got.numbers == [1, 3]
    assert (got.fault.code, got.fault.line, got.fault.column) == ("E205", 2, 8)
    assert "0xe9" in got.fault.why


def test_a_character_on_the_edge_of_two_pieces_is_whole(tmp_path: Path) -> None:
    text = ('{"a": "' + "é" * 200_000 + '"}\n') * 2

    assert of(tmp_path, text.encode(), 65537).raw == [line.encode() for line in text.splitlines()]


@pytest.mark.parametrize("target_bytes", [3, MIB])
def test_a_line_with_nul_is_told_and_left_out(tmp_path: Path, target_bytes: int) -> None:
    got = of(tmp_path, b'{"a": "' + b"x" * 100 + b'"}\n{"b": "\0"}\n{"c": 3}\n' + b"\0" * 5000, target_bytes)

    assert got.numbers == [1, 3]
    assert got.faults == [("E205", 2), ("E205", 4)]


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_over_the_limit_is_told_and_passed_over(tmp_path: Path, end: bytes) -> None:
    got = of(tmp_path, b'{"a": 1}\n' + b"x" * (40 * MIB) + end)

    assert got.numbers == [1]
    assert got.faults == [("E206", 2)]


def test_the_line_after_a_long_one_is_read(tmp_path: Path) -> None:
    got = of(tmp_path, b"x" * (17 * MIB) + b'\n{"a": 1}\n')

    assert got.rows == [{"a": 1}]
    assert got.numbers == [2]
    assert got.faults == [("E206", 1)]


def test_a_line_at_the_limit_is_read(tmp_path: Path) -> None:
    row = b'"' + b"x" * (16 * MIB - 2) + b'"'

    got = of(tmp_path, b"{}\n" + row + b"\n" + row + b"x\n")

    assert got.raw == [b"{}", row]
    assert got.faults == [("E206", 3)]


def test_a_single_line_of_one_gibibyte(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "rows.jsonl.gz", "wb", 1) as file:
        file.write(b'{"a": "')
        for _ in range(1024):
            file.write(b"x" * MIB)

    got = read("rows.jsonl.gz", tmp_path)

    assert got.blocks == []
    assert got.faults == [("E206", 1)]


rows = st.lists(
    st.sampled_from([b'{"a": 1}', '{"é": "ü"}'.encode(), b"", b" ", b"x", b'{"m": "\xe9"}', b"{}\r", b"\0"]), max_size=8
)


@settings(max_examples=200, deadline=None)
@given(rows=rows, target_bytes=st.integers(1, 40))
def test_the_size_of_the_pieces_does_not_matter(
    rows: list[bytes], target_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()

    whole, cut = of(folder, b"\n".join(rows)), of(folder, b"\n".join(rows), target_bytes)

    assert (cut.raw, cut.numbers, cut.problems) == (whole.raw, whole.numbers, whole.problems)


def test_what_is_not_a_json_row_keeps_its_line(tmp_path: Path) -> None:
    got = of(tmp_path, b"".join(json.dumps({"n": n}).encode() + b"\n" for n in range(5000)), 1000)

    assert [row["n"] + 1 for row in got.rows] == got.numbers
    assert len(got.blocks) > 50
