"""A job of Together's, as one look at it tells, in our words."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from finetune.errors import Problem
from finetune.jobs import Event, Json, Metric, ProviderState
from finetune.ports import Observation, RemoteJob
from finetune.providers.asking import Bookmark, unknown

STATES: Final[Mapping[str, ProviderState]] = {
    "pending": "queued",
    "queued": "queued",
    "running": "running",
    "compressing": "running",
    "uploading": "running",
    "cancel_requested": "running",
    "completed": "succeeded",
    "error": "failed",
    # Not in the description of 2026-04; the vendor's package knows it.
    "user_error": "failed",
    "cancelled": "cancelled",
}
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
#: Before any of these nothing is measured.
IDLE: Final = frozenset({"pending", "queued"})
#: What counts steps and time in a row of metrics, and measures nothing.
_COUNTS: Final = ("timestamp", "step", "epoch")
_STEP: Final = "train/global_step"
#: Prices come in billionths of a US dollar. together 3.1.1, lib/utils/tools.py.
_NANO: Final = Decimal(10) ** 9
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, kw_only=True)
class Cursor(Bookmark):
    """How far we have read, and what later looks need of earlier ones."""

    #: So many events.
    events: int = 0
    #: The step of the last row of metrics, and so many rows of that step.
    step: int = -1
    rows: int = 0
    loss: float | None = None
    #: The last state in our words.
    state: ProviderState | None = None
    #: An unknown word that was told.
    told: str | None = None


def remote(job: Json) -> RemoteJob:
    """The job in short."""
    raw = str(job.get("status"))
    ended = STATES.get(raw) in ENDED
    return RemoteJob(remote_id=job["id"], raw_state=raw, created_at=_at(job.get("created_at")), ended=ended)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one look brought."""

    job: Json
    #: All of the job's events, in any order.
    events: Sequence[Json]
    #: The rows of metrics from the cursor's step on.
    metrics: Sequence[Json]


def observed(seen: Seen, cursor: Cursor, *, now: datetime, clean: Callable[[str], str]) -> Observation:
    """What one poll saw; `clean` makes the API's words fit to be shown."""
    job, rows, news = seen.job, _in_order(seen.events), _new(seen.metrics, cursor)
    raw = clean(str(job.get("status")))
    state = STATES.get(raw) or cursor.state or _guessed(rows)
    events = [_event(row, now, clean) for row in rows[cursor.events :]]
    after = _after(replace(cursor, events=max(cursor.events, len(rows)), state=state), news)
    if raw not in STATES and raw != cursor.told:
        events.append(unknown(raw, now))
        after = replace(after, told=raw)
    return Observation(
        state=state,
        raw_state=raw,
        cursor=after.text(),
        events=tuple(events),
        metrics=tuple(metric for step, row in news for metric in _metrics(step, row)),
        progress=_progress(job, rows, after),
        artifact=_artifact(job) if state == "succeeded" else None,
        problem=_problem(rows, clean) if state == "failed" else None,
        spent_usd=_spent(job) if state in ("succeeded", "cancelled") else None,
    )


def _in_order(rows: Sequence[Json]) -> Sequence[Json]:
    """Events, oldest first, whichever way they came."""
    newest_first = len(rows) > 1 and _at(rows[0].get("created_at")) > _at(rows[-1].get("created_at"))
    return sorted(rows[::-1] if newest_first else rows, key=lambda row: _at(row.get("created_at")))


def _new(rows: Sequence[Json], cursor: Cursor) -> Sequence[tuple[int, Json]]:
    """Rows of metrics with their steps, in order, without those that were read before."""
    found = [(int(row[_STEP]), row) for row in rows if _number(row.get(_STEP)) is not None]
    found.sort(key=lambda each: each[0])
    known = cursor.rows
    return [
        (step, row)
        for place, (step, row) in enumerate(found)
        if step > cursor.step or (step == cursor.step and place - _first(found, step) >= known)
    ]


def _first(rows: Sequence[tuple[int, Json]], step: int) -> int:
    return next(place for place, (each, _) in enumerate(rows) if each == step)


def _after(cursor: Cursor, news: Sequence[tuple[int, Json]]) -> Cursor:
    for step, row in news:
        loss = _number(row.get("train/loss"))
        cursor = replace(
            cursor,
            step=step,
            rows=cursor.rows + 1 if step == cursor.step else 1,
            loss=cursor.loss if loss is None else loss,
        )
    return cursor


def _metrics(step: int, row: Json) -> Iterator[Metric]:
    """`train/loss` is our loss, `eval/loss` our eval_loss; others by the same rule."""
    for name, value in row.items():
        side, _, short = name.rpartition("/")
        number = _number(value)
        if number is not None and not short.endswith(_COUNTS):
            yield Metric(step=step, name=short if side in ("", "train") else f"{side}_{short}", value=number)


def _progress(job: Json, events: Sequence[Json], cursor: Cursor) -> Json | None:
    """Steps as the job, its events or its metrics tell them; None when none does, and no time left is known."""
    steps = [job.get("steps_completed"), *(row.get("step") for row in events), max(0, cursor.step)]
    totals = [job.get("total_steps"), *(row.get("total_steps") for row in events)]
    step, total = _most(steps), _most(totals)
    left = job.get("progress")
    known = isinstance(left, dict) and left.get("estimate_available") is True
    eta_s = _number(left.get("seconds_remaining")) if known and isinstance(left, dict) else None
    if not step and not total and eta_s is None:
        return None
    return {"step": step, "total_steps": total or None, "loss": cursor.loss, "eta_s": eta_s}


def _guessed(rows: Sequence[Json]) -> ProviderState:
    """The state of a job in an unknown one, of which nothing else was ever seen."""
    return "running" if any(row.get("type") not in (None, "job_pending") for row in rows) else "queued"


def _event(row: Json, now: datetime, clean: Callable[[str], str]) -> Event:
    level = str(row.get("level") or "").lower()
    kind: Literal["error", "warning", "provider"] = "provider"
    if level.endswith("error"):
        kind = "error"
    elif level.endswith("warning"):
        kind = "warning"
    message = str(row.get("message") or row.get("type") or "an event without words")
    return Event(kind=kind, message=clean(message), at=_at(row.get("created_at"), now))


def _artifact(job: Json) -> Json:
    kind, kept = job.get("training_type"), job.get("model_object_id")
    return {
        "model": job.get("model_output_name"),
        "job": job["id"],
        "trained_tokens": job.get("token_count"),
        # `Lora` or `Full`; the API trains a LoRA where nobody says.
        "tuning": kind.get("type") if isinstance(kind, dict) else None,
        # What a deployment is made of; left out by the API when its registry has not got the weights.
        "object": kept if isinstance(kept, str) else None,
    }


def _problem(rows: Sequence[Json], clean: Callable[[str], str]) -> Problem | None:
    errors = [row for row in rows if str(row.get("level") or "").lower().endswith("error")]
    told = errors or [row for row in rows if str(row.get("type", "")).lower().endswith("_error")]
    if not told or not told[-1].get("message"):
        return None
    why, fix = f"it says: {clean(str(told[-1]['message']))}", "`ft submit --force` tries again"
    return Problem(code="E401", what="the training failed at the provider", why=why, fix=fix)


def _spent(job: Json) -> Decimal | None:
    """What the whole job costs: known when its data was counted, and less after a cancel."""
    price = job.get("total_price")
    if isinstance(price, bool) or not isinstance(price, int):
        return None
    return (Decimal(price) / _NANO).quantize(Decimal("0.0001"))


def _most(values: Iterable[Any]) -> int:
    """The largest whole number; 0 without any."""
    return max((each for each in values if isinstance(each, int) and not isinstance(each, bool)), default=0)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _at(said: object, otherwise: datetime = _EPOCH) -> datetime:
    """A time as the API writes it; without a zone it is UTC."""
    if not isinstance(said, str):
        return otherwise
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        return otherwise
    return found if found.tzinfo else found.replace(tzinfo=UTC)
