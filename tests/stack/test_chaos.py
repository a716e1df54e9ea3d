"""A short chaos run: workers, trainers, Redis, PostgreSQL die or stop; no job is lost, runs twice or ends wrong."""

import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finetune.jobs import Event, Job, JobState
from finetune.versions import ModelVersion
from tests.support.chaos_plan import FAULTS, KINDS, draw
from tests.support.chaos_referee import Book, Seen, Verdict, _note

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
def test_without_the_sweep_jobs_are_lost_and_that_is_found_out(tmp_path):
    """Else the bench would prove nothing."""
    code, told = chaos(tmp_path, "--seed", "7", "--sabotage", "sweep", minutes=0.5)
    assert (code, counted(told)["lost"] > 0) == (1, True), told


NOW = datetime(2027, 1, 1, tzinfo=UTC)


def seen(part_kind="hosted", **fields):
    """A hosted job that has ended well, as the referee sees it."""
    part = next(part for part in draw(7, 60, 20.0, 2.0).parts if part.kind == part_kind)
    job = Job(
        **{name: "x" for name in ("id", "name", "owner", "base_model", "fingerprint")},
        **{"provider": "openai", "recipe": {}, "data": {}, "state": JobState.SUCCEEDED, "remote_id": "r1"},
        **{"created_at": NOW, "changed_at": NOW, "finished_at": NOW},
    )
    order = ("queued", "preparing", "submitting", "running", "registering", "succeeded")
    model = ModelVersion(
        **{name: "x" for name in ("name", "job_id", "provider", "base_model")},
        **{"version": 1, "artifact": {}, "lineage": {}, "created_at": NOW},
    )
    book = Book(begun=[(1, "h:1:1")], ended={1: "done"})
    return Seen(
        **{
            "part": part,
            "job": job,
            "events": [Event(kind="state", message=f"{state}: so", at=NOW) for state in order],
            "metrics": [],
            "models": [model],
            "attempts": 1,
            "run": None,
            "book": book,
            "remote": [{"remote_id": "r1", "live": True, "raw_state": "succeeded"}],
            **fields,
        }
    )


def judged(one):
    verdict = Verdict()
    _note(verdict, one)
    return {name for name in ("lost", "twice", "wrong") if getattr(verdict, name)}


def changed(**fields):
    return replace(seen().job, **fields)


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (seen(), set()),
        (seen(job=changed(state=JobState.RUNNING, finished_at=None)), {"lost"}),
        (seen(models=seen().models * 2), {"twice", "wrong"}),
        (seen(attempts=2), {"twice"}),
        (seen(remote=[*seen().remote, {"remote_id": "r2", "live": True, "raw_state": "running"}]), {"twice"}),
        (seen(remote=[*seen().remote, {"remote_id": "r2", "live": False, "raw_state": "cancelled"}]), set()),
        (seen(book=Book(begun=[(1, "h:1:1"), (1, "h:2:2")])), {"twice"}),
        (seen(book=Book(begun=[(1, "h:1:1")], overlaps=["overlap 1 2"])), {"twice"}),
        (seen(models=[]), {"wrong"}),
        (seen(job=changed(state=JobState.CANCELLED)), {"wrong"}),
        (seen(remote=[{"remote_id": "r1", "live": True, "raw_state": "running"}]), {"wrong"}),
        (seen(events=[*seen().events, *seen().events[-1:]]), {"wrong"}),
        (seen(job=changed(due_at=NOW)), {"wrong"}),
    ],
)
def test_the_referee_sees_what_is_wrong(one, found):
    assert judged(one) == found


@pytest.mark.parametrize("jobs", [60, 1000])
def test_a_plan_is_the_same_for_the_same_seed_and_has_everything(jobs):
    plan = draw(7, jobs, 20.0, 2.0)
    assert plan == draw(7, jobs, 20.0, 2.0) != draw(8, jobs, 20.0, 2.0)
    assert len(plan.parts) == jobs
    assert {part.kind for part in plan.parts} == set(KINDS)
    assert {fault.what for fault in plan.faults} == set(FAULTS)
    assert all(fault.at_s < 20.0 for fault in plan.faults)
