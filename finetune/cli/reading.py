"""How far the reading of training data is: a moving line on a terminal, now and then a line elsewhere."""

import math
import sys
import time
from types import TracebackType
from typing import Self

#: Nothing is shown of what is faster than this; then a line so often. On a terminal, and elsewhere.
_QUIET_S = {True: 1.0, False: 10.0}
_EVERY_S = {True: 0.2, False: 10.0}


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
        share = f" of {total / 1e6:,.0f} MB, {100 * read // total} %" if total else " MB"
        line = f"reading data: {read / 1e6:,.0f}{share}"
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()
