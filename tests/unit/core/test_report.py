import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import Problem, TrainingError
from finetune.report import Reporter, read


def at() -> datetime:
    return datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_lines_come_back_as_written(tmp_path: Path) -> None:
    with closing(Reporter(tmp_path / "deep" / "r.jsonl", at)) as reporter:
        reporter.event("héllo\nthere", "warning")
        reporter.metric(3, {"loss": 0.5}, {"step": 3})
        reporter.done(artifact={"digest": "d"})
    lines, offset = read(tmp_path / "deep" / "r.jsonl", 0)
    assert [line["kind"] for line in lines] == ["event", "metric", "done"]
    assert lines[0]["message"] == "héllo\nthere"
    assert lines[0]["at"] == "2026-11-24T12:00:00.000+00:00"
    assert read(tmp_path / "deep" / "r.jsonl", offset) == ([], offset)


def test_a_failure_tells_its_first_problem_with_its_place(tmp_path: Path) -> None:
    problem = Problem(code="E611", what="bad row", why="w", fix="f", file="a.jsonl", line=3)
    with closing(Reporter(tmp_path / "r")) as reporter:
        reporter.failed(TrainingError(problem, problem))
    (line,), _ = read(tmp_path / "r", 0)
    assert line["error"] == {"code": "E611", "what": "a.jsonl:3: bad row", "why": "w", "fix": "f"}
    assert line["retry"] is False


def test_values_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    with closing(Reporter(tmp_path / "r")) as reporter, pytest.raises(ValueError, match="JSON"):
        reporter.metric(1, {"loss": float("nan")}, None)
    assert read(tmp_path / "r", 0) == ([], 0)


def test_no_file_yet_reads_as_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "r", 17) == ([], 17)


@given(cuts=st.lists(st.integers(0, 200)))
def test_never_a_half_line_wherever_the_writer_stands(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("r") / "r"
    whole = b"".join(json.dumps({"n": n, "text": "ä☃"}, ensure_ascii=False).encode() + b"\n" for n in range(6))
    seen, offset = [], 0
    for cut in [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]:
        path.write_bytes(whole[:cut])
        lines, offset = read(path, offset)
        seen += [line["n"] for line in lines]
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("limit", [1, 20, 40, 41, 100, 10_000])
def test_a_bound_cuts_between_lines_and_loses_none(tmp_path: Path, limit: int) -> None:
    lines = [json.dumps({"n": n, "text": "x" * (7 * n)}).encode() + b"\n" for n in range(8)]
    (tmp_path / "r").write_bytes(b"".join(lines) + b'{"n": 8')
    seen, offset = [], 0
    while (part := read(tmp_path / "r", offset, limit))[1] != offset:
        first = len(lines[len(seen)])
        assert part[1] - offset <= max(limit, first), "more than the bound, and not one line alone"
        seen += [line["n"] for line in part[0]]
        offset = part[1]
    assert seen == list(range(8))
    assert offset == sum(map(len, lines))
    assert read(tmp_path / "r", 0)[1] == offset


def test_under_a_bound_the_offset_passes_a_broken_line(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"broken and long\n{}\n")
    assert read(tmp_path / "r", 0, 4) == ([], 16)
    assert read(tmp_path / "r", 16, 4) == ([{}], 19)


def test_a_line_that_its_writer_died_in_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b'{"kind": "event", "mess')
    with closing(Reporter(tmp_path / "r", at)) as reporter:
        reporter.event("next")
    lines, _ = read(tmp_path / "r", 0)
    assert [line["message"] for line in lines] == ["next"]


def test_what_the_worker_imports_brings_no_torch() -> None:
    modules = ("report", *(f"training.{name}" for name in ("request", "disk", "stop", "schedule", "__main__")))
    code = f"import sys; [__import__('finetune.' + m) for m in {modules!r}]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
