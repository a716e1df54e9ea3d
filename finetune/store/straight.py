"""Statements straight to a server's driver: each compiled once, each a transaction by itself.

SQLAlchemy's engine needs three times as long for one as driver and server together (docs/adr/0020).
"""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError


class Straight:
    """Runs single statements over one pooled connection. The driver is in autocommit mode."""

    def __init__(self, engine: Engine, compiled: dict[Any, "_Compiled"]) -> None:
        """`compiled` keeps what was compiled; the statements in it must be few and live for ever."""
        self._compiled, self.dialect = compiled, engine.dialect
        try:
            self._pooled = engine.raw_connection()
        except self._faults as error:
            raise self._told(error) from error

    def first(self, statement: Any, values: dict[str, Any]) -> tuple[Any, ...] | None:
        """Run it and return its first row. Raises what SQLAlchemy's engine would."""
        ready = self._compiled.get(statement)
        if ready is None:
            ready = self._compiled[statement] = _Compiled(statement, self.dialect)
        driver: Any = self._pooled.driver_connection
        try:
            row = driver.execute(ready.sql, ready.bound(values)).fetchone()
        except self._faults as error:
            # Not looked into: a new connection is cheap beside a fault.
            self._pooled.invalidate(error)
            raise self._told(error) from error
        return None if row is None else ready.read(row)

    @property
    def _faults(self) -> Any:
        return self.dialect.loaded_dbapi.Error

    def _told(self, error: Any) -> Exception:
        told: Exception = DBAPIError.instance(None, None, error, self._faults, dialect=self.dialect)
        return told

    def close(self) -> None:
        """Give the connection back."""
        self._pooled.close()


class _Compiled:
    """A statement as its driver takes it, and the types of what goes in and comes out."""

    def __init__(self, statement: Any, dialect: Any) -> None:
        made = statement.compile(dialect=dialect)
        self.sql = str(made)
        self._fixed = {name: value for name, value in made.params.items() if value is not None}
        ways_in = {name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in made.binds.items()}
        self._ways_in = {name: way for name, way in ways_in.items() if way}
        types = [column.type.dialect_impl(dialect) for column in statement.exported_columns]
        self._ways_out = [type_.result_processor(dialect, None) for type_ in types]

    def bound(self, values: dict[str, Any]) -> dict[str, Any]:
        given = {**self._fixed, **values}
        return {**given, **{name: way(given[name]) for name, way in self._ways_in.items()}}

    def read(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple([way(value) if way else value for way, value in zip(self._ways_out, row, strict=True)])
