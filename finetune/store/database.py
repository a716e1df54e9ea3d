"""One database: connections, transactions, migrations, and its faults as errors of ours."""

import os
import select
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError, SQLAlchemyError

from finetune.errors import FtError, LeaseLost, Problem, StateError, StoreBusy
from finetune.files import unwritable
from finetune.store import fresh
from finetune.store.straight import Straight

#: The newest migration; `open` compares it with the database before it loads Alembic, which takes a while.
REVISION = "0010"
_BUSY_S = 15.0
#: A connection to a server that lay idle for so long is tried before it is used: a firewall may have forgotten it.
_IDLE_S = 30.0


class Conflict(StateError):
    """A unique key is taken, or a value is not allowed: the statement's fault, not the database's."""


class Database:
    """An open database. Connections are made on first use; `close` gives all of them up.

    Not usable in a forked child: SQLite forgets its locks there and rows vanish without a word, so a child that
    tries gets a StateError. Processes that share a database each open their own.
    """

    def __init__(self, url: str, *, max_pages: int | None = None) -> None:
        """`max_pages` bounds a SQLite file (pages of 4,096 bytes); tests fill a disk with it."""
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._pid = os.getpid()
        self._max_pages = max_pages
        # One pool; `write` chooses how a transaction begins.
        self._engine = self._create()
        self._compiled: dict[Any, Any] = {}
        self._flushed = self._engine.execution_options(ft_write="FULL")
        self._quick = self._engine.execution_options(ft_write="NORMAL")

    @classmethod
    def open(cls, url: str) -> "Database":
        """Open and bring to the newest schema. Raises StateError with the reason and a way out."""
        try:
            database = cls(url)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise StateError(_bad_url(error)) from None
        database.migrate()
        return database

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Statements that only read. In SQLite they see one moment; PostgreSQL shows later statements later rows.

        So PostgreSQL needs no transaction for them, and each is one trip to the server.
        """
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A transaction that writes; in SQLite it takes the write lock at its start, so it cannot deadlock later.

        `durable` waits for the disk (an fsync): for what must survive a power cut, such as run keys and remote ids.
        PostgreSQL always waits: a claim that it lost in a crash would give its token out twice.
        """
        engine = self._flushed if durable else self._quick
        with self._translated(), engine.begin() as connection:
            yield connection

    @contextmanager
    def write_once(self, *, durable: bool = False) -> Iterator[Connection | Straight]:
        """`write`, for one statement: a server needs no transaction around it, and we one trip instead of three."""
        if self.sqlite:
            with self.write(durable=durable) as connection:
                yield connection
            return
        with self._translated():
            straight = Straight(self._engine, self._compiled)
            try:
                yield straight
            finally:
                straight.close()

    def changes(self, connection: Connection) -> int | None:
        """A number that differs once another connection has committed; None where the database has no such number.

        `connection` must be kept from one call to the next, outside a transaction.
        """
        if not self.sqlite:
            return None
        with self._translated():
            number = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
            connection.rollback()
        return int(number)

    @contextmanager
    def watching(self) -> Iterator[Connection]:
        """A connection of its own for `changes`."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    def now(self) -> datetime | None:
        """The server's clock; None where the database is a file."""
        if self.sqlite:
            return None
        with self.read() as connection:
            said: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return said

    def examine(self) -> None:
        """Look through the whole file for damage (SQLite; a server sees to itself). Raises StateError E503."""
        if not self.sqlite:
            return
        with self.read() as connection:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if found != "ok":
            raise StateError(_damaged(f"{found} ({self.url.render_as_string(hide_password=True)})"))

    def migrate(self) -> None:
        """Bring the schema to `REVISION`. Idempotent; two processes at once do it once."""
        if self._revision() == REVISION:
            return
        if self.sqlite:
            with self.write() as connection:
                if fresh.create(connection):
                    return
        from finetune.store.migrate import upgrade  # Alembic takes long to import and is needed once

        with self._translated():
            upgrade(self.write, postgres=not self.sqlite)

    def _revision(self) -> str | None:
        with self._translated(), self._engine.connect() as connection:
            try:
                return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
            except DBAPIError as error:
                if _says(error, "no such table", "does not exist"):
                    return None
                raise

    def _create(self) -> Engine:
        if not self.sqlite:
            return _to_server(create_engine(self.url))
        if self.url.database:
            _writable(Path(self.url.database).parent)
        engine = create_engine(self.url, connect_args={"timeout": _BUSY_S})

        @event.listens_for(engine, "connect")
        def _(connection: Any, _record: Any) -> None:
            # The driver must not begin transactions by itself; `begin` below chooses the kind.
            connection.isolation_level = None
            _to_wal(connection)
            connection.execute("PRAGMA foreign_keys=ON")
            if self._max_pages:
                connection.execute(f"PRAGMA max_page_count={self._max_pages}")

        @event.listens_for(engine, "begin")
        def _(connection: Connection) -> None:
            level = connection.get_execution_options().get("ft_write")
            if level:
                connection.exec_driver_sql(f"PRAGMA synchronous={level}")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if level else "BEGIN")

        return engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if os.getpid() != self._pid:
            raise StateError(
                Problem(
                    code="E506",
                    what="the database was opened before this process was forked",
                    why="SQLite loses its locks in a fork, and committed rows vanish",
                    fix="open the database in the child; run workers with --pool threads",
                )
            )
        try:
            yield
        except SQLAlchemyError as error:
            raise _translate(error, self.url.render_as_string(hide_password=True)) from error


def _to_server(engine: Engine) -> Engine:
    """With transactions only where `write` asks for one, and without connections that a restart has cut."""

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.autocommit = True

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        if connection.get_execution_options().get("ft_write"):
            connection.exec_driver_sql("BEGIN")

    @event.listens_for(engine, "checkin")
    def _(_connection: Any, record: Any) -> None:
        record.info["back_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _(connection: Any, record: Any, _proxy: Any) -> None:
        back_at = record.info.get("back_at")
        try:
            if back_at is not None:
                _try(connection, time.monotonic() - back_at)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError("the server has closed the connection") from error

    return engine


def _try(connection: Any, idle_s: float) -> None:
    """Raises what the driver raises for a lost server. Asks it only when there is a sign of that, or after a while."""
    # An idle connection has nothing to read but its end, or a notice.
    said = select.poll()
    said.register(connection.fileno(), select.POLLIN)
    if idle_s >= _IDLE_S or said.poll(0):
        connection.execute("SELECT 1")


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL; it stays so. SQLite does not wait for others here as it does elsewhere, so we do."""
    end = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def taken_over(name: str) -> LeaseLost:
    """The error of a write whose token is no longer the newest."""
    return LeaseLost(
        Problem(
            code="E509",
            what=f"another worker has taken over {name}",
            why="this worker held it for longer than its lease; nothing was written",
            fix="nothing: the other worker carries on",
        )
    )


def _damaged(why: str) -> Problem:
    return Problem(
        code="E503",
        what="the database is damaged",
        why=why,
        fix="move it aside and restore a backup; `sqlite3 FILE .recover` saves what can be read",
    )


def _says(error: Exception, *phrases: str) -> bool:
    message = str(error).lower()
    return any(phrase in message for phrase in phrases)


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(unwritable(folder, error)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StateError(unwritable(folder, PermissionError("permission denied")))


def _bad_url(error: Exception) -> Problem:
    # The address itself is not repeated: whatever it is, there may be a password in it.
    missing = f"its driver is not installed ({error.name})" if isinstance(error, ImportError) else "it cannot be read"
    return Problem(
        code="E507",
        what="FT_DATABASE_URL is not a database address",
        why=missing,
        fix="write postgresql+psycopg://user@host/name, or unset it for SQLite in FT_HOME",
    )


#: What the driver says (any of the words), the error's class, code, what, fix.
_FAULTS: tuple[tuple[tuple[str, ...], type[FtError], str, str, str], ...] = (
    (
        ("not a database", "malformed", "corrupt", "unsupported file format"),
        StateError,
        "E503",
        "the database is damaged",
        "move it aside and restore a backup; `sqlite3 FILE .recover` saves what can be read",
    ),
    (
        ("disk is full", "no space left", "disk i/o error", "could not extend file"),
        StateError,
        "E504",
        "the disk under the database is full or failing",
        "free some space and repeat the command; nothing was half written",
    ),
    (
        ("locked", "deadlock", "could not serialize", "too many connections"),
        StoreBusy,
        "E505",
        "the database is busy",
        "repeat the command; if it stays so, look for a process that holds the file (`ft doctor`)",
    ),
    (
        ("readonly", "read-only", "unable to open", "permission denied"),
        StateError,
        "E501",
        "the database cannot be written",
        "give write access to it, or set FT_HOME to another folder",
    ),
    (
        ("connect", "refused", "timeout", "server closed", "password", "role", "no such host", "terminat"),
        StoreBusy,
        "E502",
        "the database server does not answer",
        "start it, or check FT_DATABASE_URL; `ft doctor` tests the connection",
    ),
)


def _translate(error: SQLAlchemyError, url: str) -> FtError:
    # What the driver said; SQLAlchemy's own errors, such as a pool that is used up, have no driver's.
    said = getattr(error, "orig", None) or error
    cause = " ".join(str(said).split())
    if isinstance(error, IntegrityError):
        return Conflict(_refused(cause, url))
    for phrases, kind, code, what, fix in _FAULTS:
        if _says(said, *phrases):
            return kind(Problem(code=code, what=what, why=f"{cause} ({url})", fix=fix))
    return StateError(_refused(cause, url))


def _refused(cause: str, url: str) -> Problem:
    return Problem(
        code="E508",
        what="the database refused a statement",
        why=f"{cause} ({url})",
        fix="run `ft doctor`; if it finds nothing, this is a fault in ft",
    )
