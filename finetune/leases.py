"""Keeps a lease while a step takes longer than it lasts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finetune.errors import StateError


@contextmanager
def held(renew: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call `renew` from a thread every `every_s` seconds while the block runs, until it raises a StateError.

    Then the lease is lost, or the store cannot be reached: the block's own write will be refused, which is what
    leases are for.
    """
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(every_s):
            try:
                renew()
            except StateError:
                return

    threading.Thread(target=keep, name="lease", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
