"""The time at a stand-in, which may run faster than ours."""

import threading
import time
from datetime import UTC, datetime, timedelta


class SandboxClock:
    """Starts at the real time and runs `speed` times as fast (0: stands still); can be put forward."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed, self._start = speed, datetime.now(UTC)
        self._begun = time.monotonic()
        self._ahead = timedelta(0)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Aware, UTC."""
        elapsed = timedelta(seconds=(time.monotonic() - self._begun) * self._speed)
        return self._start + elapsed + self._ahead

    def advance(self, seconds: float) -> None:
        """Put it forward. Raises ValueError for a number that is not 0 or more: no clock here goes back."""
        if not seconds >= 0:
            raise ValueError(f"the clock cannot be put forward by {seconds} s")
        with self._lock:
            self._ahead += timedelta(seconds=seconds)

    def epoch(self) -> int:
        """Whole seconds since 1970."""
        return int(self.now().timestamp())
