"""Many polls, few requests: what a list of jobs tells is handed to all who ask for one of them."""

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from finetune.jobs import Json
from finetune.ports import Clock

#: With fewer jobs looked at within one period a request for each is no more than a list.
_WORTH: Final = 4


class Roster:
    """The newest jobs by id, as old as `fresh_s` at most. Safe for threads: one fetches, the others wait for it."""

    def __init__(self, rows: Callable[[], Iterator[Json]], clock: Clock, *, fresh_s: float = 1.0, most: int = 1000):
        """`rows` yields jobs, newest first, page by page as far as it is drawn; `most` bounds that."""
        self._rows, self._clock, self._fresh_s, self._most = rows, clock, fresh_s, most
        self._lock = threading.Lock()
        self._listed: dict[str, Json] = {}
        self._listed_at = float("-inf")
        #: When each job was last asked for.
        self._asked: dict[str, float] = {}

    def get(self, remote_id: str) -> Json | None:
        """The job as a fresh list tells of it; None when a request of its own is as good, or the list ends before."""
        with self._lock:
            now = self._clock.now().timestamp()
            self._asked = {key: at for key, at in self._asked.items() if now - at <= self._fresh_s}
            self._asked[remote_id] = now
            if now - self._listed_at > self._fresh_s:
                if len(self._asked) < _WORTH:
                    return None
                self._fetch()
                self._listed_at = self._clock.now().timestamp()
            return self._listed.get(remote_id)

    def _fetch(self) -> None:
        """List until all that were asked for are found."""
        wanted = set(self._asked)
        self._listed = {}
        for row in islice(self._rows(), self._most):
            self._listed[row["id"]] = row
            wanted.discard(row["id"])
            if not wanted:
                return
