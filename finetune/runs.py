"""Trainings on own machines: the local provider's books, who works, who gets which device; the seams to their rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from finetune.jobs import Due, Json
from finetune.placement import Device, Need, Share, Site, Taken


@dataclass(frozen=True, kw_only=True)
class Run:
    """A local training as the local provider keeps it: its own books, as a hosted provider keeps its own."""

    run_key: str
    #: queued, running, succeeded, failed, cancelled
    state: str
    #: Everything the trainer needs, JSON.
    request: Json
    cancel_requested: bool = False
    #: A wish to pause: the trainer saves and ends; no worker takes the run until it is lifted.
    hold_requested: bool = False
    #: How often a trainer was started; the first is 1. Names the report file.
    starts: int = 0
    #: How often in a row a trainer, or its worker, ended without a word, and none got any further. Interruptions that
    #: were asked for do not count.
    deaths: int = 0
    #: The highest step that a trainer of it has reported.
    furthest: int = 0
    #: host:pid:start_ticks of the running trainer's process group; None when none was started.
    process: str | None = None
    worker: str | None = None
    #: gpus, memory_mb and base_model that it asks for (`placement.Need`); None: what there is.
    need: Json | None = None
    #: The devices that it has, or had last, and how much of each (`placement.Share`); None before its first start.
    placed: Json | None = None
    #: Seconds that it has had a card, times the cards; without cards, the processor. To the second.
    card_s: float = 0.0
    lease_token: int = 0
    #: No other worker takes it before: the lease of a running one, a pause of a queued one. None: at once.
    lease_until: datetime | None = None
    #: Adapter path, digest and lineage; None unless succeeded.
    artifact: Json | None = None
    #: The failure as code, what, why, fix; None unless failed.
    error: Json | None = None
    created_at: datetime


class RunStore(Protocol):
    """The books of the local provider. A run is with one worker at a time (`Placements`), with a fencing token."""

    def add_run(self, run_key: str, request: Json, now: datetime, need: Json | None = None) -> Run:
        """Insert a queued run, or answer with the one that has this key. Idempotent."""
        ...

    def get_run(self, run_key: str) -> Run | None:
        """The run, or None."""
        ...

    def update_run(self, run: Run, now: datetime, *, ttl: timedelta | None = None, **fields: Any) -> Run:
        """Write fields under the run's token; with `ttl` renew the lease (or pause), without it end the lease.

        Raises LeaseLost when a later token exists.
        """
        ...

    def cancel_run(self, run_key: str, now: datetime) -> None:
        """Ask for the end. A run that nobody has started yet is cancelled at once."""
        ...

    def hold_run(self, run_key: str, hold: bool) -> None:
        """Set or lift the wish to pause. Idempotent."""
        ...

    def training(self, now: datetime) -> list[Run]:
        """The runs that a living worker has, oldest first."""
        ...

    def measuring(self, now: datetime) -> list[Taken]:
        """Evaluations that have a card, oldest first; their keys are versions (`bot@v3`)."""
        ...


class Placements(Protocol):
    """Gives runs their places on one worker's devices (`placement.Site`)."""

    site: Site

    def due_runs(self, now: datetime, limit: int) -> Sequence[Due]:
        """Runs that wait for a worker and that this one could take now: by priority, owners with least live, age."""
        ...

    def claim_run(self, now: datetime, ttl: timedelta) -> Run | None:
        """Take the first of them: a queued run, or a running one whose worker died (one more death); else None.

        Sets running and `placed`, and adds one to `starts`. Workers that ask at once give no device away twice.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A place that an evaluation has."""

    ref: str
    share: Share
    #: Of this sitting: who has the same place later has another.
    token: str


class Seats(Protocol):
    """Places for evaluations on the cards of one machine (`placement.Site`), beside its trainings."""

    site: Site

    def sit(self, ref: str, need: Need, now: datetime, ttl: timedelta) -> Seat | None:
        """Take a place for this version; None: there is none now, and the next that suits is kept for it.

        Place and turn are held for `ttl`: who asks again within it keeps its turn. None too for one that has a place.
        """
        ...

    def stay(self, seat: Seat, now: datetime, ttl: timedelta) -> None:
        """Keep the place. Raises LeaseLost when its time is over: it may be another's by now."""
        ...

    def leave(self, seat: Seat) -> None:
        """Give it back. Silent if it is lost, and another's is left alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A worker that lives: which queues it serves, and when it was last seen."""

    worker: str
    queues: tuple[str, ...]
    host: str
    pid: int
    seen_at: datetime
    #: What it trains on, if it trains.
    devices: tuple[Device, ...] = ()
    #: Trainings at once on its processor.
    slots: int = 1


class BeatStore(Protocol):
    """Who works."""

    def beat(self, worker: Beat) -> None:
        """Say that this worker lives."""
        ...

    def leave(self, worker: str) -> None:
        """Say that it has ended. Silent if unknown."""
        ...

    def workers(self, since: datetime) -> list[Beat]:
        """Workers seen at or after `since`."""
        ...
