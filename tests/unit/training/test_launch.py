"""What the launcher makes of the ends of its processes."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import Problem, TrainingError
from finetune.report import Reporter, read
from finetune.training import launch
from finetune.training.disk import DiskFull


def outcome(tmp_path: Path, ended: dict[int, int], failed: dict[int, TrainingError]) -> tuple[int, list[Any]]:
    """Exit code and report."""
    for rank, error in failed.items():
        with closing(Reporter(tmp_path / f"failed-{rank:04d}.jsonl")) as reporter:
            reporter.failed(error)
    with closing(Reporter(tmp_path / "r")) as reporter:
        code = launch._outcome(ended, tmp_path, reporter)
    return code, read(tmp_path / "r", 0)[0]


@pytest.mark.parametrize("code", [0, 75])
def test_an_end_that_all_agree_on_says_nothing_more(tmp_path: Path, code: int) -> None:
    assert outcome(tmp_path, {0: code, 1: code}, {}) == (code, [])


def test_a_stop_in_one_of_them_stops_the_training(tmp_path: Path) -> None:
    assert outcome(tmp_path, {1: 75}, {}) == (75, [])


def test_a_death_after_the_end_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "done").touch()
    assert outcome(tmp_path, {1: -11}, {}) == (0, [])


def test_of_equal_failures_one_is_told_with_its_own_words(tmp_path: Path) -> None:
    errors = {rank: DiskFull(Problem(code="E622", what=f"no room for {rank}")) for rank in (1, 0)}
    code, (line,) = outcome(tmp_path, {1: 1}, errors)
    assert (code, line["kind"], line["retry"]) == (1, "failed", True)
    assert (line["error"]["code"], line["error"]["what"]) == ("E622", "no room for 0")


def test_half_a_failure_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "failed-0000.jsonl").write_text('{"kind": "failed", "err')
    code, (line,) = outcome(tmp_path, {1: 1}, {1: TrainingError(Problem(code="E620", what="it diverged"))})
    assert (code, line["error"]["what"]) == (1, "it diverged")


@pytest.mark.parametrize(("ended", "code", "said"), [(-9, 137, "killed by signal 9"), (1, 70, "exit code 1")])
def test_a_death_is_no_failure(tmp_path: Path, ended: int, code: int, said: str) -> None:
    found, (line,) = outcome(tmp_path, {3: ended}, {})
    assert (found, line["kind"], line["level"]) == (code, "event", "warning")
    assert "process 3" in line["message"]
    assert said in line["message"]
