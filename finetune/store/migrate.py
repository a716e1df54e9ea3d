"""Bring a database to the newest schema with Alembic, without an ini file."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

_LOCK = 0x66745F31  # any number that all versions of ft agree on


def config() -> Config:
    """Alembic's configuration for the migrations that ship with the package."""
    found = Config()
    found.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    found.set_main_option("path_separator", "os")
    return found


def upgrade(write: Callable[[], AbstractContextManager[Connection]], *, postgres: bool) -> None:
    """Run every missing migration in one write transaction; a second process waits and then finds nothing to do."""
    with write() as connection:
        if postgres:
            # SQLite's write transaction already keeps others out.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
