"""What OpenAI's list of jobs tells of those that have ended well, whoever started them."""

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


def past(rows: Iterable[Any], run_key: str) -> list[Past]:
    """Those that have ended well, oldest first. `run_key` names ours in `metadata`. Raises ProviderError: no jobs."""
    found = []
    for row in rows:
        if not isinstance(row, dict) or not {"id", "model", "status", "training_file"} <= row.keys():
            raise ProviderError(_no_job(row))
        if row["status"] == "succeeded" and isinstance(row.get("fine_tuned_model"), str):
            found.append(_past(row, run_key))
    return sorted(found, key=lambda each: (each.created_at, each.remote_id))


def _past(row: Json, run_key: str) -> Past:
    method = row.get("method") or {}
    kind = str(method.get("type", "supervised"))
    numbers = (method.get(kind) or {}).get("hyperparameters") or row.get("hyperparameters") or {}
    training = {
        ours: as_type(numbers[theirs])
        for theirs, (ours, as_type) in _NUMBERS.items()
        # "auto": the vendor's choice, which it does not always tell.
        if isinstance(numbers.get(theirs), int | float)
    }
    parts = row["fine_tuned_model"].split(":")
    created = row.get("created_at") or 0
    return Past(
        remote_id=str(row["id"]),
        base_model=str(row["model"]),
        method=_METHODS.get(kind, kind),
        artifact={"model": row["fine_tuned_model"], "trained_tokens": row.get("trained_tokens")},
        label=parts[3] if len(parts) == _PARTS and parts[3] else None,
        training=training,
        seed=row.get("seed"),
        train_file=str(row["training_file"]),
        validation_file=row.get("validation_file"),
        run_key=(row.get("metadata") or {}).get(run_key),
        created_at=_at(created),
        finished_at=_at(row.get("finished_at") or created),
    )


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _no_job(row: Any) -> Problem:
    return Problem(
        code="E416",
        what="this is no list of fine-tuning jobs",
        why=f"an entry is {str(row)[:80]!r}, and a job has id, model, status and training_file",
        fix="export what `GET /v1/fine_tuning/jobs` answers: its `data`, or one job a line",
    )
