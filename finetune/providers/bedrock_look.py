"""A customization job as Amazon Bedrock tells of it, in our words. It has no events, but tells when a phase began."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from finetune.errors import Problem
from finetune.jobs import Event, Json, Metric, ProviderState
from finetune.ports import Observation, RemoteJob
from finetune.providers.bedrock_wire import TITLE

_RUNS: Final = "InProgress"
#: Of a job that is under way, its phases say more.
STATES: Final[Mapping[str, ProviderState]] = {
    _RUNS: "running",
    # It can still end well.
    "Stopping": "running",
    "Completed": "succeeded",
    "Failed": "failed",
    "Stopped": "cancelled",
}
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
#: In the order in which they come: their field, our word, and what happens.
_PHASES: Final = (
    ("validationDetails", "validation", "the data is being checked"),
    ("dataProcessingDetails", "data processing", "the data is being made ready"),
    ("trainingDetails", "training", "the model is being trained"),
)
_TRAINING: Final = "trainingDetails"
#: Where a failure is one of what we sent.
_OF_DATA: Final = ("validationDetails", "dataProcessingDetails")
_NOT_BEGUN: Final = (None, "", "NotStarted")


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far we have told: the last state in our words and in theirs, and what is told once."""

    state: ProviderState = "queued"
    raw: str = ""
    created: bool = False
    #: Fields of phases.
    phases: tuple[str, ...] = ()
    measured: bool = False
    #: Words that no document has, and that were told.
    odd: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str | None) -> "Cursor":
        """From what the last poll handed out."""
        if not text:
            return cls()
        value = json.loads(text)
        return cls(**{**value, "phases": tuple(value["phases"]), "odd": tuple(value["odd"])})

    def text(self) -> str:
        """To be handed out."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the tables of a finished training told."""

    metrics: tuple[Metric, ...] = ()
    #: Why they could not be read; empty when they could.
    trouble: str = ""


def remote(row: Json) -> RemoteJob:
    """The job of a list in short."""
    raw = str(row.get("status") or "")
    return RemoteJob(
        remote_id=str(row["jobArn"]),
        raw_state=raw,
        created_at=_time(row.get("creationTime")) or datetime.fromtimestamp(0, UTC),
        ended=STATES.get(raw) in ENDED,
    )


def observed(
    job: Json, before: Cursor, now: datetime, clean: Callable[[str], str], measured: Measured | None
) -> Observation:
    """What one poll saw; `clean` makes the service's words fit to be shown, `measured` None: not looked for now."""
    raw, begun = str(job.get("status") or ""), _begun(job)
    state = _state(raw, job, before)
    odd = before.odd if raw in STATES or raw in before.odd else (*before.odd, raw)
    phases = (*before.phases, *(field for field in begun if field not in before.phases))
    after = Cursor(
        state=state,
        raw=raw,
        created=True,
        phases=phases,
        measured=before.measured or measured is not None,
        odd=odd,
    )
    told = [word for field, word, _ in _PHASES if field in begun and raw == _RUNS]
    return Observation(
        state=state,
        raw_state=f"{raw}, {told[-1]}" if told else raw,
        cursor=after.text(),
        events=tuple(_events(job, before, after, now, measured)),
        metrics=measured.metrics if measured else (),
        artifact=artifact(job) if state == "succeeded" else None,
        problem=_problem(job, clean) if state == "failed" else None,
    )


def artifact(job: Json) -> Json | None:
    """The tuned model's ARN; None when the answer names none."""
    arn = job.get("outputModelArn")
    return {"model": str(arn), "name": str(job.get("outputModelName") or "")} if arn else None


def _state(raw: str, job: Json, before: Cursor) -> ProviderState:
    if raw != _RUNS or not job.get("statusDetails"):
        # A job that tells no phases is one that runs.
        return STATES.get(raw, before.state)
    begun = _begun(job)
    if _TRAINING in begun:
        return "running"
    return "preparing" if begun else "queued"


def _begun(job: Json) -> list[str]:
    """The fields of the phases that have begun, in their order."""
    return [field for field, _, _ in _PHASES if _phase(job, field).get("status") not in _NOT_BEGUN]


def _phase(job: Json, field: str) -> Json:
    details = job.get("statusDetails")
    phase = details.get(field) if isinstance(details, dict) else None
    return phase if isinstance(phase, dict) else {}


def _events(job: Json, before: Cursor, after: Cursor, now: datetime, measured: Measured | None) -> Iterator[Event]:
    changed_at = _time(job.get("lastModifiedTime")) or now
    if not before.created:
        at = _time(job.get("creationTime")) or changed_at
        yield Event(kind="provider", message=f"{TITLE} has the job", at=at)
    for field, _, happens in _PHASES:
        if field in after.phases and field not in before.phases:
            at = _time(_phase(job, field).get("creationTime")) or changed_at
            yield Event(kind="provider", message=f"{happens} ({field})", at=at)
    if measured is not None and measured.trouble:
        message = f"the measured values could not be read from the bucket: {measured.trouble}"
        yield Event(kind="warning", message=message, at=now)
    if len(after.odd) > len(before.odd):
        message = f"{TITLE} says {after.raw!r}, a word that ft does not know; the state stays {after.state!r}"
        yield Event(kind="warning", message=message, at=now)
    elif after.raw not in (before.raw, _RUNS, *after.odd):
        at = (_time(job.get("endTime")) if after.state in ENDED else None) or changed_at
        failed = after.state == "failed"
        yield Event(kind="error" if failed else "provider", message=f"the job is {after.raw}", at=at)


def _problem(job: Json, clean: Callable[[str], str]) -> Problem | None:
    """Why it failed; None when the service gives no reason."""
    words = clean(str(job.get("failureMessage") or ""))
    of_data = any(_phase(job, field).get("status") == "Failed" for field in _OF_DATA)
    if not words and not of_data:
        return None
    why = f"it says: {words or 'nothing'}"
    if of_data:
        fix = "`ft validate` shows what it can see of that; mend the data or the recipe and submit again"
        return Problem(code="E413", what=f"{TITLE} refused the training data", why=why, fix=fix)
    what = f"the training failed at {TITLE}"
    return Problem(code="E401", what=what, why=why, fix="`ft submit --force` tries again")


def _time(value: Any) -> datetime | None:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else None
