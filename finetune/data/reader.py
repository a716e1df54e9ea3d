"""From the bytes of a row to a typed example: OpenAI's plain rows by a short way, all others by the thorough one.

Both ways let the same rows through. The short one only says yes; every other row is judged by the shape of its format.
"""

from collections import Counter
from itertools import islice
from typing import Final

import msgspec

from finetune.data import checks
from finetune.data.example import Chat, Example, Message, Tool
from finetune.data.faults import UNKNOWN_KEY, Fault, inside
from finetune.data.findings import Findings
from finetune.data.formats import Format, Row, recognise
from finetune.data.mapping import Names, mapped
from finetune.data.parse import Unread, has_keys, keys_of, parse

WRONG_FORMAT: Final = "E236"

#: Faults of one row that are told; one with more is wrong as a whole.
_MOST: Final = 100


_NOTHING: Final = msgspec.Raw()


class _OpenAiRow(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's layout with the keys that are left out, for the fast way."""

    messages: list[Message]
    tools: list[Tool] | None = None
    parallel_tool_calls: bool | None = None
    id: msgspec.Raw = _NOTHING
    metadata: msgspec.Raw = _NOTHING
    source: msgspec.Raw = _NOTHING


_UNUSED: Final = ("id", "metadata", "source")
_short: Final = msgspec.json.Decoder(_OpenAiRow)


class Reader:
    """Turns the bytes of rows into examples; what is wrong goes to the findings."""

    def __init__(self, format: Format, findings: Findings, field_map: Names, unread: str | None) -> None:
        """`unread` is a key of rows that is neither known nor a fault: the one that groups them."""
        if format.read is None or format.shape is None:
            raise ValueError(f"{format.name} is only written")
        self._format, self._shape, self._read = format, format.shape, format.read
        self._findings, self._field_map, self._unread = findings, field_map, unread
        self._plain = format.name == "openai" and not field_map
        #: How many rows had each of the keys that are left out.
        self.left_out: Counter[str] = Counter()

    def read(self, raw: bytes, line: int) -> Example | None:
        """The example, or None if the row has a fault."""
        example = (self._shortly(raw) if self._plain else None) or self._thorough(raw, line)
        if example is None:
            return None
        found = checks.faults(example, self._format.turns)
        for fault in found:
            self._findings.add(fault, line)
        return None if found else example

    def _shortly(self, raw: bytes) -> Chat | None:
        """A sound row of texts only; None for every other, which the thorough way judges."""
        try:
            row = _short.decode(raw)
        except (ValueError, RecursionError):
            return None
        keys = 1
        for message in row.messages:
            if type(message.content) is not str:
                return None
            keys += 2
            if message.weight is not None and message.role == "assistant":
                keys += 1
        unused = [name for name in _UNUSED if getattr(row, name) is not _NOTHING]
        try:
            keys += sum(1 + keys_of(msgspec.json.decode(getattr(row, name))) for name in unused)
        except (ValueError, RecursionError):
            return None
        # A key that was not counted here, or is there twice, makes the numbers differ.
        if not row.messages or not has_keys(raw, keys):
            return None
        if unused:
            self.left_out.update(name for name in unused if name != self._unread)
        return Chat(row.messages)

    def _thorough(self, raw: bytes, line: int) -> Example | None:
        findings = self._findings
        try:
            row = mapped(parse(raw), self._field_map)
        except Unread as error:
            findings.add(error.fault, line, error.column)
            return None
        told = (fault for fault in self._shape(row, "") if not self._grouping(fault))
        found = list(islice(told, _MOST))
        if any(fault.level == "error" for fault in found) and (other := self._other(row)):
            found = [other]
        for fault in found:
            findings.add(fault, line)
        if any(fault.level == "error" for fault in found):
            return None
        self.left_out.update(self._format.harmless.intersection(row) - {self._unread})
        return self._read(row)

    def _grouping(self, fault: Fault) -> bool:
        """Whether it complains of the key that groups rows, which need be none of the layout."""
        return fault.code == UNKNOWN_KEY and self._unread is not None and fault.field == inside("", self._unread)

    def _other(self, row: Row) -> Fault | None:
        """A row of another layout is told once that it is one."""
        if self._format.recognises(row):
            return None
        looks = recognise(row)
        if looks is None or looks is self._format:
            return None
        what = f"the row is in the layout of {looks.title}, and the file is read as {self._format.title}"
        why = "All rows of a file have one layout"
        fix = f"convert them to one, or name it: dataset.format: {looks.name}"
        return Fault(WRONG_FORMAT, "", what, why, fix)
