"""JSON that is not in lines: one list of rows, rows one after another over many lines, or a list under a known key.

Rows are found by their brackets and cut out as they stand; what is wrong inside one is for whoever parses it.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NoReturn

from finetune.data.sources.faults import BROKEN_JSON, MAX_ROW_BYTES, OTHER_NAME, Reading, printable
from finetune.data.sources.filling import gathered
from finetune.data.sources.jsontext import Window
from finetune.data.sources.lines import sound, without_bom
from finetune.data.sources.place import Block
from finetune.data.sources.streams import Stream

#: Under these keys of a single object a list of rows is looked for.
WRAPPERS: Final = ("data", "rows", "examples", "train")

_FIRST_BYTES: Final = b'{["-0123456789tfn'


def blocks(stream: Stream, reading: Reading) -> Iterator[Block]:
    """The elements of the list, or the values one after another. Rows at fault are told and left out. Raises Stopped.

    Where the structure itself is broken, reading ends with one problem at its line. Holds one row, of at most 16 MiB.
    """
    window = Window(without_bom(stream, reading))
    rows = (each for each in _Values(window, reading).rows() if sound(each[1], each[0], reading, from_column_1=False))
    yield from gathered(rows, reading, lambda: window.taken)


class _Values:
    """Walks over the text."""

    def __init__(self, window: Window, reading: Reading) -> None:
        self._window = window
        self._reading = reading
        #: Line of what is being read, should the text end in it.
        self._begun = 1

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Each row with the line where it starts. Raises Stopped where the text is broken."""
        try:
            yield from self._rows()
        except EOFError:
            self._cut_off(f"what begins in line {self._begun} is not closed", self._begun)

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        first = self._window.next()
        if first == b"[":
            yield from self._elements()
        elif first == b"{" and (key := self._wrapper()):
            yield from self._wrapped(key)
        else:
            while self._window.next():
                yield from self._value()
        if self._window.next():
            what, fix = "text follows after the end of the list", "remove it; a file holds one list, or rows alone"
            self._broken(what, fix)

    def _elements(self) -> Iterator[tuple[int, bytes]]:
        """The elements of the list that the window stands at; then it stands behind it."""
        opened = self._window.line
        after = b"," if self._step() != b"]" else b"]"
        while after == b",":
            yield from self._window.elements()
            if self._window.next() == b"]":
                self._broken("there is a comma before the end of the list", "remove the comma")
            if self._window.next():
                yield from self._value()
            after = self._window.next()
            if not after:
                self._cut_off(f"the list that begins in line {opened} is not closed", self._window.line)
            if after not in (b",", b"]"):
                self._broken("there is no comma between two elements of the list", "put it in")
            if after == b",":
                self._window.advance(self._window.at + 1)
        self._step()

    def _value(self) -> Iterator[tuple[int, bytes]]:
        """The value that the window stands at; none if it is too long, which is told."""
        window = self._window
        if not window.next():
            raise EOFError
        self._begun = line = window.line
        if window.text[window.at] not in _FIRST_BYTES:
            self._broken("no JSON value begins here", "use double quotes around keys and texts, and no comments")
        end = window.end_of_value(window.at)
        if end is None:
            self._reading.too_long(line, "row")
            window.pass_over()
            return
        yield line, window.text[window.at : end]
        window.advance(end)

    def _wrapper(self) -> str | None:
        """The key of the object at the window that holds the rows, if it has one. The window stays where it is."""
        with suppress(EOFError):
            for key, at in self._members():
                if key in WRAPPERS and self._window.text[at : at + 1] == b"[":
                    inner = self._window.beyond_space(at + 1)
                    return key if self._window.text[inner : inner + 1] in (b"{", b"]") else None
        return None

    def _members(self) -> Iterator[tuple[str, int]]:
        """The keys of the object at the window and where their values begin, as far as they can be held and read.

        Raises EOFError.
        """
        window, at, begin = self._window, self._window.at + 1, self._window.at
        while at - begin <= MAX_ROW_BYTES:
            at = window.beyond_space(at)
            end = window.end_of_value(at) if window.text[at : at + 1] == b'"' else None
            if end is None:
                return
            value = window.beyond_space(window.beyond_space(end) + 1)
            yield _key(window.text[at:end]), value
            end = window.end_of_value(value)
            at = window.beyond_space(end or value)
            if end is None or window.text[at : at + 1] != b",":
                return
            at += 1

    def _wrapped(self, wanted: str) -> Iterator[tuple[int, bytes]]:
        """The rows under a key of the object at the window; then it stands behind the object."""
        window, others, after = self._window, list[str](), b","
        while after == b",":
            self._step()
            key = self._member()
            if key == wanted and not others.count(wanted):
                yield from self._elements()
            else:
                others.append(key)
                window.pass_over()
            after = window.next()
        if after != b"}":
            self._broken("the object around the rows is not closed", "close it with }")
        self._step()
        left = ", ".join(f"`{printable(each[:60])}`" for each in others[:5])
        why = f"What stands beside it is left out: {left}" if others else "It is the only one in the object"
        what, fix = f"the rows are the list under `{wanted}`", "write one row a line, if they are not what is meant"
        self._reading.tell(OTHER_NAME, what, why, fix, level="warning", field=wanted)

    def _member(self) -> str:
        """The key at the window, which then stands at its value."""
        window = self._window
        self._begun = window.line
        end = window.end_of_value(window.at) if window.next() == b'"' else None
        if end is None:
            self._broken("there is no key where one is needed", "write the file with a JSON library")
        key = _key(window.text[window.at : end])
        window.advance(end)
        if window.next() != b":":
            self._broken("there is no colon after the key", "write the file with a JSON library")
        self._step()
        return key

    def _step(self) -> bytes:
        """Go on behind the byte at the window; the one that comes next."""
        self._window.advance(self._window.at + 1)
        return self._window.next()

    def _cut_off(self, what: str, line: int) -> NoReturn:
        why = "The file was not written or copied to its end, or a quote or bracket is missing"
        raise self._reading.stop(BROKEN_JSON, what, why, "write or copy it again", line=line)

    def _broken(self, what: str, fix: str) -> NoReturn:
        why = "What is behind it cannot be read with certainty"
        raise self._reading.stop(BROKEN_JSON, what, why, fix, line=self._window.line)


def _key(text: bytes) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text.decode("utf-8", "replace")
