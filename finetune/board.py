"""The queue as users see it: what is under way, who comes next, and what each waits for. Worked out from rows alone."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from finetune.jobs import Job, JobState
from finetune.placement import Need, Site, Taken, from_row, need_of, suits, summary
from finetune.ports import Clock, JobStore
from finetune.runs import Beat, Run, RunStore
from finetune.tasks import ADVANCE, MEASURE, PROMOTE, QUEUE_OF, TRAIN
from finetune.turns import Caps, Load, in_turn
from finetune.versions import Promotion, PromotionState

_LOCAL = "local"
#: How the local provider says that no worker has a run yet.
_UNTAKEN = "waiting for a worker"
#: Holders of a place that are named, at most.
_HOLDERS = 3
#: Jobs that are being tried again whose reason is shown, at most.
_TRIED = 50


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One unfinished job."""

    job: Job
    #: 1 for the next to start; None once it is under way.
    position: int | None
    #: What it waits for, in words; None when it trains.
    waits_for: str | None
    #: Seconds until its training ends, as its trainer reckons; None where nobody does.
    eta_s: float | None


@dataclass(frozen=True, kw_only=True)
class Moving:
    """One unfinished promotion."""

    promotion: Promotion
    #: Its last note; of one that nobody has taken up, the worker that it waits for.
    waits_for: str


def moving(promotions: Iterable[Promotion], workers: Sequence[Beat]) -> list[Moving]:
    """The unfinished ones of these, by age. `workers` live."""
    found = sorted((one for one in promotions if not one.final), key=lambda one: (one.created_at, one.id))
    queues = {queue for worker in workers for queue in worker.queues}
    return [
        Moving(promotion=one, waits_for=str(one.notes[-1]["text"]) if one.notes else _mover(one, queues))
        for one in found
    ]


def entries(
    jobs: Iterable[Job],
    workers: Sequence[Beat],
    caps: Caps,
    now: datetime,
    *,
    runs: Iterable[Run] = (),
    measuring: Sequence[Taken] = (),
    said: Mapping[str, str] | None = None,
) -> list[Entry]:
    """Unfinished jobs: those under way by age, then those that wait, in the order of their turns, then the paused.

    `workers` live; `runs` are what they train, `measuring` the evaluations that have a card; `said` has the last
    warning of jobs that are being tried again.
    """
    found = [job for job in jobs if not job.final]
    under_way = sorted((job for job in found if _under_way(job)), key=lambda job: (job.created_at, job.id))
    paused = [job for job in found if not _under_way(job) and job.hold_requested]
    load, free = Load(caps), Load({})
    for job in found:
        if job.admitted_at is not None:
            load.add(job.owner, job.provider, job.base_model)
        if _under_way(job):
            free.add(job.owner, job.provider, job.base_model)
    waiting = in_turn((job for job in found if not _under_way(job) and not job.hold_requested), free)
    places = {run.run_key: run for run in runs}
    training = [(job, places[str(job.run_key)]) for job in under_way if job.run_key in places]
    look = _Look(workers, load, training, measuring, said or {}, now)
    order = [*under_way, *waiting, *sorted(paused, key=lambda job: (job.created_at, job.id))]
    position = {job.id: number for number, job in enumerate(waiting, start=1)}
    return [
        Entry(job=job, position=position.get(job.id), waits_for=look.waits_for(job), eta_s=_eta_s(job)) for job in order
    ]


class Board:
    """Puts the questions to the stores. Holds no state of its own."""

    def __init__(
        self,
        jobs: JobStore,
        runs: RunStore,
        alive: Callable[[], list[Beat]],
        caps: Caps,
        clock: Clock,
    ) -> None:
        """`alive` are the workers that live."""
        self._jobs, self._runs, self._alive = jobs, runs, alive
        self._caps, self._clock = caps, clock

    def entries(self) -> list[Entry]:
        """See `entries`: the queue of this moment. Raises StateError."""
        jobs = self._jobs.recent(unfinished=True)
        tried = [job.id for job in jobs if job.failures][:_TRIED]
        last = {job_id: events[-1] for job_id in tried if (events := self._jobs.events(job_id))}
        said = {job_id: event.message for job_id, event in last.items() if event.kind == "warning"}
        now = self._clock.now()
        runs, measuring = self._runs.training(now), self._runs.measuring(now)
        return entries(jobs, self._alive(), self._caps, now, runs=runs, measuring=measuring, said=said)

    def moving(self, promotions: Iterable[Promotion]) -> list[Moving]:
        """See `moving`: those of these that are under way. Raises StateError."""
        return moving(promotions, self._alive())

    def waits_for(self, job_id: str) -> str | None:
        """What this job waits for, in words; None: for nothing. Raises StateError."""
        return next((entry.waits_for for entry in self.entries() if entry.job.id == job_id), None)

    def workers(self) -> list[tuple[Beat, list[Run], list[Taken]]]:
        """Workers that live, what each trains, and the evaluations on its cards, whoever has begun them."""
        now = self._clock.now()
        busy, measuring, found = self._runs.training(now), self._runs.measuring(now), []
        for beat in self._alive():
            cards = {device.id for device in beat.devices}
            here = [each for each in measuring if cards & set(each.share.devices)]
            found.append((beat, [run for run in busy if run.worker == beat.worker], here))
        return found


@dataclass(frozen=True)
class _Look:
    """What there is to wait for."""

    workers: Sequence[Beat]
    load: Load
    training: Sequence[tuple[Job, Run]]
    measuring: Sequence[Taken]
    said: Mapping[str, str]
    now: datetime

    def waits_for(self, job: Job) -> str | None:
        """The first of its obstacles, None if there is none."""
        return self._wish(job) or self._turn(job) or self._worker(job) or self._pause(job) or self._answer(job)

    def _wish(self, job: Job) -> str | None:
        if job.cancel_requested:
            return "its end: cancel requested"
        if job.hold_requested:
            return f"`ft resume {job.id}`: it is paused" if job.held or job.state is JobState.QUEUED else "its pause"
        return None

    def _turn(self, job: Job) -> str | None:
        if job.admitted_at is not None:
            return None
        return self.load.obstacle(job) or "its turn, at the next sweep"

    def _worker(self, job: Job) -> str | None:
        queues = {queue for worker in self.workers for queue in worker.queues}
        if QUEUE_OF[ADVANCE] not in queues:
            return f"a worker: none listens on {QUEUE_OF[ADVANCE]}, `ft up` starts them"
        if not _untaken(job):
            return None
        if QUEUE_OF[TRAIN] not in queues:
            return f"a worker: none listens on {QUEUE_OF[TRAIN]}, `ft up` starts them"
        return self._place(need_of(job.recipe.get("resources") or {}))

    def _place(self, need: Need) -> str:
        trainers = [worker for worker in self.workers if QUEUE_OF[TRAIN] in worker.queues]
        able = [worker for worker in trainers if suits(need, Site(worker.worker, worker.devices, worker.slots))]
        if not able:
            cards = summary(device for worker in trainers for device in worker.devices)
            return f"{need}: no worker has that, they have {cards or 'no GPU'}"
        names = {worker.worker for worker in able}
        cards_too = {device.id for worker in able for device in worker.devices}
        on_card = any(worker.devices for worker in able) and need.gpus != 0
        holds = [
            f"{job.id}{_share(job)}"
            for job, run in self.training
            if (cards_too & set(from_row(run.placed).devices) if on_card else run.worker in names)
        ]
        if on_card:
            holds += [f"the evaluation of {each.key}" for each in self.measuring if cards_too & set(each.share.devices)]
        what = str(need) if on_card else f"a {QUEUE_OF[TRAIN]} worker"
        return what + (f", held by {', '.join(holds[:_HOLDERS])}" if holds else "")

    def _pause(self, job: Job) -> str | None:
        if not job.failures or job.due_at is None or job.due_at <= self.now:
            return None
        left = f"the next try, in {(job.due_at - self.now).total_seconds():.0f} s"
        return f"{left}: {self.said[job.id]}" if job.id in self.said else left

    def _answer(self, job: Job) -> str | None:
        if job.create_sent_at is not None:
            return "the provider's list: whether it has the job"
        if job.state in (JobState.QUEUED, JobState.PREPARING, JobState.SUBMITTING):
            return f"a free {QUEUE_OF[ADVANCE]} worker" if job.state is JobState.QUEUED else None
        return None


def _mover(promotion: Promotion, queues: Collection[str]) -> str:
    """Who takes it up: what is measured needs another worker than the rest."""
    queue = QUEUE_OF[MEASURE if promotion.state is PromotionState.EVALUATING else PROMOTE]
    return f"a {queue} worker" if queue in queues else f"a worker: none listens on {queue}, `ft up` starts them"


def _under_way(job: Job) -> bool:
    held_back = job.state is JobState.QUEUED and job.hold_requested
    return job.admitted_at is not None and not _untaken(job) and not held_back


def _eta_s(job: Job) -> float | None:
    return (job.progress or {}).get("eta_s")


def _untaken(job: Job) -> bool:
    return job.provider == _LOCAL and (job.provider_state or "").startswith((_UNTAKEN, "queued"))


def _share(job: Job) -> str:
    done, total = ((job.progress or {}).get(key) for key in ("step", "total_steps"))
    return f" at {100 * done // total}%" if done is not None and total else ""
