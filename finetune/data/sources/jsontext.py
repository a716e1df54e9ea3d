"""A window that moves over a long JSON text: where values end, without parsing them."""

import re
from collections.abc import Iterator
from typing import Final

from finetune.data.sources.faults import MAX_ROW_BYTES
from finetune.data.sources.streams import Stream

_STEP_BYTES: Final = 1024 * 1024
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
#: A number, true, false or null; what is wrong in it is the parser's business.
_WORD: Final = re.compile(rb"[^\s,:\[\]{}\"]*+")
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_MARK: Final = re.compile(rb'["\[\]{}]')
_IN_STRING: Final = re.compile(rb"(?:[^\"\\]++|\\.)*+", re.DOTALL)


def _nested(depth: int) -> bytes:
    """A pattern for lists and objects up to a depth. Its parts do not give back what they took, so it is linear."""
    pattern = rb"[\[{](?:[^\"\[\]{}]++|%b)*+[\]}]" % _STRING
    for _ in range(depth - 1):
        pattern = rb"[\[{](?:[^\"\[\]{}]++|%b|%b)*+[\]}]" % (_STRING, pattern)
    return pattern


#: Chats with calls of tools are six deep. What is deeper, or not wholly in the window, takes the slow way.
_SHALLOW: Final = re.compile(_nested(8), re.DOTALL)
#: Such a list or object with the comma behind it.
_ELEMENT: Final = re.compile(rb"[ \t\r\n]*+(%b)[ \t\r\n]*+," % _nested(8), re.DOTALL)


class Window:
    """Part of a text, from `at` on as far as it was looked at; grows at its end and is cut at its front."""

    def __init__(self, stream: Stream) -> None:
        self.text = b""
        #: Where the next thing begins, in `text`.
        self.at = 0
        #: 1-based line of `at`.
        self.line = 1
        self._stream = stream
        self._ended = False

    @property
    def taken(self) -> int:
        """Bytes of the source that were read so far."""
        return self._stream.taken

    def grow(self) -> bool:
        """Read on, as much as is in the window already; False at the end of the text. Positions stay what they are."""
        if self._ended:
            return False
        piece = self._stream.read(max(_STEP_BYTES, len(self.text) - self.at))
        self._ended = not piece
        self.text += piece
        return bool(piece)

    def cut(self) -> None:
        """Forget what is before `at`, when that is much: positions are counted anew."""
        if self.at > _STEP_BYTES:
            self.text, self.at = self.text[self.at :], 0

    def advance(self, to: int) -> None:
        """Move `at` on, counting lines."""
        self.line += self.text.count(b"\n", self.at, to)
        self.at = to

    def next(self) -> bytes:
        """The byte that follows after white space, at which `at` then stands; empty at the end of the text."""
        self.cut()
        self.advance(self.beyond_space(self.at))
        return self.text[self.at : self.at + 1]

    def elements(self) -> Iterator[tuple[int, bytes]]:
        """The next elements of a list with their lines, as many as are lists or objects, lie in the window, and are
        followed by a comma; `at` is then behind the last comma."""
        text, at = self.text, self.at
        while match := _ELEMENT.match(text, at):
            begin, end = match.span(1)
            self.line += text.count(b"\n", at, begin)
            yield self.line, text[begin:end]
            self.line += text.count(b"\n", begin, match.end())
            self.at = at = match.end()

    def beyond_space(self, position: int) -> int:
        """Where the first byte from `position` on stands that is no white space, or the text ends."""
        while True:
            match = _SPACE.match(self.text, position)
            position = match.end() if match else position
            if position < len(self.text) or not self.grow():
                return position

    def end_of_value(self, position: int) -> int | None:
        """Where the value ends that begins at `position`; None if more than MAX_ROW_BYTES would have to be held.

        Raises EOFError when the text ends first.
        """
        if match := _SHALLOW.match(self.text, position):
            return match.end()
        if self.text[position : position + 1] not in _OPENING:
            return self._end_of_word(position)
        nesting, begin = _Nesting(), position
        while True:
            position = nesting.follow(self.text, position)
            if nesting.closed:
                return position
            if len(self.text) - begin > MAX_ROW_BYTES:
                return None
            if not self.grow():
                raise EOFError

    def pass_over(self) -> None:
        """Move `at` behind the value that it stands at, holding none of it. Raises EOFError."""
        nesting = None if self.text[self.at : self.at + 1] not in _OPENING else _Nesting()
        while True:
            self.advance(nesting.follow(self.text, self.at) if nesting else self._word(self.at))
            if nesting.closed if nesting else self.at < len(self.text):
                return
            self.text, self.at = self.text[self.at :], 0
            if not self.grow():
                raise EOFError

    def _end_of_word(self, position: int) -> int | None:
        while True:
            end = self._word(position)
            if end < len(self.text):
                return end
            if end - position > MAX_ROW_BYTES:
                return None
            if not self.grow():
                return end

    def _word(self, position: int) -> int:
        match = _WORD.match(self.text, position)
        return match.end() if match else position


_OPENING: Final = (b"{", b"[", b'"')


class _Nesting:
    """Follows a list, object or text to its end, over as many pieces as it takes."""

    def __init__(self) -> None:
        self.closed = False
        self._depth = 0
        self._in_string = False

    def follow(self, text: bytes, position: int) -> int:
        """How far `text` could be read from `position`: to the end of the value (then `closed`), or of the text.

        What is left of a text that was not closed has to stand at the front of the next one.
        """
        while position < len(text):
            if self._in_string:
                match = _IN_STRING.match(text, position)
                position = match.end() if match else position
                # Else a backslash, of which the second half is yet to come.
                if text[position : position + 1] != b'"':
                    return position
                self._in_string = False
                position += 1
            else:
                match = _MARK.search(text, position)
                if not match:
                    return len(text)
                position = match.end()
                self._turn(match.group())
            if not self._depth and not self._in_string:
                self.closed = True
                return position
        return position

    def _turn(self, mark: bytes) -> None:
        if mark == b'"':
            self._in_string = True
        else:
            self._depth += 1 if mark in b"[{" else -1
