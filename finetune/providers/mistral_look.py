"""A job of Mistral's, as one look at it tells, in our words."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Final, Literal

from finetune.errors import Problem
from finetune.jobs import Event, Json, Metric, ProviderState
from finetune.ports import Observation, RemoteJob
from finetune.providers.asking import Bookmark, unknown

STATES: Final[Mapping[str, ProviderState]] = {
    "QUEUED": "queued",
    "STARTED": "preparing",
    "VALIDATING": "preparing",
    # With `auto_start: false` it waits here until it is started.
    "VALIDATED": "preparing",
    "RUNNING": "running",
    "CANCELLATION_REQUESTED": "running",
    "SUCCESS": "succeeded",
    "FAILED": "failed",
    "FAILED_VALIDATION": "failed",
    "CANCELLED": "cancelled",
}
#: Not started yet.
WAITING: Final = frozenset({"QUEUED", "VALIDATING", "VALIDATED"})
_METRICS: Final = {"train_loss": "loss", "valid_loss": "eval_loss", "valid_mean_token_accuracy": "eval_accuracy"}
#: Where an event may say why; the description has no field for it.
_REASONS: Final = ("error", "reason", "message", "detail")
#: Only what stays the same from look to look: a new quote is a new question.
_QUOTED: Final = {"train_tokens": "tokens", "data_tokens": "data_tokens"}
_FAILURES: Final = frozenset({"FAILED", "FAILED_VALIDATION"})


@dataclass(frozen=True, kw_only=True)
class Cursor(Bookmark):
    """How far we have read: so many events, this step, the last state in our words, an unknown word that was told."""

    events: int = 0
    step: int = -1
    state: ProviderState | None = None
    told: str | None = None


def remote(job: Json) -> RemoteJob:
    """The job in short."""
    raw = str(job.get("status"))
    ended = STATES.get(raw) in ("succeeded", "failed", "cancelled")
    return RemoteJob(remote_id=job["id"], raw_state=raw, created_at=_at(job.get("created_at")), ended=ended)


def observed(job: Json, cursor: Cursor, now: datetime, clean: Callable[[str], str]) -> Observation:
    """What one poll saw; `clean` makes the API's words fit to be shown."""
    rows, measured = _in_order(job.get("events")), _checkpoints(job)
    raw = clean(str(job.get("status")))
    state = STATES.get(raw) or cursor.state or _last_known(rows)
    events = [_event(row, clean) for row in rows[cursor.events :]]
    after = Cursor(
        events=max(cursor.events, len(rows)),
        step=max([cursor.step, *(step for step, _ in measured)]),
        state=state,
        told=cursor.told,
    )
    if raw not in STATES and raw != cursor.told:
        events.append(unknown(raw, now))
        after = replace(after, told=raw)
    return Observation(
        state=state,
        raw_state=raw,
        cursor=after.text(),
        events=tuple(events),
        metrics=tuple(_metrics(each for each in measured if each[0] > cursor.step)),
        progress=_progress(job, measured),
        artifact=_artifact(job) if state == "succeeded" else None,
        problem=_problem(raw, rows, clean) if state == "failed" else None,
        quote=_quote(job) if raw == "VALIDATED" and job.get("auto_start") is not True else None,
    )


def _in_order(rows: object) -> Sequence[Json]:
    """Events, oldest first. The API lists the newest first, in whole seconds."""
    told = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    newest_first = not told or _number(told[0].get("created_at")) >= _number(told[-1].get("created_at"))
    return sorted(told[::-1] if newest_first else told, key=lambda row: _number(row.get("created_at")))


def _checkpoints(job: Json) -> Sequence[tuple[int, Json]]:
    """Steps with what was measured there, in order."""
    rows = job.get("checkpoints") or ()
    found = [(row["step_number"], row.get("metrics") or {}) for row in rows if isinstance(row.get("step_number"), int)]
    return sorted(found, key=lambda each: each[0])


def _status(row: Json) -> str | None:
    data = row.get("data")
    status = data.get("status") if isinstance(data, dict) else None
    return status if isinstance(status, str) else None


def _last_known(rows: Sequence[Json]) -> ProviderState:
    known = [STATES[status] for row in rows if (status := _status(row)) is not None and status in STATES]
    return known[-1] if known else "queued"


def _event(row: Json, clean: Callable[[str], str]) -> Event:
    status, reason = _status(row), _reason(row)
    kind: Literal["error", "provider"] = "error" if status in _FAILURES else "provider"
    message = ": ".join(each for each in (str(row.get("name")), status, reason) if each)
    return Event(kind=kind, message=clean(message), at=_at(row.get("created_at")))


def _reason(row: Json) -> str | None:
    data = row.get("data")
    said = [data[key] for key in _REASONS if data.get(key)] if isinstance(data, dict) else []
    return str(said[0]) if said else None


def _metrics(measured: Iterable[tuple[int, Json]]) -> Iterator[Metric]:
    for step, values in measured:
        for theirs, ours in _METRICS.items():
            if isinstance(values.get(theirs), int | float):
                yield Metric(step=step, name=ours, value=float(values[theirs]))


def _progress(job: Json, measured: Sequence[tuple[int, Json]]) -> Json | None:
    """From the newest checkpoint; None without one. The time left is the vendor's estimate, less the part done."""
    if not measured:
        return None
    step, values = measured[-1]
    total = (job.get("hyperparameters") or {}).get("training_steps")
    expected_s = (job.get("metadata") or {}).get("expected_duration_seconds")
    eta_s = None
    if isinstance(total, int) and isinstance(expected_s, int | float) and total > 0:
        eta_s = max(0.0, expected_s * (1 - step / total))
    return {"step": step, "total_steps": total, "loss": values.get("train_loss"), "eta_s": eta_s}


def _artifact(job: Json) -> Json:
    return {"model": job.get("fine_tuned_model"), "job": job["id"], "trained_tokens": job.get("trained_tokens")}


def _quote(job: Json) -> Json:
    """What it will cost. `usd` only when the API says dollars, rounded up to cents; another currency under its name."""
    told = job.get("metadata") or {}
    out: Json = {}
    cost = _money(told.get("cost"))
    if cost is not None:
        out[str(told.get("cost_currency") or "usd").lower()] = cost
    return out | {ours: told[theirs] for theirs, ours in _QUOTED.items() if isinstance(told.get(theirs), int | float)}


def _money(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return str(Decimal(str(value)).quantize(Decimal("0.01"), rounding=ROUND_CEILING))
    except InvalidOperation:
        return None


def _problem(raw: str, rows: Sequence[Json], clean: Callable[[str], str]) -> Problem | None:
    said = next((reason for row in reversed(rows) if (reason := _reason(row))), None)
    reason = clean(said) if said else None
    if raw == "FAILED_VALIDATION":
        fix = "`ft validate` shows what it can see of that; mend the data and submit again"
        why = f"it says: {reason}" if reason else "it says no more than that"
        return Problem(code="E413", what="the provider refused the training data", why=why, fix=fix)
    if reason is None:
        return None
    fix = "`ft submit --force` tries again"
    return Problem(code="E401", what="the training failed at the provider", why=f"it says: {reason}", fix=fix)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _at(epoch: object) -> datetime:
    return datetime.fromtimestamp(_number(epoch), UTC)
