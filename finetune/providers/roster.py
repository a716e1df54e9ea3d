"""Many polls, few requests: what a list of jobs tells is handed to all who ask for one of them."""

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from finetune.jobs import Json
from finetune.ports import Clock

#: With fewer jobs looked at within one period a request for each is no more than a list.
_WORTH: Final = 4
#: Rows of one page.
_PAGE: Final = 100


class Roster:
    """The newest jobs by id. Safe for threads: one fetches, the others wait for what it gets."""

    def __init__(self, rows: Callable[[], Iterator[Json]], clock: Clock, *, fresh_s: float = 1.0, most: int = 1000):
        """`rows` yields jobs, newest first, page by page as far as it is drawn; `most` bounds that.

        Nobody gets a job as it was more than `fresh_s` seconds before it was asked for.
        """
        self._rows, self._clock, self._fresh_s, self._most = rows, clock, fresh_s, most
        self._lock = threading.Lock()
        self._listed: dict[str, Json] = {}
        #: When the list was begun: its rows are no older.
        self._listed_at = float("-inf")
        #: When each job was last asked for.
        self._asked: dict[str, float] = {}

    def get(self, remote_id: str) -> Json | None:
        """The job as a fresh list tells of it; None when a request of its own is as good, or the list ends before.

        Raises what `rows` raises.
        """
        # Before the lock: a list that another thread fetches meanwhile is fresh enough for those who wait for it.
        asked_at = self._clock.now().timestamp()
        with self._lock:
            self._asked = {key: at for key, at in self._asked.items() if asked_at - at <= self._fresh_s}
            self._asked[remote_id] = asked_at
            # A list from the future is one from before somebody put the clock back.
            if asked_at - self._listed_at > self._fresh_s or self._listed_at > self._clock.now().timestamp():
                if len(self._asked) < _WORTH:
                    return None
                self._fetch()
            return self._listed.get(remote_id)

    def _fetch(self) -> None:
        """List until all that were asked for are found; a page for four of them, or single requests are fewer."""
        wanted, listed = set(self._asked), {}
        begun = self._clock.now().timestamp()
        for row in islice(self._rows(), min(self._most, _PAGE * (len(wanted) // _WORTH))):
            listed[row["id"]] = row
            wanted.discard(row["id"])
            if not wanted:
                break
        self._listed, self._listed_at = listed, begun
