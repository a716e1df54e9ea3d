"""Which training goes on which devices: what workers have, what trainings need, and whose turn it is. Rows in, choice
out; no driver is asked here. Evaluations take cards by the same rules.

A card is shared by trainings that say how much memory they need, as long as it suffices for all. One that does not say
gets its cards for itself. First come those of the highest priority; among equals those whose base model the worker ran
last, unless somebody has waited for long.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

#: So long a free worker that ran its base model last has a training to itself, before others may take it.
HEAD_START = timedelta(seconds=3)
#: Who has waited for so long goes before those that suit the worker better.
FAIR_AFTER = timedelta(minutes=1)
#: Who has waited for so long for several cards at once, or for a whole one, has those that become free kept for it.
KEEP_AFTER = timedelta(minutes=10)
#: Base models that a worker is said to have run last.
WARM = 4


@dataclass(frozen=True)
class Device:
    """A card that a worker can train on."""

    #: As CUDA_VISIBLE_DEVICES takes it; the same on whichever worker sees the card.
    id: str
    name: str
    #: All of it, MiB.
    memory_mb: int


@dataclass(frozen=True)
class Need:
    """What a training asks for."""

    #: None: one card where the worker has any, else the processor. 0: the processor.
    gpus: int | None = None
    #: On each card, MiB. None: whole cards.
    memory_mb: int | None = None

    def __str__(self) -> str:
        """`2x80GB`, as people read it."""
        count = 1 if self.gpus is None else self.gpus
        if count == 0:
            return "the processor"
        return f"{count}x{gigabytes(self.memory_mb)}" if self.memory_mb else f"{count} whole GPU{'s'[: count > 1]}"


@dataclass(frozen=True)
class Share:
    """What a training has: its cards, and how much of each."""

    #: Ids of devices; empty: the processor.
    devices: tuple[str, ...] = ()
    #: Of each, MiB; None: all of it.
    memory_mb: int | None = None


@dataclass(frozen=True)
class Site:
    """A worker, as far as trainings go."""

    worker: str
    devices: tuple[Device, ...] = ()
    #: Trainings at once on the processor.
    slots: int = 1


@dataclass(frozen=True)
class Taken:
    """A training that has its place."""

    key: str
    worker: str
    share: Share


@dataclass(frozen=True)
class Waiting:
    """A training that waits for a place."""

    key: str
    need: Need
    base_model: str
    priority: int
    since: datetime
    #: It measures a version, which takes minutes: it goes before trainings, and has its place kept until it takes it.
    measures: bool = False


@dataclass(frozen=True)
class Scene:
    """What there is to know when a place is given away."""

    taken: Sequence[Taken]
    #: Living workers that train, the asking one among them.
    sites: Sequence[Site]
    #: Base models that each ran last, by worker.
    warm: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def without(self, key: str) -> list[Taken]:
        """What others have: a training whose worker died is not in its own way."""
        return [each for each in self.taken if each.key != key]


def place(need: Need, site: Site, taken: Iterable[Taken]) -> Share | None:
    """A place for it on this worker, on the fullest cards that have room; None: there is none now."""
    taken = list(taken)
    if need.gpus == 0 or (need.gpus is None and not site.devices):
        busy = sum(each.worker == site.worker and not each.share.devices for each in taken)
        return Share() if busy < site.slots else None
    count = need.gpus or 1
    shares = [each.share for each in taken]
    free = {device.id: free_mb(device, shares) for device in site.devices}
    wanted = {device.id: need.memory_mb or device.memory_mb for device in site.devices}
    fitting = sorted(
        (device.id for device in site.devices if free[device.id] >= wanted[device.id]), key=free.__getitem__
    )
    return Share(devices=tuple(fitting[:count]), memory_mb=need.memory_mb) if len(fitting) >= count else None


def free_mb(device: Device, shares: Iterable[Share]) -> int:
    """What trainings leave of a card, MiB."""
    mine = (share for share in shares if device.id in share.devices)
    return device.memory_mb - sum(share.memory_mb or device.memory_mb for share in mine)


def suits(need: Need, site: Site) -> bool:
    """Whether the worker could take it if nobody else were there."""
    return place(need, site, ()) is not None


def choices(waiting: Iterable[Waiting], site: Site, scene: Scene, now: datetime) -> list[tuple[Waiting, Share]]:
    """Those that `site` may take now, each by itself, in their order. `waiting` comes in the order of turns."""
    mine = scene.warm.get(site.worker, ())

    def rank(each: Waiting) -> tuple[int, bool, bool, bool]:
        return -each.priority, now - each.since < FAIR_AFTER, not each.measures, each.base_model not in mine

    found, keeps, kept = [], False, list[Taken]()
    for each in sorted(waiting, key=rank):
        share = place(each.need, site, [*scene.without(each.key), *kept])
        if share is None:
            keeps |= now - each.since >= KEEP_AFTER and suits(each.need, site)
        elif not (keeps and share.devices) and not _left_to_another(each, site, scene, now):
            found.append((each, share))
            kept += [Taken(each.key, site.worker, share)] if each.measures else []
    return found


def need_of(resources: Mapping[str, Any]) -> Need:
    """What a recipe's `resources` ask for."""
    memory = resources.get("memory")
    return Need(gpus=resources.get("gpus"), memory_mb=None if memory is None else mebibytes(memory))


def mebibytes(size: str) -> int:
    """A valid `80GB` in MiB, at least 1. GB is 10^9 bytes, 76,293 MiB here; what is sold as 80 GB has 81,559 and up."""
    number, unit = size[:-2].strip(), size[-2:].upper()
    return max(1, int(float(number) * {"MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]) >> 20)


def gigabytes(memory_mb: int) -> str:
    """MiB as people read them: `80GB`."""
    return f"{round(memory_mb * 2**20 / 1e9)}GB"


def summary(devices: Iterable[Device]) -> str:
    """`2x86GB NVIDIA H100`; empty where there are none."""
    kinds: dict[tuple[str, int], int] = {}
    for device in devices:
        key = (device.name, device.memory_mb)
        kinds[key] = kinds.get(key, 0) + 1
    return ", ".join(f"{count}x{gigabytes(memory)} {name}" for (name, memory), count in kinds.items())


def to_row(share: Share) -> dict[str, Any]:
    """As JSON."""
    return {"devices": list(share.devices), "memory_mb": share.memory_mb}


def from_row(row: Mapping[str, Any] | None) -> Share:
    """From JSON; None: the processor."""
    return Share(devices=tuple(row["devices"]), memory_mb=row["memory_mb"]) if row else Share()


def _left_to_another(each: Waiting, site: Site, scene: Scene, now: datetime) -> bool:
    """Whether a worker that ran the base model last has room for it, and its head start is not over."""
    if now - each.since >= HEAD_START or each.base_model in scene.warm.get(site.worker, ()):
        return False
    others = (other for other in scene.sites if each.base_model in scene.warm.get(other.worker, ()))
    return any(place(each.need, other, scene.without(each.key)) for other in others)
