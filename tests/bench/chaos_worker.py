"""A worker of `tests.bench.chaos`: ours, whose trainer is `tests/support/chaos_trainer.py`.

CHAOS_SABOTAGE breaks it on purpose, to see that the bench notices: `token` lets every write of a lost lease through,
`sweep` rings for nothing.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from finetune.store import SqlJobs, SqlRuns
from finetune.sweep import Sweep
from finetune.wiring import parts
from workers import __main__ as worker

_TRAINER = str(Path(__file__).parents[1] / "support" / "chaos_trainer.py")


def stage(real: Any) -> Any:
    """The command line that starts ours with the real one as its words."""

    def command(*args: Any, **options: Any) -> list[str]:
        return [sys.executable, "-P", _TRAINER, *real(*args, **options)]

    return command


def without_tokens() -> None:
    """Before every write the row is given the writer's own token: a lease that was lost is not noticed."""
    for method in ("apply", "record", "renew"):
        setattr(SqlJobs, method, forced(getattr(SqlJobs, method), "jobs", "id", lambda lease: lease.job.id))
    SqlRuns.update_run = forced(SqlRuns.update_run, "runs", "run_key", lambda run: run.run_key)  # type: ignore[method-assign]


def forced(write: Any, table: str, column: str, key: Any) -> Any:
    """The write, let through."""
    owner = ", lease_owner = :owner" if table == "jobs" else ""
    take = text(f"UPDATE {table} SET lease_token = :token, lease_until = :until{owner} WHERE {column} = :key")

    def written(self: Any, mine: Any, *args: Any, **more: Any) -> Any:
        token = getattr(mine, "lease_token", None) or mine.token
        until = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=15)
        values = {"token": token, "until": until, "owner": getattr(mine, "owner", ""), "key": key(mine)}
        with self._db.write() as connection:
            connection.execute(take, values)
        return write(self, mine, *args, **more)

    return written


def main() -> int:
    parts._trainer = stage(parts._trainer)
    sabotage = os.environ.get("CHAOS_SABOTAGE")
    if sabotage == "token":
        without_tokens()
    elif sabotage == "sweep":
        Sweep.tick = lambda self: 0  # type: ignore[method-assign]
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
