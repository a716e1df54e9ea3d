"""Asks another machine: a few times, for a bounded time, and with our errors."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from finetune.data.sources import failures
from finetune.data.sources.faults import Reading, Stopped

T = TypeVar("T")

#: To make a connection, its name looked up.
CONNECT_S: Final = 10
#: Silence after which a connection is given up.
SILENCE_S: Final = 20
#: Before the second and the third try.
_PAUSES_S: Final = (0.2, 1.0)


class Guard:
    """Tries an access three times, unless the next would end the same. Silence is waited out only once."""

    def __init__(
        self, scheme: str, anonymous: bool, reading: Reading, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """The library of the scheme must be installed. `anonymous`: no credentials are sent."""
        self._scheme = scheme
        self._anonymous = anonymous
        self._reading = reading
        self._pause = pause
        self._expected = failures.raised_by(scheme)

    def __call__(self, access: Callable[[], T], /) -> T:
        """What `access` returns. Raises Stopped in place of the errors of the library."""
        for pause_s in _PAUSES_S:
            try:
                return self.once(access)
            except Stopped as stopped:
                if not stopped.again:
                    raise
            self._pause(pause_s)
        return self.once(access)

    def once(self, access: Callable[[], T]) -> T:
        """The same with a single try, for what cannot be repeated."""
        try:
            return access()
        except self._expected as error:
            raise failures.stopped_by(error, self._scheme, self._reading, anonymous=self._anonymous) from None
