"""What goes wrong at a stand-in when it is told to: the faults that a client of a real API meets sooner or later."""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

Kind = Literal[
    # Refused, and nothing is done: 429 with Retry-After (`seconds`), 500, 503.
    "rate_limit",
    "server_error",
    "unavailable",
    # The connection is closed, before anything is done or after all is done and before the answer.
    "cut_before",
    "cut_after",
    # No answer for `seconds`, before anything is done or after all is done; then the connection is closed.
    "hang_before",
    "hang_after",
    # All is done, and the answer's body comes piece by piece over `seconds`, or is no JSON.
    "slow",
    "garbage",
    # A job's state is a word that no document has.
    "odd_state",
    # A webhook is not sent, or sent twice. The operation is `webhook`.
    "webhook_lost",
    "webhook_twice",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: Those that may be met at any request.
ANYWHERE: Final[tuple[Kind, ...]] = (
    "rate_limit",
    "server_error",
    "unavailable",
    "cut_before",
    "cut_after",
    "slow",
    "garbage",
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault that lies in the path of the next requests."""

    kind: Kind
    #: The operation, as the stand-in names it (`create`, `list`, `retrieve` ...); `*` is any.
    on: str = "*"
    #: How often it happens; None: always.
    times: int | None = 1
    #: How long, where the kind has a length: Retry-After, hang, slow.
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault is called {self.kind}; there are {', '.join(KINDS)}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"a fault happens at least once, not {self.times} times")


class Faults:
    """The faults of one stand-in. Safe for threads."""

    def __init__(self, laid: Sequence[Fault] = (), *, rate: float = 0.0, seed: int = 0) -> None:
        """With `rate`, about that share of requests meets one of `ANYWHERE` by chance, the same for the same seed."""
        self._lock = threading.Lock()
        self._laid = list(laid)
        self._rate, self._chance = rate, random.Random(seed)
        #: Lists do not show what is younger than this, seconds.
        self.list_lag_s = 0.0
        #: What has happened so far: operation and kind.
        self.happened: list[tuple[str, Kind]] = []

    def lay(self, fault: Fault) -> None:
        """Put one more in the path."""
        with self._lock:
            self._laid.append(fault)

    def clear(self) -> None:
        """Take all out of the path, chance too."""
        with self._lock:
            self._laid, self._rate, self.list_lag_s = [], 0.0, 0.0

    def meet(self, operation: str, among: Sequence[Kind]) -> Fault | None:
        """The fault that this request meets, of these kinds; None: it goes well."""
        with self._lock:
            for place, fault in enumerate(self._laid):
                if fault.kind in among and fault.on in ("*", operation):
                    self._used(place, fault)
                    self.happened.append((operation, fault.kind))
                    return fault
            kinds = [kind for kind in ANYWHERE if kind in among]
            # A request is asked about twice, before and after it is done: each time with its part of the rate.
            rate = self._rate * len(kinds) / len(ANYWHERE)
            if kinds and self._chance.random() < rate:
                kind = self._chance.choice(kinds)
                self.happened.append((operation, kind))
                return Fault(kind=kind, on=operation, seconds=0.05)
        return None

    def _used(self, place: int, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times > 1:
            self._laid[place] = replace(fault, times=fault.times - 1)
        else:
            del self._laid[place]
