"""`dataset.field_map`: odd names of keys, put back to those of the format."""

from collections.abc import Iterable
from typing import Any

Names = Iterable[tuple[str, str]]


def mapped(row: dict[str, Any], names: Names) -> dict[str, Any]:
    """The row with the file's names replaced by the format's; everything else as it was.

    A name may lead into objects and lists of objects: `messages.role` to `dialog.speaker` renames the key `speaker`
    in each element of `dialog`. A name that the row does not have changes nothing.
    """
    for ours, theirs in sorted(names, key=lambda pair: pair[1].count("."), reverse=True):
        *way, key = theirs.split(".")
        _rename(row, way, key, ours.rpartition(".")[2])
    return row


def value_at(row: dict[str, Any], name: str) -> Any:
    """What stands at a dotted name; None if nothing does."""
    value: Any = row
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _rename(value: Any, way: list[str], key: str, to: str) -> None:
    if isinstance(value, list):
        for each in value:
            _rename(each, way, key, to)
    elif isinstance(value, dict):
        if way:
            _rename(value.get(way[0]), way[1:], key, to)
        elif key in value and to not in value:
            value[to] = value.pop(key)
