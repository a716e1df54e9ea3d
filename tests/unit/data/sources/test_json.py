"""JSON that is not in lines: lists, objects over many lines, and lists under a known key."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sources import MIB, Read, read


def of(folder: Path, raw: bytes | str, name: str = "rows.json", target_bytes: int = 4 * MIB) -> Read:
    (folder / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return read(name, folder, target_bytes=target_bytes)


def test_each_element_with_its_text_and_line(tmp_path: Path) -> None:
    got = of(tmp_path, '[\n  {"a": "x]}\\"{"},\n\n  {\n    "b": [1, {"c": 2}]\n  }\n, {"d":\t"é"} ]\n')

    assert got.raw == [b'{"a": "x]}\\"{"}', b'{\n    "b": [1, {"c": 2}]\n  }', '{"d":\t"é"}'.encode()]
    assert got.numbers == [2, 4, 7]
    assert got.problems == []


def test_a_list_in_one_line(tmp_path: Path) -> None:
    got = of(tmp_path, '[{"a": 1},{"a": 2},{"a": 3}]')

    assert got.rows == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert got.numbers == [1, 1, 1]


@pytest.mark.parametrize("raw", ["[]", " [ \n ] ", "", "\n"])
def test_an_empty_list_gives_no_rows(tmp_path: Path, raw: str) -> None:
    got = of(tmp_path, raw)

    assert got.blocks == []
    assert got.problems == []


def test_elements_that_are_no_objects_are_rows_too(tmp_path: Path) -> None:
    assert of(tmp_path, '[1, "a,]", null, [{}], true , -2.5e3]').rows == [1, "a,]", None, [{}], True, -2500.0]


def test_a_single_object_over_many_lines_is_a_row(tmp_path: Path) -> None:
    got = of(tmp_path, '\n{\n  "messages": [\n    {"role": "user"}\n  ]\n}\n')

    assert got.rows == [{"messages": [{"role": "user"}]}]
    assert got.numbers == [2]


def test_objects_over_many_lines_follow_each_other(tmp_path: Path) -> None:
    got = of(tmp_path, '{\n  "a": 1\n}\n{\n  "a": 2\n}{"a": 3}\n')

    assert got.rows == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert got.numbers == [1, 4, 6]


@pytest.mark.parametrize("key", ["data", "rows", "examples", "train"])
def test_rows_under_a_known_key(tmp_path: Path, key: str) -> None:
    got = of(tmp_path, f'{{"version": {{"data": 2}},\n "{key}": [{{"a": 1}},\n {{"a": 2}}],\n "end": "x"}}\n')

    assert got.rows == [{"a": 1}, {"a": 2}]
    assert got.numbers == [2, 3]
    (warning,) = got.problems
    assert (warning.code, warning.level, warning.field) == ("E222", "warning", key)
    assert f"`{key}`" in warning.what
    assert "`version`, `end`" in warning.why


def test_rows_under_a_key_on_one_line(tmp_path: Path) -> None:
    assert of(tmp_path, '{"data": [{"a": 1}, {"a": 2}]}').rows == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    "raw",
    ['{"data": 1}', '{"data": [1, 2]}', '{"messages": [{}]}', '{"inner": {"data": [{}]}}', '{"data": "[{"}', "{}"],
)
def test_other_objects_are_rows_as_they_are(tmp_path: Path, raw: str) -> None:
    got = of(tmp_path, raw)

    assert got.raw == [raw.encode()]
    assert got.problems == []


@pytest.mark.parametrize(
    ("raw", "rows", "line", "said"),
    [
        ('[{"a": 1},\n{"a": 2}', 2, 2, "not closed"),
        ('[{"a": 1},\n{"a": 2', 1, 2, "line 2 is not closed"),
        ('[{"a": 1},\n{"a": "x', 1, 2, "line 2 is not closed"),
        ('[{"a": 1},\n{"a": "x\\', 1, 2, "line 2 is not closed"),
        ('[{"a": 1},\n', 1, 2, "not closed"),
        ('[{"a": 1}\n,]', 1, 2, "comma before the end"),
        ('[{"a": 1}\n{"a": 2}]', 1, 2, "no comma"),
        ("[{'a': 1},\n]", 1, 2, "comma before the end"),
        ("[\n'a']", 0, 2, "no JSON value"),
        ("[\n// rows\n{}]", 0, 2, "no JSON value"),
        ("[,{}]", 0, 1, "no JSON value"),
        ('[{"a": 1}]\n]', 1, 2, "text follows"),
        ('[{"a": 1}]\n[{"a": 2}]', 1, 2, "text follows"),
        ("rows", 0, 1, "no JSON value"),
        ('{"data": [{"a": 1}],\n "more": [1', 1, 2, "line 2 is not closed"),
        ('{"data": [{"a": 1}],\n more: 1}', 1, 2, "no key"),
        ('{"data": [{"a": 1}],\n "more" 1}', 1, 2, "no colon"),
        ('{"data": [{"a": 1}]\n', 1, 2, "not closed"),
        ('{"data": [{"a": 1}]}\nmore', 1, 2, "text follows"),
        ('{\n"a": 1}\n\n{"a": 2', 1, 4, "line 4 is not closed"),
    ],
)
def test_a_broken_structure_is_told_at_its_line(tmp_path: Path, raw: str, rows: int, line: int, said: str) -> None:
    got = of(tmp_path, raw)

    assert len(got.raw) == rows
    assert got.faults == [("E225", line)]
    assert said in got.fault.what


def test_a_fault_within_a_row_is_the_parsers_business(tmp_path: Path) -> None:
    got = of(tmp_path, '[{"a": 1,}, {"b" 2}, {"d": 4}]')

    assert got.raw[:2] == [b'{"a": 1,}', b'{"b" 2}']
    assert got.raw[-1] == b'{"d": 4}'
    assert got.problems == []


def test_a_row_in_another_encoding_is_told_and_left_out(tmp_path: Path) -> None:
    got = of(tmp_path, b'[{"a": 1},\n{"b":\n "\xe9"},\n{"c": "\0"}, {"d": 4}]')

    assert got.rows == [{"a": 1}, {"d": 4}]
    assert got.faults == [("E205", 3), ("E205", 4)]


def test_a_byte_order_mark_is_no_part_of_the_list(tmp_path: Path) -> None:
    got = of(tmp_path, b'\xef\xbb\xbf[{"a": 1}]')

    assert got.rows == [{"a": 1}]
    assert got.warnings == ["E218"]


def test_a_deep_row_is_cut_out_whole(tmp_path: Path) -> None:
    deep = "[" * 5000 + '"]"' + "]" * 5000

    assert of(tmp_path, f'[{{"a": {deep}}}, {{"b": 1}}]').raw == [f'{{"a": {deep}}}'.encode(), b'{"b": 1}']


def test_a_row_over_the_limit_is_passed_over(tmp_path: Path) -> None:
    got = of(tmp_path, '[{"a": 1},\n{"a": "' + 'x\\\\\\"}' * (4 * MIB) + '"},\n{"a": 3}]')

    assert got.rows == [{"a": 1}, {"a": 3}]
    assert got.numbers == [1, 3]
    assert got.faults == [("E206", 2)]


@pytest.mark.parametrize("raw", ['{{"a": "{}"}}', '{{"data": {{"a": "{}"}}}}', '{{"a": [1, "{}"], "data": [{{}}]}}'])
def test_a_single_object_over_the_limit_is_passed_over(tmp_path: Path, raw: str) -> None:
    got = of(tmp_path, raw.format("x" * (17 * MIB)))

    assert got.faults == [("E206", 1)]
    assert got.blocks == []


def test_a_large_value_beside_the_rows_is_passed_over(tmp_path: Path) -> None:
    got = of(tmp_path, '{"data": [{"a": 1}], "more": "' + "x" * (40 * MIB) + '", "n": 12}')

    assert got.rows == [{"a": 1}]
    assert got.faults == []


def test_a_word_without_end_is_passed_over(tmp_path: Path) -> None:
    got = of(tmp_path, '[{"a": 1}, ' + "1" * (40 * MIB) + ', {"a": 3}]')

    assert got.rows == [{"a": 1}, {"a": 3}]
    assert got.faults == [("E206", 1)]


def test_rows_larger_than_a_piece(tmp_path: Path) -> None:
    rows = [{"a": "é" * n, "b": [{"c": "]"}]} for n in (0, 600_000, 3, 2_000_000, 1, 5_000_000)]

    got = of(tmp_path, json.dumps(rows, ensure_ascii=False, indent=1))

    assert got.rows == rows
    assert got.problems == []


def test_many_rows_in_blocks(tmp_path: Path) -> None:
    rows = [{"n": n, "text": "x" * 100} for n in range(30_000)]

    got = of(tmp_path, json.dumps(rows, indent=2), target_bytes=100_000)

    assert got.rows == rows
    assert got.numbers == [2 + 4 * n for n in range(30_000)]
    assert len(got.blocks) > 30
    assert sum(block.read for block in got.blocks) == (tmp_path / "rows.json").stat().st_size


values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(['"', "\\", "]", "{", '\\"', ","]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(values, max_size=5), indent=st.none() | st.integers(0, 3), ascii_only=st.booleans())
def test_any_list_comes_apart_as_json_has_it(
    rows: list[Any], indent: int | None, ascii_only: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)

    got = of(tmp_path_factory.getbasetemp(), text)

    assert got.rows == rows
    assert got.problems == []
    for row, line in zip(got.raw, got.numbers, strict=True):
        assert row.splitlines()[0] in text.encode().split(b"\n")[line - 1]


@settings(max_examples=300, deadline=None)
@given(raw=st.text(st.sampled_from('[]{},:"\\ \n1a'), max_size=30))
def test_whatever_stands_in_the_file_is_judged(raw: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    got = of(tmp_path_factory.getbasetemp(), raw)

    assert got.problems or got.blocks or not raw.strip() or raw.split() in (["[]"], ["[", "]"])
