"""Keeps a lease while a step takes longer than it lasts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finetune.errors import LeaseLost, StateError


@contextmanager
def held(renew: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call `renew` from a thread every `every_s` seconds while the block runs, until it raises LeaseLost.

    Then the block's own write will be refused, which is what leases are for. A store that cannot be reached may be
    back at the next call.
    """
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(every_s):
            try:
                renew()
            except LeaseLost:
                return
            except StateError:
                continue

    threading.Thread(target=keep, name="lease", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
