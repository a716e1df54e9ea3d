"""How a trainer is asked to stop: SIGTERM once to save and end, twice to end. No torch here."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

#: Exit code of a trainer that was asked to stop (EX_TEMPFAIL): start it again and it goes on.
INTERRUPTED = 75

#: Exit code of one of several processes that the launcher has ended because another one is gone.
ENDED: Final = 76
#: How the launcher passes a wish on to rank 0: whoever asked may have asked rank 0 too, and that is not to count twice.
PASSED_ON: Final = signal.SIGUSR1

_WISHES: Final = (signal.SIGTERM, signal.SIGINT)


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
        #: Asked by somebody other than the launcher: the next time ends it.
        self._insisted = False

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT. Main thread only."""
        for number in _WISHES:
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

    def listen(self, launcher: int) -> None:
        """What `install` is to a process by itself, to one of several that the process `launcher` has started.

        A thread takes the signals, so that they are heard while the main thread waits for the others inside a library.
        Before `defer` it ends the process. SIGTERM from the launcher always does: it means that another one is gone.
        Call `hold_back` first.
        """
        threading.Thread(target=self._listen, args=(launcher,), daemon=True).start()

    def _listen(self, launcher: int) -> None:
        while True:
            heard = signal.sigwaitinfo({*_WISHES, PASSED_ON})
            if heard.si_signo == signal.SIGTERM and heard.si_pid == launcher:
                os._exit(ENDED)
            if not self._deferred or (self._insisted and heard.si_signo != PASSED_ON):
                os._exit(INTERRUPTED)
            self._asked = True
            self._insisted = self._insisted or heard.si_signo != PASSED_ON


def hold_back() -> None:
    """Keep the signals that ask to stop for a thread that waits for them, in this process and those it starts.

    Before any other thread. None is lost while a process starts.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_WISHES, PASSED_ON})


def pass_on(pid_of_first: Callable[[], int | None]) -> None:
    """Have a thread of the launcher pass the wish to stop on to rank 0, which tells the others in its next step.

    `pid_of_first` is None until rank 0 can be told. The second wish ends the launcher, and with it all of them.
    """
    threading.Thread(target=_pass_on, args=(pid_of_first,), daemon=True).start()


def _pass_on(pid_of_first: Callable[[], int | None]) -> None:
    signal.sigwaitinfo(_WISHES)
    told = False
    while signal.sigtimedwait(_WISHES, 0.05) is None:
        if not told and (pid := pid_of_first()):
            told = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, PASSED_ON)
    os._exit(INTERRUPTED)
