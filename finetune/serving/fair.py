"""A lock that serves in the order of asking."""

import threading
from collections import deque


class FairLock:
    """Reentrant, first come first served. For use in `with` only.

    `threading.RLock` lets the thread that has just released take it again before any waiter wakes: one thread in
    a tight loop of forward passes or adapter loads would keep all others out.
    """

    def __init__(self) -> None:
        # Reentrant too: a collected answer may come here in the middle of this class's own few lines.
        self._guard = threading.RLock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        turn = threading.Lock()
        turn.acquire()
        with self._guard:
            if self._owner in {None, me}:
                self._owner = me
                self._depth += 1
                return
            self._waiting.append((me, turn))
        try:
            # Whoever releases makes us the owner before it wakes us.
            turn.acquire()
        except BaseException:
            self._give_up(me, turn)
            raise

    def __exit__(self, *exc: object) -> None:
        with self._guard:
            if self._depth > 1:
                self._depth -= 1
                return
            if self._waiting:
                self._owner, turn = self._waiting.popleft()
                turn.release()
            else:
                self._owner, self._depth = None, 0

    def _give_up(self, me: int, turn: threading.Lock) -> None:
        """Ctrl-C while waiting: leave the queue, or pass on the turn that came in the same moment."""
        with self._guard:
            if (me, turn) in self._waiting:
                self._waiting.remove((me, turn))
                return
        self.__exit__()
