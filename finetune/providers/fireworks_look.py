"""A job of Fireworks', as one look at it tells, in our words. It has no events: what has happened stands in the job."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from finetune.errors import Problem
from finetune.jobs import Event, Json, Metric, ProviderState
from finetune.ports import Observation, RemoteJob
from finetune.providers.asking import Bookmark, unknown

#: Without those that no page explains (IDLE, UNSPECIFIED) and those of a job that somebody deletes.
STATES: Final[Mapping[str, ProviderState]] = {
    "JOB_STATE_PENDING": "queued",
    "JOB_STATE_RE_QUEUEING": "queued",
    "JOB_STATE_CREATING": "preparing",
    "JOB_STATE_VALIDATING": "preparing",
    "JOB_STATE_CREATING_INPUT_DATASET": "preparing",
    "JOB_STATE_RUNNING": "running",
    "JOB_STATE_WRITING_RESULTS": "running",
    "JOB_STATE_CANCELLING": "running",
    # An account that is suspended, or a hand of the vendor's.
    "JOB_STATE_PAUSED": "paused",
    "JOB_STATE_COMPLETED": "succeeded",
    # With the best of it kept.
    "JOB_STATE_EARLY_STOPPED": "succeeded",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "failed",
    "JOB_STATE_CANCELLED": "cancelled",
}
#: In which a file of measured values may be there.
MEASURED: Final[frozenset[ProviderState]] = frozenset({"running", "paused", "succeeded", "failed", "cancelled"})
_ENDED: Final[frozenset[ProviderState]] = frozenset({"succeeded", "failed", "cancelled"})
#: Names of values in the file, by what users of the API were seen to get; no page has them.
_METRICS: Final = {"train/loss": "loss", "eval/loss": "eval_loss"}
_NANOS: Final = Decimal(1_000_000_000)


@dataclass(frozen=True, kw_only=True)
class Cursor(Bookmark):
    """How far we have told: beginning, cost, end, the last step; the last state in our words, an unknown word."""

    created: bool = False
    cost: bool = False
    ended: bool = False
    step: int = -1
    state: ProviderState | None = None
    odd: str | None = None


#: A step, and what was measured there.
Curve = Sequence[tuple[int, Json]]
#: The API's own words on one line, shortened, without secrets.
Clean = Callable[[str], str]


def remote(job: Json, *, now: datetime, clean: Clean) -> RemoteJob:
    """The job in short; `now` stands in where the API says no moment."""
    raw = clean(str(job.get("state")))
    created = _at(job.get("createTime")) or now
    return RemoteJob(remote_id=job["name"], raw_state=raw, created_at=created, ended=has_ended(job))


def has_ended(job: Json) -> bool:
    """Nothing runs any more."""
    return STATES.get(str(job.get("state"))) in _ENDED


def curve(content: bytes) -> Curve:
    """The lines of a file of measured values, in order of their steps. A line that is half there is left out."""
    found: dict[int, Json] = {}
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, int) and step >= 0:
            # There were files with the values one level down.
            values = row["data"] if isinstance(row.get("data"), dict) else row
            found[step] = {**found.get(step, {}), **values}
    return sorted(found.items())


def observed(job: Json, measured: Curve, cursor: Cursor, *, now: datetime, clean: Clean) -> Observation:
    """What one poll saw. `clean` is for all words of the API that come out of here."""
    raw = clean(str(job.get("state")))
    state = STATES.get(raw) or cursor.state or "queued"
    events, after = _news({**job, "state": raw}, cursor, state, now=now, clean=clean)
    if raw not in STATES and raw != cursor.odd:
        events.append(unknown(raw, now))
        after = replace(after, odd=raw)
    after = replace(after, state=state, step=max([cursor.step, *(step for step, _ in measured)]))
    return Observation(
        state=state,
        raw_state=raw,
        cursor=after.text(),
        events=tuple(events),
        metrics=tuple(_metrics(measured, cursor.step)),
        progress=_progress(job, measured),
        artifact=_artifact(job) if state == "succeeded" else None,
        problem=_problem(raw, _reason(job, clean)) if state == "failed" else None,
    )


def _news(
    job: Json, cursor: Cursor, state: ProviderState, *, now: datetime, clean: Clean
) -> tuple[list[Event], Cursor]:
    """The three things that happen to a job, each told once: it is made, its cost is known, it ends."""
    events: list[Event] = []
    created = _at(job.get("createTime")) or now
    if not cursor.created:
        events.append(Event(kind="provider", message=clean(f"created {job.get('name')}"), at=created))
    cost = _usd(job)
    if cost is not None and not cursor.cost:
        events.append(Event(kind="provider", message=f"the provider expects it to cost {cost} US dollars", at=created))
    ended = state in _ENDED
    if ended and not cursor.ended:
        kind: Any = "error" if state == "failed" else "provider"
        said = ": ".join(each for each in (job["state"], _reason(job, clean)) if each)
        events.append(Event(kind=kind, message=said, at=_at(job.get("completedTime")) or now))
    told = replace(cursor, created=True, cost=cursor.cost or cost is not None, ended=cursor.ended or ended)
    return events, told


def _metrics(measured: Curve, after: int) -> Iterator[Metric]:
    for step, values in measured:
        for theirs, ours in _METRICS.items() if step > after else ():
            if _is_number(values.get(theirs)):
                yield Metric(step=step, name=ours, value=float(values[theirs]))


def _progress(job: Json, measured: Curve) -> Json | None:
    """From the newest step, with the share that is done; None without either."""
    told = job.get("jobProgress")
    percent = told.get("percent") if isinstance(told, dict) else None
    if not measured and not percent:
        return None
    step, values = measured[-1] if measured else (None, {})
    loss = values.get("train/loss")
    out: Json = {"step": step, "total_steps": None, "loss": loss if _is_number(loss) else None, "eta_s": None}
    return out | ({"percent": percent} if isinstance(percent, int) else {})


def _artifact(job: Json) -> Json:
    """By its whole name. The API names the model by the job where nothing else is asked for."""
    account, _, own = str(job["name"]).partition("/")[2].partition("/")
    numbers = job.get("trainingConfig") if isinstance(job.get("trainingConfig"), dict) else {}
    named = job.get("outputModel") or (numbers or {}).get("outputModel") or own.partition("/")[2]
    model = named if str(named).startswith("accounts/") else f"accounts/{account}/models/{named}"
    return {"model": model, "job": job["name"]}


def _problem(raw: str, reason: str | None) -> Problem | None:
    if raw == "JOB_STATE_EXPIRED":
        why = f"it says: {reason}" if reason else "it says no more than that"
        return Problem(code="E415", what=f"the job ended at the provider as {raw}", why=why, fix=_AGAIN)
    if reason is None:
        return None
    return Problem(code="E401", what="the training failed at the provider", why=f"it says: {reason}", fix=_AGAIN)


_AGAIN: Final = "`ft submit --force` tries again"


def _reason(job: Json, clean: Clean) -> str | None:
    status = job.get("status")
    said = status.get("message") if isinstance(status, dict) else None
    return (clean(said) or None) if isinstance(said, str) else None


def _usd(job: Json) -> Decimal | None:
    """What it is expected to cost, rounded up to cents; None when the API says none, or another currency."""
    told = job.get("estimatedCost")
    if not isinstance(told, dict) or told.get("currencyCode") != "USD":
        return None
    units, nanos = str(told.get("units") or "0"), told.get("nanos") or 0
    if not units.isdecimal() or not isinstance(nanos, int):
        return None
    return (Decimal(units) + nanos / _NANOS).quantize(Decimal("0.01"), rounding=ROUND_CEILING)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(said: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
