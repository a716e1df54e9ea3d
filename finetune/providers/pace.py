"""Requests to one provider from this process: not too many a second, and none while it asked for silence."""

import threading
from typing import Final

from finetune.errors import Problem, ProviderUnavailable
from finetune.ports import Clock

#: What a provider may ask for, seconds.
LONGEST_S: Final = 86_400.0
#: A request waits for its turn at most so long; longer waits are the job's, which then holds no worker.
_PATIENCE_S: Final = 1.0


class Pace:
    """A token bucket. Safe for threads."""

    def __init__(self, title: str, clock: Clock, per_s: float, burst: int = 10) -> None:
        """`per_s` requests a second in the long run, and up to `burst` at once."""
        self._title, self._clock, self._per_s, self._burst = title, clock, per_s, burst
        self._lock = threading.Lock()
        self._tokens, self._at = float(burst), self._now()
        self._quiet_until = 0.0

    def take(self) -> None:
        """Wait for the turn. Raises ProviderUnavailable with `after_s` when that would take more than a second."""
        with self._lock:
            now = self._now()
            # A clock that was put back takes no tokens away.
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_s)
            self._at = now
            wait_s = max(self._quiet_until - now, (1 - self._tokens) / self._per_s, 0.0)
            if wait_s > _PATIENCE_S:
                raise self._later(wait_s)
            self._tokens -= 1
        if not wait_s:
            return
        self._clock.sleep(wait_s)
        with self._lock:
            # Another request may have been told to be quiet while this one waited.
            quiet_s = self._quiet_until - self._now()
            if quiet_s > 0:
                self._tokens += 1
                raise self._later(quiet_s)

    def hush(self, seconds: float) -> None:
        """The provider wants no request for so long; for longer than a day nobody is believed."""
        with self._lock:
            self._quiet_until = max(self._quiet_until, self._now() + min(seconds, LONGEST_S))

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _later(self, wait_s: float) -> ProviderUnavailable:
        error = ProviderUnavailable(
            Problem(
                code="E410",
                what=f"requests to {self._title} wait {wait_s:.0f} s",
                why="it asked for fewer, or more jobs look at it than its limit allows",
                fix="ft goes on by itself",
            )
        )
        error.after_s = wait_s
        return error
