"""Whose turn it is: which of the jobs that wait may start, and the seam to where they are kept.

The highest priority first; within one, the owner with the fewest jobs under way; of one owner's, the oldest. A job that
a cap holds back is passed over, so a full target holds up nobody who wants another.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Protocol, TypeVar

from finetune.jobs import Job

#: The word in `Caps` for each owner.
OWNER: Final = "owner"
#: Priorities are from -this to this; the default is 0.
HIGHEST: Final = 100

#: How many jobs may be under way at once: by `owner` (of each), by `provider` and by `provider/base_model`.
Caps = Mapping[str, int]


class Place(Protocol):
    """A job as far as its turn goes: a `jobs.Job`, or a row with these columns."""

    @property
    def id(self) -> str:
        """See `Job.id`."""
        ...

    @property
    def owner(self) -> str:
        """See `Job.owner`."""
        ...

    @property
    def provider(self) -> str:
        """See `Job.provider`."""
        ...

    @property
    def base_model(self) -> str:
        """See `Job.base_model`."""
        ...

    @property
    def priority(self) -> int:
        """See `Job.priority`."""
        ...

    @property
    def created_at(self) -> datetime:
        """See `Job.created_at`."""
        ...


AnyPlace = TypeVar("AnyPlace", bound=Place)


class Load:
    """What is under way, counted as caps count it."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._targets: Counter[str] = Counter()
        self.owners: Counter[str] = Counter()

    def add(self, owner: str, provider: str, base_model: str, count: int = 1) -> None:
        """Count jobs of this owner and target as under way."""
        self.owners[owner] += count
        for key in _targets(provider, base_model):
            self._targets[key] += count

    def obstacle(self, place: Place) -> str | None:
        """The cap that holds the job back, as people read it; None: it may start."""
        cap = self._caps.get(OWNER)
        if cap is not None and self.owners[place.owner] >= cap:
            return f"{place.owner} has {self.owners[place.owner]} of {cap} under way"
        for key in _targets(place.provider, place.base_model):
            if key in self._caps and self._targets[key] >= self._caps[key]:
                return f"{key} has {self._targets[key]} of {self._caps[key]} under way"
        return None


def in_turn(waiting: Iterable[AnyPlace], load: Load) -> list[AnyPlace]:
    """Those that may start now, in their order. `load` counts them as under way afterwards."""
    chosen: list[AnyPlace] = []
    classes: dict[int, dict[str, deque[AnyPlace]]] = {}
    for place in sorted(waiting, key=lambda each: (-each.priority, each.created_at, each.id)):
        classes.setdefault(place.priority, {}).setdefault(place.owner, deque()).append(place)
    for owners in classes.values():
        while owners:
            owner = min(owners, key=lambda name: (load.owners[name], owners[name][0].created_at, name))
            place = owners[owner].popleft()
            if not owners[owner]:
                del owners[owner]
            if load.obstacle(place) is None:
                load.add(place.owner, place.provider, place.base_model)
                chosen.append(place)
    return chosen


class TurnStore(Protocol):
    """Jobs that wait for their turn, and users' wishes about it."""

    def admit(self, now: datetime, caps: Caps) -> list[str]:
        """Let those start whose turn it is; returns their ids. Workers that ask at once exceed no cap."""
        ...

    def request_hold(self, job_id: str, hold: bool, now: datetime) -> Job:
        """Set or lift the wish to pause, and make the job due. Idempotent; silent if the job is final."""
        ...

    def prioritise(self, job_id: str, priority: int, now: datetime) -> Job:
        """Set the priority, and write it into the history. Silent if the job is final. Raises NotFound."""
        ...


def _targets(provider: str, base_model: str) -> tuple[str, str]:
    return provider, f"{provider}/{base_model}"
