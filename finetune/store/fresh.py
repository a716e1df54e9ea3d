"""A new SQLite database in one go: what all migrations together make, kept as SQL in fresh.sql.

Alembic takes a fifth of a second to load and to run them, and each first command in a folder would wait for that. A
test holds both ways to the same schema.
"""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection

FILE = Path(__file__).with_name("fresh.sql")
_BETWEEN = "\n\n"


def create(connection: Connection) -> bool:
    """Make the newest schema in the caller's write transaction. False: the database is not empty; nothing was done."""
    if connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").first():
        return False
    for statement in FILE.read_text().split(_BETWEEN):
        connection.exec_driver_sql(statement)
    return True


def dump(connection: sqlite3.Connection) -> str:
    """The schema and rows of a database as SQL, as fresh.sql has them."""
    kept = (line for line in connection.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;"))
    # SQLite makes its own table when it makes the first that needs it.
    return _BETWEEN.join(line for line in kept if "sqlite_sequence" not in line) + "\n"
