"""A short chaos run: workers, trainers, Redis, PostgreSQL die or stop; no job is lost, runs twice or ends wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chaos_plan import FAULTS, KINDS, draw

_REPO = Path(__file__).parents[2]
_JOBS, _WINDOW_S = 60, 16.0


def chaos(tmp_path, *more, minutes=2.5):
    """The bench as a process of its own; what it printed, and its exit code."""
    argv = [sys.executable, "-m", "tests.bench.chaos", "--jobs", str(_JOBS), "--window", str(_WINDOW_S), "--gap", "1.3"]
    words = [*argv, "--minutes", str(minutes), "--logs", str(tmp_path / "log"), *more]
    done = subprocess.run(words, cwd=_REPO, capture_output=True, text=True, timeout=280)
    return done.returncode, f"{done.stdout}\n{done.stderr[-3000:]}"


def counted(told):
    return {name: int(number) for name, number in re.findall(r"^(lost|twice|wrong) +(\d+)$", told, re.MULTILINE)}


@pytest.mark.alone
def test_no_job_is_lost_runs_twice_or_ends_wrong(tmp_path):
    code, told = chaos(tmp_path, "--seed", "7")
    assert (code, counted(told)) == (0, {"lost": 0, "twice": 0, "wrong": 0}), told
    happened = re.search(r"^faults that happened: (.*)$", told, re.MULTILINE)
    assert happened, told
    assert {each.partition(" ")[2] for each in happened[1].split(", ")} == set(FAULTS), told
    # kombu writes down a broken connection with its traceback, which only goes through libraries.
    assert f'File "{_REPO}/finetune/' not in (tmp_path / "log").read_text()


@pytest.mark.alone
def test_workers_that_do_not_look_at_their_lease_are_found_out(tmp_path):
    """With every write let through that a lost lease should have stopped. Else the bench would prove nothing."""
    code, told = chaos(tmp_path, "--seed", "7", "--sabotage", "token", minutes=0.8)
    found = counted(told)
    assert (code, found["twice"] + found["wrong"] > 0) == (1, True), told


@pytest.mark.parametrize("jobs", [60, 1000])
def test_a_plan_is_the_same_for_the_same_seed_and_has_everything(jobs):
    plan = draw(7, jobs, 20.0, 2.0)
    assert plan == draw(7, jobs, 20.0, 2.0) != draw(8, jobs, 20.0, 2.0)
    assert len(plan.parts) == jobs
    assert {part.kind for part in plan.parts} == set(KINDS)
    assert {fault.what for fault in plan.faults} == set(FAULTS)
    assert all(fault.at_s < 20.0 for fault in plan.faults)
