"""What the database is told about jobs that were taken in from elsewhere."""

from sqlalchemy import select, update

from finetune.jobs import Event, Job
from finetune.store.database import Database
from finetune.store.schema import jobs, models
from finetune.store.statements import append


class SqlImports:
    """`importing.Books` in SQL. Safe for threads and for any number of processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_rows(self, job: Job, event: Event) -> bool:
        """See `importing.Books.add_rows`."""
        mine = jobs.c.id == job.id
        with self._db.write(durable=True) as connection:
            # Locked: another import may add the same rows at this moment, and then it has been told already.
            row = connection.execute(select(jobs.c.data).where(mine).with_for_update()).first()
            if row is None or row.data == job.data:
                return False
            connection.execute(update(jobs).where(mine).values(recipe=job.recipe, data=job.data))
            version = models.c.job_id == job.id
            if made := connection.execute(select(models.c.lineage).where(version).with_for_update()).first():
                lineage = {**made.lineage, "data": job.data["digest"]}
                connection.execute(update(models).where(version).values(lineage=lineage))
            append(connection, job.id, [event])
        return True
