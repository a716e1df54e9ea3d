"""CSV and TSV: a header, then rows of texts, whose faults are told with their line."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sources import MIB, Read, read


def of(folder: Path, raw: bytes | str, name: str = "rows.csv", target_bytes: int = 4 * MIB) -> Read:
    (folder / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return read(name, folder, target_bytes=target_bytes)


def test_rows_are_objects_of_texts(tmp_path: Path) -> None:
    got = of(tmp_path, 'prompt,completion,n\nhello,"a, b",1\n"say ""hi""\nplease",é,\n\nend,,null\n')

    assert got.rows == [
        {"prompt": "hello", "completion": "a, b", "n": "1"},
        {"prompt": 'say "hi"\nplease', "completion": "é", "n": ""},
        {"prompt": "end", "completion": "", "n": "null"},
    ]
    assert got.numbers == [2, 3, 6]
    assert got.problems == []


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_delimiter_is_the_one_of_the_header(tmp_path: Path, mark: str) -> None:
    got = of(tmp_path, f'a{mark}b{mark}"c,;"\n1{mark}"x{mark}y"{mark}"3,4;5"\n')

    assert got.rows == [{"a": "1", "b": f"x{mark}y", "c,;": "3,4;5"}]


def test_tsv_has_tabs(tmp_path: Path) -> None:
    assert of(tmp_path, "a,b\tc;d;e\n1\t2\n", "rows.tsv").rows == [{"a,b": "1", "c;d;e": "2"}]


def test_one_column_is_enough(tmp_path: Path) -> None:
    assert of(tmp_path, "text\nhello\n\nyou; there\n").rows == [{"text": "hello"}, {"text": "you; there"}]


def test_json_in_a_cell_stays_text(tmp_path: Path) -> None:
    assert of(tmp_path, 'messages\n"[{""role"": ""user""}]"\n').rows == [{"messages": '[{"role": "user"}]'}]


def test_names_of_columns_lose_the_space_around_them(tmp_path: Path) -> None:
    assert of(tmp_path, "a, b ,c\n1, 2 ,3\n").rows == [{"a": "1", "b": " 2 ", "c": "3"}]


def test_marks_of_windows_are_normal_in_csv(tmp_path: Path) -> None:
    got = of(tmp_path, b'\xef\xbb\xbfa,b\r\n1,"x\r\ny"\r\n3,4\r\n')

    assert got.rows == [{"a": "1", "b": "x\r\ny"}, {"a": "3", "b": "4"}]
    assert got.numbers == [2, 4]
    assert got.problems == []


@pytest.mark.parametrize("raw", ["", "\n\n", "a,b\n", "a,b"])
def test_a_file_without_rows_gives_none(tmp_path: Path, raw: str) -> None:
    got = of(tmp_path, raw)

    assert got.blocks == []
    assert got.problems == []


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("a,,c", "column 2 has no name"),
        (",prompt,completion", "column 1 has no name"),
        ("a,b, a", "`a` is there 2 times"),
        ('a,"b', "not closed"),
    ],
)
def test_a_broken_header_ends_the_reading(tmp_path: Path, header: str, said: str) -> None:
    got = of(tmp_path, f"\n{header}\n1,2,3\n")

    assert got.blocks == []
    assert got.fault.line == 2
    assert said in got.fault.what


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,2,3", "3 cells, and there are 2 columns"),
        ("1", "1 cells, and there are 2 columns"),
        ('"a"b,c', "behind a closing quote"),
        ("a\rb,c", "lone carriage return"),
    ],
)
def test_a_broken_row_is_told_and_left_out(tmp_path: Path, row: str, said: str) -> None:
    got = of(tmp_path, f'a,b\n"x\ny",2\n{row}\n3,4\n')

    assert got.rows == [{"a": "x\ny", "b": "2"}, {"a": "3", "b": "4"}]
    assert got.faults == [("E227", 4)]
    assert said in got.fault.what


def test_a_quote_that_is_not_closed(tmp_path: Path) -> None:
    got = of(tmp_path, 'a,b\n1,2\n3,"4\n5,6\n')

    assert got.rows == [{"a": "1", "b": "2"}]
    assert got.faults == [("E227", 3)]
    assert "not closed" in got.fault.what


def test_a_row_without_end_is_given_up(tmp_path: Path) -> None:
    got = of(tmp_path, 'a,b\n1,2\n3,"4\n' + ("5," + "6" * 1000 + "\n") * (20 * 1024))

    assert got.rows == [{"a": "1", "b": "2"}]
    assert [code for code, _ in got.faults] == ["E227"]


def test_a_line_over_the_limit_is_passed_over(tmp_path: Path) -> None:
    got = of(tmp_path, "a,b\n1,2\n3," + "x" * (40 * MIB) + "\n5,6\n")

    assert got.rows == [{"a": "1", "b": "2"}, {"a": "5", "b": "6"}]
    assert got.faults == [("E206", 3)]


def test_a_cell_of_many_megabytes_is_read(tmp_path: Path) -> None:
    assert of(tmp_path, "a,b\n1," + "x" * (10 * MIB) + "\n").rows == [{"a": "1", "b": "x" * (10 * MIB)}]


def test_a_line_in_another_encoding_is_told(tmp_path: Path) -> None:
    got = of(tmp_path, b"a,b\n1,caf\xe9\n3,4\n" + b"\n" * 50 + b"2,\0\n")

    assert got.rows == [{"a": "3", "b": "4"}]
    assert got.faults == [("E205", 2), ("E205", 54)]
    assert "WINDOWS-1252" in got.problems[0].fix


def test_a_header_in_another_encoding(tmp_path: Path) -> None:
    got = of(tmp_path, b"fran\xe7ais,b\n1,2\n1,2,3\n")

    assert got.blocks == []
    assert got.faults == [("E205", 1)]


def test_many_rows_in_blocks(tmp_path: Path) -> None:
    got = of(tmp_path, "n,text\n" + "".join(f"{n},{'x' * 100}\n" for n in range(20_000)), target_bytes=50_000)

    assert [int(row["n"]) + 2 for row in got.rows] == got.numbers
    assert len(got.blocks) > 30
    assert all(isinstance(block.numbers, range) for block in got.blocks)


cells = st.text(st.sampled_from('ab ,;\t"\né[{'), max_size=6)


@settings(max_examples=200, deadline=None)
@given(table=st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=5), mark=st.sampled_from(",;\t"))
def test_what_a_library_writes_is_read_back(
    table: list[list[str]], mark: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=mark).writerows([["x", "y", "z"], *table])

    got = of(tmp_path_factory.getbasetemp(), out.getvalue())

    assert [list(row.values()) for row in got.rows] == table
    assert got.problems == []


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=40) | st.text(st.sampled_from('a,;"\r\n'), max_size=40).map(str.encode))
def test_whatever_stands_in_the_file_is_judged(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    of(tmp_path_factory.getbasetemp(), raw)
