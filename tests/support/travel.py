"""A clock that does not wait: whoever sleeps travels, and the stand-ins travel along."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Traveller:
    """`ports.Clock`: the real time and what was slept through. `along` hears of every sleep, in seconds."""

    def __init__(self, along: Callable[[float], None] = lambda seconds: None, ahead_s: float = 0.0) -> None:
        self._along, self._ahead = along, timedelta(seconds=ahead_s)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def sleep(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)
        self._along(seconds)

    @property
    def ahead_s(self) -> float:
        return self._ahead.total_seconds()
