"""Many polls, few requests: what a list of jobs tells is handed to all who ask for one of them."""

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from finetune.jobs import Json
from finetune.ports import Clock

#: A page of the list is read for so many jobs that it may have; for fewer, a request for each is as good.
_WORTH: Final = 4
#: Rows of one page.
_PAGE: Final = 100


class Roster:
    """The newest jobs by id, in periods of `fresh_s`. Safe for threads: one reads a page, the others wait for it."""

    def __init__(self, rows: Callable[[], Iterator[Json]], clock: Clock, *, fresh_s: float = 1.0, most: int = 1000):
        """`rows` yields jobs, newest first, page by page as far as it is drawn; `most` bounds that.

        Nobody gets a job as it was more than `fresh_s` seconds before it was asked for.
        """
        self._rows, self._clock, self._fresh_s, self._most = rows, clock, fresh_s, most
        self._lock = threading.Lock()
        #: When the period began: whatever was read in it is no older.
        self._begun = float("-inf")
        self._listed: dict[str, Json] = {}
        #: Asked for since the last page, and not in the list.
        self._missed: set[str] = set()
        #: The rest of the list; None before the first page.
        self._rest: Iterator[Json] | None = None

    def get(self, remote_id: str) -> Json | None:
        """The job as a fresh list tells of it; None when a request of its own is as good, or the list ends before.

        Raises what `rows` raises.
        """
        # Before the lock: what another thread reads meanwhile is fresh enough for those who wait for it.
        asked_at = self._clock.now().timestamp()
        with self._lock:
            # A period of the future is one from before somebody put the clock back.
            if asked_at - self._begun > self._fresh_s or self._begun > self._clock.now().timestamp():
                self._begun, self._listed, self._missed, self._rest = asked_at, {}, set(), None
            if remote_id not in self._listed:
                self._missed.add(remote_id)
                if len(self._missed) >= _WORTH:
                    self._read()
            return self._listed.get(remote_id)

    def _read(self) -> None:
        """One page more."""
        self._missed.clear()
        rest = islice(self._rows(), self._most) if self._rest is None else self._rest
        # Should this fail, the next page is the first one again.
        self._rest = None
        self._listed |= {row["id"]: row for row in islice(rest, _PAGE)}
        self._rest = rest
