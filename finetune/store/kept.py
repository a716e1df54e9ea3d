"""What the database knows of the files that trainings leave."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, or_, select, update

from finetune.remains import Training
from finetune.store.database import Database
from finetune.store.schema import attempts, jobs, models, runs
from finetune.versions import ModelStatus

_GOES_ON: Final = ("queued", "running")
#: Keys in one question: databases take some thousand parameters.
_AT_ONCE: Final = 500
_ALL: Final = (
    select(
        runs.c.run_key,
        runs.c.state.label("run_state"),
        runs.c.artifact,
        runs.c.request["recipe_digest"].as_string().label("recipe"),
        runs.c.request["data_digest"].as_string().label("data"),
        jobs.c.id.label("job_id"),
        jobs.c.state,
        jobs.c.finished_at,
    )
    .join(attempts, attempts.c.run_key == runs.c.run_key)
    .join(jobs, jobs.c.id == attempts.c.job_id)
)


class SqlKept:
    """`remains.Books` in SQL. Safe for threads and for any number of processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def under_way(self) -> list[Training]:
        """See `remains.Books.under_way`."""
        unfinished = or_(jobs.c.finished_at.is_(None), runs.c.state.in_(_GOES_ON))
        with self._db.read() as connection:
            return [_training(row) for row in connection.execute(_ALL.where(unfinished))]

    def trainings(self, run_keys: Sequence[str]) -> dict[str, Training]:
        """See `remains.Books.trainings`."""
        found: dict[str, Training] = {}
        keys = sorted(set(run_keys))
        with self._db.read() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                wanted = _ALL.where(runs.c.run_key.in_(keys[start : start + _AT_ONCE]))
                found |= {row.run_key: _training(row) for row in connection.execute(wanted)}
        return found

    def note_gone(self, versions: Sequence[tuple[str, int]], at: datetime) -> bool:
        """See `remains.Books.note_gone`."""
        retired = models.c.status == str(ModelStatus.RETIRED)
        mine = [and_(models.c.name == name, models.c.version == version, retired) for name, version in versions]
        with self._db.write(durable=True) as connection:
            # Locked: `SqlModels.note_uri` writes the same column.
            asked = [select(models.c.artifact).where(each).with_for_update() for each in mine]
            rows = [connection.execute(each).first() for each in asked]
            if not all(rows):
                return False
            for each, row in zip(mine, rows, strict=True):
                artifact = {**(row.artifact if row else {}), "gone": at.isoformat()}
                connection.execute(update(models).where(each).values(artifact=artifact))
        return True


def _training(row: Any) -> Training:
    return Training(
        run_key=row.run_key,
        job_id=row.job_id,
        state=row.state,
        ended=row.finished_at is not None and row.run_state not in _GOES_ON,
        adapter=(row.artifact or {}).get("path"),
        makes=(row.recipe or "", row.data or ""),
    )
