"""Keeps leases while steps take longer than they last."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from finetune.errors import LeaseLost, StateError


@contextmanager
def held(renew: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call `renew` from another thread every `every_s` seconds while the block runs, until it raises LeaseLost.

    Then the block's own write will be refused, which is what leases are for. A store that cannot be reached may be
    back at the next call. One thread serves the whole process, so `renew` should not block for long; it may be called
    once more while the block ends.
    """
    lease = _Held(renew, every_s)
    _KEEPER.add(lease)
    try:
        yield
    finally:
        _KEEPER.drop(lease)


@dataclass(eq=False)
class _Held:
    renew: Callable[[], None]
    every_s: float
    due_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.due_at = time.monotonic() + self.every_s


class _Keeper:
    """The thread. A step that starts one of its own waits until that runs, for longest on a busy machine."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[_Held] = set()
        self._wakes_at = float("-inf")
        self._thread: threading.Thread | None = None

    def add(self, lease: _Held) -> None:
        with self._changed:
            self._held.add(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._thread.start()
            # Mostly it wakes sooner anyway, for a lease that is older or has been dropped.
            elif lease.due_at < self._wakes_at:
                self._changed.notify()

    def drop(self, lease: _Held) -> None:
        with self._changed:
            self._held.discard(lease)

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._wakes_at = min((lease.due_at for lease in self._held), default=float("inf"))
                now = time.monotonic()
                if self._wakes_at > now:
                    self._changed.wait(None if self._wakes_at == float("inf") else self._wakes_at - now)
                due = [lease for lease in self._held if lease.due_at <= time.monotonic()]
            for lease in due:
                self._renew(lease)

    def _renew(self, lease: _Held) -> None:
        lease.due_at = time.monotonic() + lease.every_s
        try:
            lease.renew()
        except LeaseLost:
            self.drop(lease)
        except StateError:
            return
        except Exception:  # noqa: BLE001 -- a fault in one must not end the renewals of all
            self.drop(lease)


_KEEPER = _Keeper()
