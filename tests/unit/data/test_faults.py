"""What is wrong with a training file: which line, which field, and what to do."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import data
from finetune.codes import CODES
from finetune.data import DataReport, DataRequest
from finetune.errors import Problem


def inspect(train: Path, validation: Path | None = None, split: float | None = None) -> DataReport:
    return data.inspect(request(train, validation, split))


def request(train: Path, validation: Path | None = None, split: float | None = None) -> DataRequest:
    named = None if validation is None else str(validation)
    return DataRequest(train=str(train), folder=Path(), validation=named, split=split)


USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
GOOD = json.dumps({"messages": [USER, ANSWER]})


def problems(path: Path, raw: bytes | str) -> tuple[Problem, ...]:
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    report = inspect(path)
    for problem in report.problems:
        assert problem.code in CODES
        assert problem.what
        assert problem.fix
        assert problem.file == str(path)
        "".join(problem.lines()).encode()
    assert (report.digest is None) == bool(report.errors)
    return report.problems


def row(*messages: Any, **more: Any) -> str:
    return json.dumps({"messages": list(messages), **more})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    ("line", "code", "field", "fix"),
    [
        ("{", "E207", None, "one object in one line"),
        ('{"messages": [}', "E207", None, "one object in one line"),
        ("{'messages': []}", "E207", None, "double quotes"),
        (GOOD + ",", "E207", None, "one object in one line"),
        ('{"messages": NaN}', "E207", None, "remove"),
        ('{"id": Infinity}', "E207", None, "remove"),
        (f'{{"id": {"9" * 5000}}}', "E207", None, "one object"),
        ('{"id": ' + "[" * 100_000, "E207", None, "one object"),
        ('{"messages": [], "messages": []}', "E221", None, "remove"),
        ('{"messages": [{"role": "user", "role": "user"}]}', "E221", None, "remove"),
        ('{"\\u001b[31m": 1, "\\u001b[31m": 2}', "E221", None, "remove"),
        ("[]", "E208", None, "one object"),
        ('"text"', "E208", None, "one object"),
        ("null", "E208", None, "one object"),
        ("{}", "E210", "messages", '{"messages":'),
        ('{"messages": []}', "E210", "messages", '{"messages":'),
        ('{"messages": "hello"}', "E210", "messages", '{"messages":'),
        ('{"messages": null}', "E210", "messages", '{"messages":'),
        (row(USER, "hello"), "E210", "messages[1]", '{"role":'),
        (row(USER, ANSWER, topic="x"), "E209", "topic", "remove the key"),
        ('{"prompt": "q", "completion": "a"}', "E236", None, "dataset.format: completion"),
        ('{"conversations": [{"from": "human", "value": "q"}]}', "E236", None, "dataset.format: sharegpt"),
        (row(USER, ANSWER, tools={}), "E238", "tools", "write [...]"),
        (row(USER, {**ANSWER, "name": 7}), "E237", "messages[1].name", "double quotes"),
        (row(USER, ANSWER, **{"\ud800": 1}), "E212", "\\ud800", "remove the escape"),
        (row({"content": "q"}, ANSWER), "E211", "messages[0].role", '"role": "user"'),
        (row({"role": "User", "content": "q"}, ANSWER), "E211", "messages[0].role", '"role": "user"'),
        (row({"role": "developer", "content": "q"}, ANSWER), "E211", "messages[0].role", '"role": "system"'),
        (row(USER, {"role": "gpt", "content": "a"}), "E211", "messages[1].role", '"role": "assistant"'),
        (row({"role": "tool", "content": "q"}, ANSWER), "E238", "messages[0].tool_call_id", "the id of that call"),
        (row({"role": [1], "content": "q"}, ANSWER), "E211", "messages[0].role", '"role": "system"'),
        (row({"role": "user"}, ANSWER), "E212", "messages[0].content", '"content": "..."'),
        (row({"role": "user", "content": None}, ANSWER), "E212", "messages[0].content", '"content": "..."'),
        (row({"role": "user", "content": [{"type": "text"}]}, ANSWER), "E212", "messages[0].content[0].text", '"text"'),
        (row({"role": "user", "content": [{"type": "x"}]}, ANSWER), "E212", "messages[0].content[0]", '"text"'),
        (row(USER, {"role": "assistant", "content": " \n"}), "E212", "messages[1].content", "weight"),
        (row({"role": "user", "content": "\ud800"}, ANSWER), "E212", "messages[0].content", "escape"),
        (row(USER, {**ANSWER, "weight": 0.5}), "E213", "messages[1].weight", '"weight": 0'),
        (row(USER, {**ANSWER, "weight": True}), "E213", "messages[1].weight", '"weight": 0'),
        (row({**USER, "weight": 1}, ANSWER), "E213", "messages[0].weight", "remove"),
        (row(USER, ANSWER, USER), "E214", "messages[2]", "add the answer"),
        (row(USER), "E214", "messages[0]", "add the answer"),
        (row(USER, {**ANSWER, "weight": 0}), "E214", "messages", '"weight": 1'),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_field(
    file: Path, line: str, code: str, field: str | None, fix: str
) -> None:
    (problem,) = problems(file, f"{GOOD}\n\n{line}\n{GOOD.replace('q', 'r')}\n")

    assert (problem.code, problem.field, problem.line) == (code, field, 3)
    assert fix in problem.fix
    assert "\x1b" not in problem.what


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["messages", "role", "content", "weight", "id", "tools", "\ud800"]), inner)
    ),
    max_leaves=6,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]) | json_values, "content": st.text() | json_values},
    optional={"weight": st.sampled_from([0, 1, 1.0]) | json_values},
)
lines = st.one_of(
    st.binary(max_size=30),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.lists(messages, max_size=3).map(lambda value: row(*value).encode()),
)


@settings(max_examples=60, deadline=None)
@given(raw=st.lists(lines, max_size=4).map(b"\n".join))
def test_whatever_the_file_holds_is_judged(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"

    found = problems(path, raw)

    assert found or inspect(path).train_rows


def test_json_faults_have_columns(file: Path) -> None:
    (problem,) = problems(file, f'{GOOD}\n{{"a" 1}}\n')

    assert (problem.line, problem.column) == (2, 6)


def test_all_faults_of_a_row_and_all_rows_come_at_once(file: Path) -> None:
    bad = row({"role": "x", "content": 1, "weight": 2}, topic=1)

    found = problems(file, f"{bad}\n{GOOD}\n{{\n{row(USER)}\n")

    assert [(each.line, each.code) for each in found] == [
        (1, "E211"), (1, "E213"), (1, "E212"), (1, "E209"), (3, "E207"), (4, "E214"),
    ]  # fmt: skip


def test_faults_of_one_kind_are_told_together_with_their_lines(file: Path) -> None:
    (found,) = problems(file, "null\n" * 50)

    assert (found.code, found.line, found.count) == ("E208", 1, 50)
    assert found.also == tuple(range(2, 22))
    assert found.lines()[1].endswith("20, 21 and 29 more")


def test_every_fault_is_told_on_its_own_if_asked(file: Path) -> None:
    file.write_text("null\n" * 50)

    found = data.inspect(replace(request(file), every=True)).problems

    assert [(each.line, each.count) for each in found] == [(line, 1) for line in range(1, 51)]


def test_more_kinds_than_can_be_shown_are_counted(file: Path) -> None:
    kinds = [f"z{one}{other}" for one in "abcdefghij" for other in "abcdefghijklm"]

    found = problems(file, "\n".join(row(USER, ANSWER, **{letters: 1}) for letters in kinds))

    assert [each.code for each in found] == ["E209"] * 100 + ["E220"]
    assert found[-1].what.startswith("30 more errors")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "E204"),
        (b"\n \n\t\n", "E204"),
        (b"\xef\xbb\xbf", "E204"),
        (GOOD.encode("utf-16"), "E205"),
        (b"PK\x03\x04\x00\xff", "E205"),
    ],
)
def test_a_file_of_another_kind_is_told_once(file: Path, raw: bytes, code: str) -> None:
    (problem,) = [each for each in problems(file, raw) if each.level == "error"]

    assert problem.code == code


def test_what_is_in_the_file_decides_and_not_its_name(file: Path) -> None:
    (warning,) = problems(file, f"[{GOOD},\n{GOOD.replace('q', 'r')}]".encode())

    assert (warning.code, warning.level) == ("E222", "warning")
    assert inspect(file).train_rows == 2


def test_a_line_in_another_encoding(file: Path) -> None:
    (problem,) = problems(file, GOOD.encode() + b'\n{"m": "\xe9"}\n')

    assert (problem.code, problem.line, problem.column) == ("E205", 2, 8)


def test_a_huge_line_is_passed_over(file: Path) -> None:
    too_long, wrong = problems(file, f"{GOOD}\n".encode() + b"x" * (40 * 1024 * 1024) + b"\n[]\n")

    assert (too_long.code, too_long.line) == ("E206", 2)
    assert (wrong.code, wrong.line) == ("E208", 3)


def test_windows_files_are_read_with_a_warning(file: Path) -> None:
    other = GOOD.replace("q", "r")
    found = problems(file, b"\xef\xbb\xbf" + f"{GOOD}\r\n\r\n{other}".encode())

    assert [(each.code, each.level) for each in found] == [("E218", "warning"), ("E218", "warning")]
    with_marks = inspect(file)
    file.write_text(f"{GOOD}\n{other}\n")
    assert with_marks.digest == inspect(file).digest
    assert with_marks.train_rows == 2


def test_harmless_keys_are_left_out_with_one_warning_each(file: Path) -> None:
    lines = [row(USER, {**ANSWER, "content": str(at)}, id=at, metadata={"a": [1]}) for at in range(3)]

    found = problems(file, "\n".join(lines))

    assert [(each.code, each.field, each.level) for each in found] == [
        ("E219", "id", "warning"), ("E219", "metadata", "warning"),
    ]  # fmt: skip
    assert "rows: 3" in found[0].what


def test_copies_are_warned_about(file: Path) -> None:
    reordered = '{"messages":[{"content":"q","role":"user"},{"content":"a","role":"assistant"}],"id":3}'

    found = problems(file, f"{GOOD}\n{reordered}\n{GOOD}\n")

    assert [(each.code, each.line) for each in found if each.code == "E215"] == [("E215", 2)]
    assert "earlier one: 2;" in next(each.what for each in found if each.code == "E215")


def test_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    expected = {
        tmp_path / "none": "E201",
        pipe: "E202",
        Path("/dev/null"): "E202",
        loop: "E203",
        tmp_path / ("x" * 300): "E203",
    }

    for path, code in expected.items():
        (problem,) = inspect(path).problems
        assert problem.code == code
        assert problem.fix


def test_both_files_are_looked_at(tmp_path: Path) -> None:
    found = inspect(tmp_path / "a", tmp_path / "b", None).errors

    assert [each.file for each in found] == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_the_same_file_for_both(file: Path) -> None:
    file.write_text(GOOD)

    (problem,) = inspect(file, file, None).problems

    assert (problem.code, problem.level) == ("E217", "error")
    assert "split" in problem.fix


def test_rows_on_both_sides(file: Path, tmp_path: Path) -> None:
    file.write_text(GOOD)
    other = tmp_path / "validation.jsonl"
    other.write_text(f"{GOOD.replace('q', 'r')}\n{GOOD}\n")

    report = inspect(file, other, None)
    (warning,) = report.problems

    assert (warning.code, warning.level, warning.file, warning.line) == ("E217", "warning", str(other), 2)
    assert report.validation_rows == 2


@pytest.mark.parametrize(("split", "side"), [(1e-9, "validation"), (1 - 1e-9, "training")])
def test_a_split_that_leaves_a_side_empty(file: Path, split: float, side: str) -> None:
    file.write_text(GOOD)

    (problem,) = inspect(file, None, split).problems

    assert problem.code == "E216"
    assert f"no rows for {side}" in problem.what
    assert "there are 1" in problem.why


def test_a_file_without_rows_is_not_a_bad_split_too(file: Path) -> None:
    file.write_text("")

    assert [each.code for each in inspect(file, None, 0.5).problems] == ["E204"]


@pytest.mark.parametrize("split", [0.0, 1.0, -1.0])
def test_a_split_out_of_range_is_a_fault_of_the_caller(file: Path, split: float) -> None:
    with pytest.raises(ValueError, match="split"):
        inspect(file, None, split)


def test_a_split_and_a_file_exclude_each_other(file: Path) -> None:
    with pytest.raises(ValueError, match="exclude"):
        inspect(file, file, 0.5)


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=inspect, args=(pipe,), daemon=True)
    thread.start()
    thread.join(10)

    assert not thread.is_alive()
