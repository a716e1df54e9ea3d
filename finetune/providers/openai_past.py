"""What OpenAI's list of jobs tells of those that have ended well, whoever started them."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from finetune.abilities import Past
from finetune.errors import Problem, ProviderError
from finetune.jobs import Json

_METHODS: Final = {"supervised": "sft", "dpo": "dpo"}
_NUMBERS: Final = {
    "n_epochs": ("epochs", int),
    "batch_size": ("batch_size", int),
    "learning_rate_multiplier": ("learning_rate_multiplier", float),
}
#: Of `ft:BASE:ORGANISATION:SUFFIX:ID`.
_PARTS: Final = 5
#: Letters of an id.
_LONGEST: Final = 200


def past(rows: Iterable[Any], run_key: str) -> list[Past]:
    """Those that have ended well, oldest first. `run_key` names ours in `metadata`. Raises ProviderError: no jobs."""
    found = []
    for row in rows:
        if not isinstance(row, dict) or not {"id", "model", "status", "training_file"} <= row.keys():
            raise ProviderError(_no_job(row, "a job has id, model, status and training_file"))
        if row["status"] == "succeeded" and isinstance(row.get("fine_tuned_model"), str):
            found.append(_past(row, run_key))
    return sorted(found, key=lambda each: (each.created_at, each.remote_id))


def _past(row: Json, run_key: str) -> Past:
    method = _of(row, "method", dict) or {}
    kind = _of(method, "type", str, row) or "supervised"
    inside = _of(method, kind, dict, row) or {}
    # What was left to the vendor ("auto") it tells as a number afterwards, at one of two places or at both, or never.
    told = (_of(row, "hyperparameters", dict) or {}, _of(inside, "hyperparameters", dict, row) or {})
    numbers = {name: value for each in told for name, value in each.items() if _is_number(value)}
    training = {ours: as_type(numbers[theirs]) for theirs, (ours, as_type) in _NUMBERS.items() if theirs in numbers}
    parts = row["fine_tuned_model"].split(":")
    created = _at(row, "created_at")
    return Past(
        remote_id=_text(row, "id"),
        base_model=_text(row, "model"),
        method=_METHODS.get(kind, kind),
        artifact={"model": row["fine_tuned_model"], "trained_tokens": _of(row, "trained_tokens", int)},
        label=parts[3] if len(parts) == _PARTS and parts[3] else None,
        training=training,
        beta=float(numbers["beta"]) if kind == "dpo" and "beta" in numbers else None,
        seed=_of(row, "seed", int),
        train_file=_text(row, "training_file"),
        validation_file=_text(row, "validation_file") if row.get("validation_file") is not None else None,
        run_key=_of(_of(row, "metadata", dict) or {}, run_key, str, row),
        created_at=created,
        finished_at=_at(row, "finished_at") if row.get("finished_at") is not None else created,
    )


def _of(place: Json, name: str, kind: type, row: Json | None = None) -> Any:
    """The value, or None where there is none. Raises ProviderError when it is of another kind."""
    found = place.get(name)
    if found is not None and (not isinstance(found, kind) or isinstance(found, bool)):
        raise ProviderError(_no_job(row or place, f"its {name} is {str(found)[:40]!r}"))
    return found


def _text(row: Json, name: str) -> str:
    found = _of(row, name, str)
    if not found or len(found) > _LONGEST:
        raise ProviderError(_no_job(row, f"its {name} is no name"))
    return str(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _at(row: Json, name: str) -> datetime:
    seconds = row.get(name)
    try:
        if _is_number(seconds):
            return datetime.fromtimestamp(seconds, UTC)  # type: ignore[arg-type]  # it is one
    except (OverflowError, OSError, ValueError):
        pass
    raise ProviderError(_no_job(row, f"its {name} is {str(seconds)[:40]!r}, and seconds since 1970 are wanted"))


def _no_job(row: Any, why: str) -> Problem:
    named = row.get("id") if isinstance(row, dict) else None
    return Problem(
        code="E416",
        what="this is no list of fine-tuning jobs",
        why=f"of {str(named or row)[:80]!r}: {why}",
        fix="export what `GET /v1/fine_tuning/jobs` answers: its `data`, or one job a line",
    )
