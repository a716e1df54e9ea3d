"""Arrow columns as JSON rows: nested values as they are, times as ISO 8601 text, nothing guessed."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from finetune.data.sources.faults import COLUMN, NOT_TEXT, Reading, library, printable

#: By pyarrow's own predicates (`pyarrow.types.is_*`): what has one meaning in JSON.
_PLAIN: Final = ("null", "boolean", "integer", "string", "large_string", "string_view", "date", "time")
_LISTS: Final = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
#: What has not, with what to write instead.
_FIXES: Final = {
    "decimal": "write it as a number or as text",
    "binary": "write it as text (base64), or leave the column out",
    "large_binary": "write it as text (base64), or leave the column out",
    "fixed_size_binary": "write it as text (base64), or leave the column out",
    "binary_view": "write it as text (base64), or leave the column out",
    "duration": "write it as a number of seconds",
    "map": "write it as an object or as a list of pairs",
}

_WHY: Final = "JSON has no value for it, and ft does not guess one"

_Insert = Callable[[Any], Any]


class Columns:
    """Turns record batches of one schema into JSON text. NaN and infinity, which JSON lacks, become null.

    What Arrow marks as JSON text (`arrow.json`) becomes the JSON that it is.
    """

    def __init__(self, schema: Any, reading: Reading) -> None:
        """Raises Stopped, after all columns at fault are told."""
        import msgspec

        self._arrow = library("pyarrow", "it reads columns", reading)
        self._reading = reading
        self._schema = schema
        self._raw = msgspec.Raw
        self._encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
        faults = [fault for each in schema if (fault := self._fault(each.type, printable(each.name[:60])))]
        faults += [
            (printable(name[:60]), "is there more than once", "rename or remove one")
            for name, times in Counter(schema.names).items()
            if times > 1
        ]
        for field, what, fix in faults[:-1]:
            self._reading.tell(COLUMN, f"the column `{field}` {what}", _WHY, fix, field=field)
        for field, what, fix in faults[-1:]:
            raise self._reading.stop(COLUMN, f"the column `{field}` {what}", _WHY, fix, field=field)
        self._target = self._arrow.schema([(each.name, self._readable(each.type)) for each in schema])
        self._same = self._target.equals(schema)
        self._inserted = self._in_struct([(each.name, each.type) for each in schema])

    def fit(self, schema: Any) -> bool:
        """True for record batches of the same columns."""
        return bool(self._schema.equals(schema))

    def rows(self, batch: Any, first: int) -> Iterator[bytes]:
        """The rows of a record batch, of which the first has the number `first`, for messages. Raises Stopped."""
        try:
            for row in (batch if self._same else batch.cast(self._target, safe=False)).to_pylist():
                yield self._encode(self._inserted(row) if self._inserted else row)
        except UnicodeDecodeError:
            what, why = "a text in these rows is not UTF-8", "Whoever wrote the file did not check it"
            raise self._reading.stop(NOT_TEXT, what, why, "write the file again", line=first) from None
        except (ValueError, OverflowError, TypeError, self._arrow.ArrowException):
            what, why = "a value in these rows cannot be written as JSON", "It is mostly a date far from our days"
            raise self._reading.stop(COLUMN, what, why, "write it as text", line=first) from None

    def _inserts(self, kind: Any) -> _Insert | None:
        """What puts the JSON text that a column of this type holds into the row as JSON; None when it holds none."""
        if self._is_json(kind):
            return lambda text: self._raw(text.encode())
        if self._is(kind, "struct"):
            return self._in_struct([(each.name, each.type) for each in kind])
        if self._is(kind, *_LISTS) and (inner := self._inserts(kind.value_type)):
            return lambda values: [None if value is None else inner(value) for value in values]
        return None

    def _in_struct(self, fields: list[tuple[str, Any]]) -> _Insert | None:
        inserts = [(name, insert) for name, kind in fields if (insert := self._inserts(kind))]

        def inserted(row: dict[str, Any]) -> dict[str, Any]:
            new = {name: insert(row[name]) for name, insert in inserts if row[name] is not None}
            return {**row, **new}

        return inserted if inserts else None

    @staticmethod
    def _is_json(kind: Any) -> bool:
        return getattr(kind, "extension_name", None) == "arrow.json"

    def _is(self, kind: Any, *names: str) -> bool:
        return any(getattr(self._arrow.types, f"is_{name}")(kind) for name in names)

    def _fault(self, kind: Any, field: str) -> tuple[str, str, str] | None:
        """The first part of a column that has no meaning in JSON: its name, what it is, and the fix."""
        if self._is(kind, *_PLAIN, "floating", "timestamp") or self._is_json(kind):
            return None
        if self._is(kind, "struct"):
            inner = (self._fault(each.type, f"{field}.{printable(each.name[:60])}") for each in kind)
            return next(filter(None, inner), None)
        if self._is(kind, *_LISTS, "dictionary"):
            return self._fault(kind.value_type, field if self._is(kind, "dictionary") else f"{field}[]")
        fix = next((fix for name, fix in _FIXES.items() if self._is(kind, name)), "write it in another type")
        return field, f"has the type {kind}", fix

    def _readable(self, kind: Any) -> Any:
        """The same type, with times of nanoseconds cut to microseconds: Python's have no more."""
        arrow = self._arrow
        if self._is(kind, "timestamp"):
            return arrow.timestamp("us", kind.tz) if kind.unit == "ns" else kind
        if self._is(kind, "time64"):
            return arrow.time64("us")
        if self._is(kind, "struct"):
            return arrow.struct([each.with_type(self._readable(each.type)) for each in kind])
        if self._is(kind, "list"):
            return arrow.list_(kind.value_field.with_type(self._readable(kind.value_type)))
        if self._is(kind, "large_list"):
            return arrow.large_list(kind.value_field.with_type(self._readable(kind.value_type)))
        return kind
