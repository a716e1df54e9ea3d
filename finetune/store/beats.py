"""Which workers live."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from finetune.placement import Device
from finetune.runs import Beat
from finetune.store.database import Database
from finetune.store.schema import workers

_FORGET = timedelta(days=1)


class SqlBeats:
    """`ports.BeatStore` in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def beat(self, worker: Beat) -> None:
        """See `ports.BeatStore.beat`."""
        values = {**vars(worker), "queues": list(worker.queues), "devices": [asdict(each) for each in worker.devices]}
        with self._db.write() as connection:
            mine = update(workers).where(workers.c.worker == worker.worker).values(**values)
            if not connection.execute(mine).rowcount:
                # A worker that was killed never signs off; the next one that starts sweeps up behind it.
                connection.execute(delete(workers).where(workers.c.seen_at < worker.seen_at - _FORGET))
                connection.execute(insert(workers).values(**values))

    def leave(self, worker: str) -> None:
        """See `ports.BeatStore.leave`."""
        with self._db.write() as connection:
            connection.execute(delete(workers).where(workers.c.worker == worker))

    def workers(self, since: datetime) -> list[Beat]:
        """See `ports.BeatStore.workers`."""
        wanted = select(workers).where(workers.c.seen_at >= since).order_by(workers.c.worker)
        with self._db.read() as connection:
            rows = connection.execute(wanted).all()
        return [beat_of(row) for row in rows]


def beat_of(row: Row[Any]) -> Beat:
    """The worker of a row."""
    return Beat(
        worker=row.worker,
        queues=tuple(row.queues),
        host=row.host,
        pid=row.pid,
        seen_at=row.seen_at,
        devices=tuple(Device(**each) for each in row.devices or ()),
        slots=row.slots,
    )
