"""What became of the jobs of a chaos run: lost, run twice, or wrong, by four books that must agree.

Ours (jobs, events, runs, models), the trainers' own, the adapters on disk, and the hosted API's.
"""

import itertools
import json
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from finetune.files import ADAPTER_FILES, digest
from finetune.jobs import FINAL, TRANSITIONS, Event, Job, JobState, Metric
from finetune.process import same_process
from finetune.runs import Run
from finetune.training.supervisor import MAX_DEATHS
from finetune.versions import ModelVersion
from tests.support.chaos_plan import Part


@dataclass
class Book:
    """What the trainers of one run have said: starts with their processes, ends, overlaps."""

    begun: list[tuple[int, str]] = field(default_factory=list)
    ended: dict[int, str] = field(default_factory=dict)
    overlaps: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Book":
        book = cls()
        for line in path.read_text().splitlines() if path.exists() else ():
            kind, start, *rest = line.split()
            if kind == "begin":
                book.begun.append((int(start), rest[0]))
            elif kind == "end":
                book.ended[int(start)] = rest[0]
            else:
                book.overlaps.append(line)
        return book


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All that is known of one job."""

    part: Part
    job: Job
    events: list[Event]
    metrics: list[Metric]
    models: list[ModelVersion]
    attempts: int
    run: Run | None
    book: Book
    remote: list[dict[str, Any]]

    @property
    def end(self) -> str:
        error = self.job.error or {}
        return f"failed {error.get('code')}" if self.job.state == JobState.FAILED else str(self.job.state)


@dataclass
class Verdict:
    """What was found: names of jobs with what is wrong about them."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    figures: Counter[str] = field(default_factory=Counter)
    #: When each job ended, and what it was.
    finished: list[tuple[datetime, str]] = field(default_factory=list)


def books(url: str) -> dict[str, list[dict[str, Any]]]:
    """The hosted API's jobs by run key."""
    with urllib.request.urlopen(f"{url}/_sandbox/jobs", timeout=60) as answer:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in json.load(answer):
            found[str(entry["key"])].append(entry)
    return found


def judge(site: Any, accepted: dict[int, str], url: str) -> Verdict:
    """Look at everything. Nothing moves any more."""
    verdict, desk = Verdict(), site.desk
    jobs = {job.id: job for job in desk.jobs.recent()}
    models: dict[str, list[ModelVersion]] = defaultdict(list)
    for model in desk.models.models():
        models[model.job_id].append(model)
    attempts = Counter(row[0] for row in site.count("SELECT job_id FROM attempts"))
    remote = books(url)
    for part in site.plan.parts:
        job_id = accepted.get(part.number)
        if job_id is None or job_id not in jobs:
            verdict.lost.append(f"{part.number} ({part.kind}): {job_id} is not there")
            continue
        job = jobs[job_id]
        key = str(job.run_key)
        seen = Seen(
            part=part,
            job=job,
            events=desk.jobs.events(job_id),
            metrics=desk.jobs.metrics(job_id),
            models=models[job_id],
            attempts=attempts[job_id],
            run=desk.runs.get_run(key),
            book=Book.read(site.ledger / key),
            remote=remote[key],
        )
        _note(verdict, seen)
    if extra := sorted(set(jobs) - set(accepted.values())):
        verdict.twice.append(f"jobs that nobody was told of: {extra[:3]}")
    if double := [each for each, count in Counter(accepted.values()).items() if count > 1]:
        verdict.wrong.append(f"one job for two recipes: {double[:3]}")
    verdict.wrong += list(_versions(models))
    return verdict


def _note(verdict: Verdict, seen: Seen) -> None:
    name = f"{seen.job.id} ({seen.part.kind}, {seen.end})"
    verdict.kinds[seen.part.kind][seen.end] += 1
    verdict.ends[seen.end] += 1
    verdict.figures["trainers started"] += len(seen.book.begun)
    verdict.figures["made at the hosted API"] += len(seen.remote)
    verdict.figures["of these cancelled"] += sum(not entry["live"] for entry in seen.remote)
    if not seen.job.final:
        said = "; ".join(event.message for event in seen.events[-6:])
        verdict.lost.append(f"{name}: {seen.job.provider_state}, due {seen.job.due_at}: {said}")
        return
    if seen.job.finished_at:
        verdict.finished.append((seen.job.finished_at, name))
    verdict.twice += [f"{name}: {what}" for what in _twice(seen)]
    verdict.wrong += [f"{name}: {what}" for what in (*_wrong(seen), *_history(seen.events, seen.job))]


def _twice(seen: Seen) -> Iterator[str]:
    if len(seen.models) > 1:
        yield f"{len(seen.models)} versions"
    if seen.attempts > 1:
        yield f"{seen.attempts} attempts"
    # The second of two creates, the first of which seemed lost, has been cancelled by now.
    live = [entry["remote_id"] for entry in seen.remote if entry["live"]]
    if len(live) > 1:
        yield f"paid for {live}"
    yield from seen.book.overlaps
    starts = Counter(start for start, _ in seen.book.begun)
    yield from (f"start {start} began {count} times" for start, count in starts.items() if count > 1)
    taken = (seen.run.artifact or {}).get("lineage", {}).get("start") if seen.run else None
    if taken is not None and max(starts) > taken:
        yield f"start {max(starts)} came after the one that counts, {taken}"


def _wrong(seen: Seen) -> Iterator[str]:
    # A run that was killed five times is given up; the fifth is not written down when its worker lives.
    job, given_up = seen.job, seen.run is not None and seen.run.deaths >= MAX_DEATHS - 1
    allowed = [*seen.part.is_.ends, *(["failed E630"] if given_up else [])]
    if seen.end not in allowed:
        yield f"should be {' or '.join(allowed)}: {job.error}"
    if (len(seen.models) == 1) != (job.state == JobState.SUCCEEDED):
        yield f"{len(seen.models)} versions"
    if job.due_at is not None and job.doubt_until is None:
        yield f"has ended and is due {job.due_at}"
    yield from _local(seen) if job.provider == "local" else _hosted(seen)


def _local(seen: Seen) -> Iterator[str]:
    job, run = seen.job, seen.run
    expected = "cancelled" if seen.end == "failed E314" else str(job.state)
    if run is None:
        if job.state == JobState.SUCCEEDED or seen.book.begun:
            yield "it has no run"
        return
    if run.state != expected:
        yield f"its run is {run.state}"
    alive = [process for _, process in seen.book.begun if same_process(process)]
    if alive:
        yield f"trainers left: {alive}"
    if job.state == JobState.SUCCEEDED:
        yield from _artifact(seen, run)


def _artifact(seen: Seen, run: Run) -> Iterator[str]:
    artifact = seen.models[0].artifact if seen.models else {}
    if not artifact or artifact.get("digest") != (run.artifact or {}).get("digest"):
        yield "model and run name different adapters"
        return
    folder = Path(artifact["path"])
    if not all((folder / name).is_file() for name in ADAPTER_FILES):
        yield f"no adapter in {folder}"
        return
    if artifact["digest"] != digest(folder):
        yield f"{folder} holds another adapter than its digest says"
    if seen.part.is_.play == "real":
        return
    inside = json.loads((folder / ADAPTER_FILES[0]).read_text())
    if inside != {"run_key": run.run_key, "start": run.starts}:
        yield f"its adapter is of {inside}, and its last start was {run.starts}"
    # Metrics of a trainer that no longer counted must not replace those of the last.
    last = {metric.step: metric.value for metric in seen.metrics if metric.name == "loss"}
    if last != {1: run.starts, 2: run.starts}:
        yield f"its metrics are of {last}, and its last start was {run.starts}"


def _hosted(seen: Seen) -> Iterator[str]:
    job = seen.job
    mine = [entry for entry in seen.remote if entry["remote_id"] == job.remote_id]
    if job.remote_id is None:
        live = [entry["remote_id"] for entry in seen.remote if entry["live"]]
        if job.state == JobState.SUCCEEDED or live:
            yield f"it does not know {live}"
        return
    if len(mine) != 1:
        yield f"the API has no {job.remote_id}"
    elif mine[0]["raw_state"] != str(job.state):
        yield f"at the API it is {mine[0]['raw_state']}"


def _history(events: list[Event], job: Job) -> Iterator[str]:
    """Faults in the order of the states."""
    words = [event.message.split(":")[0].split()[0] for event in events if event.kind == "state"]
    states = [JobState(word) for word in words if word in set(JobState) and word != "paused"]
    if not states or states[0] != JobState.QUEUED:
        yield f"its history begins with {words[:2]}"
    for before, after in itertools.pairwise(states):
        if after not in TRANSITIONS[before]:
            yield f"from {before} to {after}"
    ends = [state for state in states if state in FINAL]
    # An end by the deadline is a cancel that counts as a failure.
    expected = JobState.CANCELLED if (job.error or {}).get("code") == "E314" else job.state
    if ends != [expected]:
        yield f"its ends are {ends}"


def _versions(models: dict[str, list[ModelVersion]]) -> Iterator[str]:
    """Each name's versions are 1, 2, 3 ... without a gap."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for found in models.values():
        for model in found:
            numbers[model.name].append(model.version)
    for name, each in numbers.items():
        if sorted(each) != list(range(1, len(each) + 1)):
            yield f"versions of {name}: {sorted(each)}"
