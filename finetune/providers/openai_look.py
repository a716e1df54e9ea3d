"""A job of OpenAI's protocol, as its rows tell of it, in our words."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from finetune.errors import Problem
from finetune.jobs import Event, Json, Metric, ProviderState
from finetune.ports import Observation, RemoteJob
from finetune.providers.asking import unknown

STATES: Final[Mapping[str, ProviderState]] = {
    "validating_files": "preparing",
    "queued": "queued",
    "running": "running",
    "pausing": "running",
    "paused": "paused",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    # Azure's own words beside these.
    "created": "queued",
    "pending": "queued",
    "notRunning": "queued",
    "canceled": "cancelled",
}
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
_PAUSED: Final = frozenset({"pausing", "paused"})
#: Params and codes of a job's error that speak of its files; the last two are Azure's.
_OF_DATA: Final = frozenset(
    {
        *("training_file", "validation_file", "invalid_training_file", "invalid_validation_file"),
        *("invalid_n_examples", "jsonlValidationFailed", "fileImportFailed"),
    }
)
_LEVELS: Final[Mapping[str, Literal["provider", "warning", "error"]]] = {
    "info": "provider",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
}
#: The API's names of what is measured, in ours.
_METRICS: Final = {
    "train_loss": "loss",
    "valid_loss": "eval_loss",
    "full_valid_loss": "full_eval_loss",
    "train_mean_token_accuracy": "accuracy",
    "valid_mean_token_accuracy": "eval_accuracy",
    "full_valid_mean_token_accuracy": "full_eval_accuracy",
}


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far we have read: the last event's id, the last state in our words, an unknown word that was told."""

    event: str | None = None
    state: ProviderState = "queued"
    told: str | None = None

    @classmethod
    def of(cls, text: str | None) -> "Cursor":
        """From what the last poll handed out."""
        return cls(**json.loads(text)) if text else cls()

    def text(self) -> str:
        """To be handed out."""
        return json.dumps({"event": self.event, "state": self.state, "told": self.told})


def remote(job: Json) -> RemoteJob:
    """The job in short."""
    raw = str(job.get("status"))
    ended = STATES.get(raw) in ENDED
    return RemoteJob(remote_id=job["id"], raw_state=raw, created_at=_at(job.get("created_at")), ended=ended)


def as_wished(job: Json, wish: str) -> bool:
    """Whether there is nothing to do about a wish to `cancel`, `pause` or `resume`: it has ended, or is so already."""
    raw = str(job.get("status"))
    if STATES.get(raw) in ENDED:
        return True
    return {"pause": raw in _PAUSED, "resume": raw in STATES and raw not in _PAUSED}.get(wish, False)


def observed(
    job: Json, new: Sequence[Json], cursor: Cursor, *, now: datetime, clean: Callable[[str], str]
) -> Observation:
    """What one poll saw. `new` are events since the cursor, oldest first; `clean` takes secrets out of words."""
    raw = clean(str(job.get("status")))
    state = STATES.get(raw, cursor.state)
    # What is measured stands in the metrics; a line for each step would bury the rest.
    events = [_event(row, clean) for row in new if row.get("type") != "metrics"]
    told = cursor.told
    if raw not in STATES and raw != told:
        events.append(unknown(raw, now))
        told = raw
    after = Cursor(event=new[-1]["id"] if new else cursor.event, state=state, told=told)
    return Observation(
        state=state,
        raw_state=raw,
        cursor=after.text(),
        events=tuple(events),
        metrics=tuple(_metrics(new)),
        progress=_progress(job, new, now),
        problem=_problem(job, clean) if state == "failed" else None,
    )


def checkpoint(row: Json) -> Json:
    """A checkpoint as it stands in the artifact: the model's id there, the step, what was measured."""
    return {
        "model": row.get("fine_tuned_model_checkpoint"),
        "step": row.get("step_number"),
        "metrics": {_METRICS[name]: value for name, value in (row.get("metrics") or {}).items() if name in _METRICS},
    }


def _event(row: Json, clean: Callable[[str], str]) -> Event:
    kind = _LEVELS.get(str(row.get("level")), "provider")
    return Event(kind=kind, message=clean(str(row.get("message"))), at=_at(row.get("created_at")))


def _metrics(rows: Iterable[Json]) -> Iterable[Metric]:
    for row in rows:
        data = row.get("data")
        if row.get("type") != "metrics" or not isinstance(data, dict) or not isinstance(data.get("step"), int):
            continue
        for theirs, ours in _METRICS.items():
            value = data.get(theirs)
            # A loss that is no number any more (NaN) is told by the events, and cannot be kept.
            if isinstance(value, (int, float)) and math.isfinite(value):
                yield Metric(step=data["step"], name=ours, value=float(value))


def _progress(job: Json, rows: Sequence[Json], now: datetime) -> Json | None:
    """From the newest measured step; None without one."""
    measured = [row["data"] for row in rows if row.get("type") == "metrics" and isinstance(row.get("data"), dict)]
    if not measured or not isinstance(measured[-1].get("step"), int):
        return None
    last = measured[-1]
    finish = job.get("estimated_finish")
    eta_s = max(0.0, finish - now.timestamp()) if isinstance(finish, (int, float)) else None
    told = {"step": last["step"], "total_steps": last.get("total_steps"), "loss": last.get("train_loss")}
    return {name: value for name, value in {**told, "eta_s": eta_s}.items() if value is not None}


def _problem(job: Json, clean: Callable[[str], str]) -> Problem | None:
    error = job.get("error") or {}
    if not error.get("message"):
        return None
    of_data = not _OF_DATA.isdisjoint({str(error.get("param")), str(error.get("code"))})
    code = f"{error['code']}: " if error.get("code") else ""
    return Problem(
        code="E413" if of_data else "E401",
        what="the provider refused the training data" if of_data else "the training failed at the provider",
        why=f"it says: {clean(code + str(error['message']))}",
        fix="`ft validate` shows what it can see of that; mend the data and submit again"
        if of_data
        else "`ft submit --force` tries again",
    )


def _at(epoch: object) -> datetime:
    return datetime.fromtimestamp(epoch if isinstance(epoch, (int, float)) else 0, UTC)
