"""All jobs of an organisation, found by id, by time, and by metadata."""

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from finetune.sandbox.openai.jobs import Job
from finetune.sandbox.openai.paging import Page
from finetune.sandbox.openai.words import no_such_job

#: Jobs that end in one go.
_AT_ONCE: Final = 50


class Book:
    """Jobs in the order of their creation. Not safe for threads: the sandbox holds its lock."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._by_id: dict[str, Job] = {}
        #: Numbers by pair of metadata; None has those of jobs without any.
        self._by_pair: dict[tuple[str, str] | None, list[int]] = {}
        #: When jobs end, and their numbers.
        self._ends: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def add(self, job: Job) -> None:
        """Enter a job whose number is the length of the book."""
        self._jobs.append(job)
        self._by_id[job.id] = job
        pairs: list[tuple[str, str] | None] = list((job.order.metadata or {}).items())
        for pair in pairs or [None]:
            self._by_pair.setdefault(pair, []).append(job.number)
        self.watch(job)

    def watch(self, job: Job) -> None:
        """See to it that `over` looks at the job when it ends."""
        heapq.heappush(self._ends, (job.end, job.number))

    def get(self, job_id: str, now: float) -> Job:
        """The job as of now. Raises Refused."""
        job = self._by_id.get(job_id)
        if job is None:
            raise no_such_job(job_id)
        job.look(now)
        return job

    def pass_time(self, now: float) -> None:
        """Let jobs end that are due, some dozens at most: requests wait meanwhile, and the rest comes next time."""
        for _ in range(_AT_ONCE):
            if not self._ends or self._ends[0][0] > now:
                return
            # One that has been paused comes too early; it is watched anew when it goes on.
            self._jobs[heapq.heappop(self._ends)[1]].look(now)

    def page(self, page: Page, pairs: dict[str, str] | None, born_before: float, now: float) -> tuple[list[Job], bool]:
        """Newest first, those with all these `pairs` of metadata (None: without any), and whether there are more.

        Raises Refused when `after` is no job.
        """
        numbers = self._numbers(pairs)
        end = len(numbers)
        if page.after is not None:
            end = bisect_left(numbers, self.get(page.after, now).number)
        found: list[Job] = []
        for place in range(end - 1, -1, -1):
            job = self._jobs[numbers[place]]
            if job.created <= born_before and _has(job, pairs):
                if len(found) == page.limit:
                    return found, True
                job.look(now)
                found.append(job)
        return found, False

    def _numbers(self, pairs: dict[str, str] | None) -> Sequence[int]:
        if pairs is None:
            return self._by_pair.get(None, ())
        if not pairs:
            return range(len(self._jobs))
        return min((self._by_pair.get(pair, []) for pair in pairs.items()), key=len)


def _has(job: Job, pairs: dict[str, str] | None) -> bool:
    own = job.order.metadata or {}
    return not own if pairs is None else all(own.get(key) == value for key, value in pairs.items())
