"""Blocks of rows looked at in several processes, with the results in the order of the blocks."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final, Self

from finetune.data.scan import Look, Scanned, scan
from finetune.data.sources import Block
from finetune.errors import Problem, StateError

#: Below this many bytes the start of processes costs more than they save.
WORTH_BYTES: Final = 64 << 20
#: Blocks under way for each process: one at work, one that waits.
_AHEAD: Final = 4


class Pool:
    """Looks at blocks here, or in `processes` others once that is worth it. A context manager: leaving ends them.

    The others are started anew instead of forked: a fork would take the caller's threads and connections with it.
    """

    def __init__(self, processes: int | None) -> None:
        self._processes = len(os.sched_getaffinity(0)) if processes is None else processes
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def scans(self, blocks: Iterable[Block], look: Look, size: int | None) -> Iterator[Scanned]:
        """What each block held, in order. `size` is that of the file, in bytes; None when it is not known.

        Raises StateError when a process is killed from outside.
        """
        if self._processes < 2 or (size is not None and size < WORTH_BYTES):
            yield from (scan(block, look) for block in blocks)
            return
        waiting: deque[Future[Scanned]] = deque()
        try:
            for block in blocks:
                waiting.append(self._started().submit(scan, block, look))
                if len(waiting) >= _AHEAD * self._processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise StateError(_killed()) from error
        finally:
            for future in waiting:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._processes, mp_context=context)
        return self._executor


def _killed() -> Problem:
    return Problem(
        code="E511",
        what="a process that checked the data was killed",
        why="mostly the system does that when memory runs out",
        fix="make memory free and repeat the command",
    )
