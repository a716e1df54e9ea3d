"""How far the reading of training data is: a moving line on a terminal, now and then a line elsewhere."""

import math
import sys
import time
from types import TracebackType
from typing import Self

#: Nothing is shown of what is faster than this; then a line so often. On a terminal, and elsewhere.
_QUIET_S = {True: 1.0, False: 10.0}
_EVERY_S = {True: 0.2, False: 10.0}
_KB, _MB = 10**3, 10**6
#: From here on tenths are not told. In tenths.
_TEN_MB = 100


class Reading:
    """Shows progress on stderr. A context manager: leaving it clears the line."""

    def __init__(self, *, quiet: bool = False) -> None:
        """`quiet`: nothing is shown."""
        self._terminal = sys.stderr.isatty()
        self._next = math.inf if quiet else time.monotonic() + _QUIET_S[self._terminal]
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._shown and self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, read: int, total: int | None) -> None:
        """Tell how many bytes were read, and how many there are."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next, self._shown = now + _EVERY_S[self._terminal], True
        share = f" of {_amount(total)}, {100 * read // total} %" if total else ""
        line = f"reading data: {_amount(read)}{share}"
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()


def _amount(size: int) -> str:
    """Bytes as people read them, rounded down: all of it is not told before it is read."""
    if size < _MB:
        return f"{size // _KB} kB" if size >= _KB else f"{size} B"
    tenths = size * 10 // _MB
    return f"{size // _MB:,} MB" if tenths >= _TEN_MB else f"{tenths / 10:.1f} MB"
