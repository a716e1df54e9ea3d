"""How a trainer is asked to stop: SIGTERM once to save and end, twice to end. No torch here."""

import os
import signal
from types import FrameType

#: Exit code of a trainer that was asked to stop (EX_TEMPFAIL): start it again and it goes on.
INTERRUPTED = 75


class Interrupted(BaseException):
    """The trainer was asked to stop. Not an Exception: a library's `except Exception` must not swallow it."""


class Stop:
    """The wish to stop.

    While nothing can be saved (imports, loading) the first signal raises Interrupted at once. After `defer` it is only
    noted, and `check` raises: the loop asks between micro-batches. The second signal ends the process on the spot.
    """

    def __init__(self) -> None:
        self._asked = False
        self._deferred = False

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.ask)

    def ask(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Note the wish; the signal handler."""
        if self._asked:
            os._exit(INTERRUPTED)
        self._asked = True
        if not self._deferred:
            raise Interrupted

    def defer(self) -> None:
        """From now on only `check` raises."""
        self._deferred = True

    def check(self) -> None:
        """Raise Interrupted if someone asked."""
        if self._asked:
            raise Interrupted
