"""The sweep: rings for work that is due and that nobody woke. It is what makes the queue a mere hint."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from finetune.jobs import Due
from finetune.ports import Clock
from finetune.tasks import ADVANCE, ADVANCE_DUE

#: Rung again after this long when nobody has taken it; a rung message should expire at twice this.
RING_AGAIN = timedelta(seconds=30)
_BATCH = 200
#: Of a backlog so many jobs are claimed by one message; fewer have a message each, and so a worker each.
TAKE = 8


class Sweep:
    """Finds what waits (jobs, runs, promotions) and calls `ring(task, key)` for each, at most once in `RING_AGAIN`.

    For more than `TAKE` jobs at a time it rings ADVANCE_DUE, whose message names none, once for every `TAKE` of them.

    With a broker a row's own message may come too, and other workers
    may ring as well: a message in vain costs one look at the row.
    """

    def __init__(
        self,
        sources: Mapping[str, Callable[[datetime, int], Sequence[Due]]],
        clock: Clock,
        ring: Callable[[str, str], None],
        *,
        admit: Callable[[datetime], object] | None = None,
    ) -> None:
        """`sources` say what waits, by task; `admit` gives jobs their turns first."""
        self._sources, self._clock, self._ring, self._admit = sources, clock, ring, admit
        #: What was rung for: which task and wait, and when.
        self._rung: dict[tuple[str, Due], datetime] = {}

    def tick(self) -> int:
        """Ring for everything that waits; returns how many bells rang. Idempotent within `RING_AGAIN`.

        Raises what `ring` raises; what was not rung for by then is rung for at the next tick.
        """
        now = self._clock.now()
        if self._admit is not None:
            self._admit(now)
        waiting = [(task, due) for task, source in self._sources.items() for due in source(now, _BATCH)]
        # What no longer waits is forgotten. A job's next step is another wait: it rings at once.
        self._rung = {each: self._rung[each] for each in waiting if each in self._rung}
        new = [each for each in waiting if each not in self._rung or now - self._rung[each] >= RING_AGAIN]
        jobs = [each for each in new if each[0] == ADVANCE]
        if len(jobs) <= TAKE:
            jobs = []
        bells = [(ADVANCE_DUE, "", jobs[first : first + TAKE]) for first in range(0, len(jobs), TAKE)]
        bells += [(each[0], each[1].key, [each]) for each in new if each not in jobs]
        for task, key, rung_for in bells:
            self._ring(task, key)
            # Only now: a bell that could not be rung must ring at the next tick.
            self._rung |= dict.fromkeys(rung_for, now)
        return len(bells)
