"""A tuning job as Vertex AI tells of it, in our words. It has no events: what changes between two looks is one."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from finetune.errors import Problem
from finetune.jobs import Event, Json, Metric, ProviderState
from finetune.ports import Observation, RemoteJob
from finetune.providers.vertex_wire import TITLE

STATES: Final[Mapping[str, ProviderState]] = {
    "JOB_STATE_QUEUED": "queued",
    "JOB_STATE_PENDING": "preparing",
    "JOB_STATE_RUNNING": "running",
    "JOB_STATE_UPDATING": "running",
    # It can still end well.
    "JOB_STATE_CANCELLING": "running",
    "JOB_STATE_PAUSED": "paused",
    "JOB_STATE_SUCCEEDED": "succeeded",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "succeeded",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "failed",
    "JOB_STATE_CANCELLED": "cancelled",
}
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
_PARTIAL: Final = "JOB_STATE_PARTIALLY_SUCCEEDED"
#: Told by the time at which it began, not as a change.
_RUNNING: Final = "JOB_STATE_RUNNING"
_DETAILS: Final[Mapping[str, str]] = {
    "TUNING_JOB_STATE_WAITING_FOR_QUOTA": "it waits for quota",
    "TUNING_JOB_STATE_PROCESSING_DATASET": "the dataset is being read",
    "TUNING_JOB_STATE_WAITING_FOR_CAPACITY": "it waits for machines",
    "TUNING_JOB_STATE_TUNING": "the model is being tuned",
    "TUNING_JOB_STATE_POST_PROCESSING": "the tuned model is being made ready",
}
#: `google.rpc.Code` of what is wrong with what we sent: INVALID_ARGUMENT, OUT_OF_RANGE.
_OURS: Final = frozenset({3, 11})


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far we have told: the last state in our words and in theirs, and what is told once."""

    state: ProviderState = "queued"
    raw: str = ""
    detail: str = ""
    created: bool = False
    started: bool = False
    #: Optimiser steps of the last metric; -1 before there is one.
    step: int = -1
    #: Words that no document has, and that were told.
    odd: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str | None) -> "Cursor":
        """From what the last poll handed out."""
        if not text:
            return cls()
        value = json.loads(text)
        return cls(**{**value, "odd": tuple(value["odd"])})

    def text(self) -> str:
        """To be handed out."""
        return json.dumps(asdict(self))


def remote(job: Any) -> RemoteJob:
    """The job in short."""
    raw = word(job.state)
    return RemoteJob(
        remote_id=str(job.name),
        raw_state=raw,
        created_at=job.create_time or datetime.fromtimestamp(0, UTC),
        ended=STATES.get(raw) in ENDED,
    )


def word(value: Any) -> str:
    """A state as it stood in the answer; the package wraps also those that it does not know."""
    return str(getattr(value, "value", value) or "")


def observed(job: Any, before: Cursor, now: datetime, clean: Callable[[str], str]) -> Observation:
    """What one poll saw; `clean` makes the service's words fit to be shown."""
    raw, detail = word(job.state), word(job.tuning_job_state)
    state = STATES.get(raw, before.state)
    step, epoch, total = _progress(job)
    odd = before.odd if raw in STATES or raw in before.odd else (*before.odd, raw)
    after = Cursor(
        state=state,
        raw=raw,
        detail=detail or before.detail,
        created=True,
        started=before.started or job.start_time is not None,
        step=before.step if step is None else max(step, before.step),
        odd=odd,
    )
    metrics = () if step is None or epoch is None or step <= before.step else (_metric(step, epoch),)
    known = {"step": step, "total_steps": total}
    progress = {key: value for key, value in known.items() if value is not None} if step is not None else None
    return Observation(
        state=state,
        raw_state=f"{raw}, {detail}" if detail else raw,
        cursor=after.text(),
        events=tuple(_events(job, before, after, now)),
        metrics=metrics,
        progress=progress,
        artifact=artifact(job) if state == "succeeded" else None,
        problem=_problem(job, raw, clean) if state == "failed" else None,
    )


def artifact(job: Any) -> Json | None:
    """The ids of the tuned model; None when the answer names none."""
    tuned = job.tuned_model
    # The weights of an open model lie in the user's bucket; Google serves them only when he deploys them.
    model = (tuned.model if tuned else None) or job.output_uri
    if not model:
        return None
    out: Json = {"model": model}
    if tuned is not None and tuned.endpoint:
        out["endpoint"] = tuned.endpoint
    if tuned is not None and tuned.checkpoints:
        out["checkpoints"] = [
            {"id": each.checkpoint_id, "epoch": each.epoch, "step": each.step, "endpoint": each.endpoint}
            for each in tuned.checkpoints
        ]
    if job.output_uri:
        out["output_uri"] = job.output_uri
    return out


def _events(job: Any, before: Cursor, after: Cursor, now: datetime) -> Iterator[Event]:
    changed_at = job.update_time or now
    if not before.created:
        yield Event(kind="provider", message=f"{TITLE} has the job", at=job.create_time or changed_at)
    if job.start_time is not None and not before.started:
        yield Event(kind="provider", message=f"{TITLE} has begun ({_RUNNING})", at=job.start_time)
    if after.detail and after.detail != before.detail:
        told = _DETAILS.get(after.detail, "it has come to another phase")
        yield Event(kind="provider", message=f"{told} ({after.detail})", at=changed_at)
    if len(after.odd) > len(before.odd):
        message = f"{TITLE} says {after.raw!r}, a word that ft does not know; the state stays {after.state!r}"
        yield Event(kind="warning", message=message, at=now)
    elif after.raw == _PARTIAL != before.raw:
        message = f"some of the results are missing ({_PARTIAL}): look at the job in Google's console"
        yield Event(kind="warning", message=message, at=job.end_time or changed_at)
    elif after.raw not in (before.raw, _RUNNING, *after.odd):
        ended = after.state in ENDED
        kind = "provider" if after.state != "failed" else "error"
        at = (job.end_time if ended else None) or changed_at
        yield Event(kind="error" if kind == "error" else "provider", message=f"the job is {after.raw}", at=at)


def _progress(job: Any) -> tuple[int | None, int | None, int | None]:
    """Steps and epochs that are done, and steps in all; each None when the service does not tell it."""
    done = job.tuning_job_metadata
    stats = job.tuning_data_stats
    kinds = (stats.supervised_tuning_data_stats, stats.preference_optimization_data_stats) if stats else ()
    totals = [each.tuning_step_count for each in kinds if each is not None]
    step = done.completed_step_count if done else None
    return step, done.completed_epoch_count if done else None, totals[0] if totals else None


def _metric(step: int, epoch: int) -> Metric:
    return Metric(step=step, name="epoch", value=float(epoch))


def _problem(job: Any, raw: str, clean: Callable[[str], str]) -> Problem | None:
    """Why it failed; None when the service gives no reason."""
    if raw == "JOB_STATE_EXPIRED":
        what = f"the job has expired at {TITLE}"
        why = "it waited there for longer than Google lets it, or ran for too long"
        return Problem(code="E415", what=what, why=why, fix="`ft submit --force` tries again")
    error = job.error
    if error is None or not error.message:
        return None
    why = f"it says: {clean(error.message)} (code {error.code})"
    if error.code in _OURS:
        fix = "`ft validate` shows what it can see of that; mend the data or the recipe and submit again"
        return Problem(code="E413", what=f"{TITLE} refused the training data", why=why, fix=fix)
    what = f"the training failed at {TITLE}"
    return Problem(code="E401", what=what, why=why, fix="`ft submit --force` tries again")
