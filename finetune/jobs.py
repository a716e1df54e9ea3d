"""A job and its life: the states, the table of transitions, and the rows that travel between store and lifecycle."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

Json = dict[str, Any]


class JobState(StrEnum):
    """Where a job is. `TRANSITIONS` says how it gets from one to the next."""

    #: The row is committed; no worker has looked at it. Left when a worker prepares the data.
    QUEUED = "queued"
    #: The checked data is being handed to the provider. Left with an attempt row committed.
    PREPARING = "preparing"
    #: An attempt exists, the provider may or may not know it yet. Left when its remote id is recorded.
    SUBMITTING = "submitting"
    #: The provider has the job; we poll. `Job.provider_state` tells queued from running there.
    RUNNING = "running"
    #: Training is done; the artifact is being recorded as a model version.
    REGISTERING = "registering"
    #: Trained, and the model version is recorded. Final.
    SUCCEEDED = "succeeded"
    #: Ended without a model, for the reason in `Job.error`. Final.
    FAILED = "failed"
    #: Ended because a user asked for it, and the provider confirmed that nothing runs. Final.
    CANCELLED = "cancelled"


#: The whole lifecycle. A pair that is not here cannot happen: the store refuses to write it.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.PREPARING, JobState.FAILED, JobState.CANCELLED}),
    JobState.PREPARING: frozenset({JobState.SUBMITTING, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUBMITTING: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.REGISTERING, JobState.FAILED, JobState.CANCELLED}),
    JobState.REGISTERING: frozenset({JobState.SUCCEEDED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

FINAL: frozenset[JobState] = frozenset(state for state, after in TRANSITIONS.items() if not after)

#: What the provider says, in one vocabulary for all of them.
ProviderState = Literal["queued", "preparing", "running", "paused", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of one recipe on one target, as it stands in the store. Changed only by `lifecycle.advance`."""

    #: `ft_` and ten letters or digits.
    id: str
    #: The recipe's name; the model version will carry it.
    name: str
    #: Who submitted it: the login name of the submitting process.
    owner: str
    provider: str
    base_model: str
    #: The whole recipe, canonical names, defaults left out.
    recipe: Json
    #: Digest of recipe, data and target: the same work has the same fingerprint.
    fingerprint: str
    state: JobState
    #: What the provider calls it, raw; None before it has the job.
    provider_state: str | None = None
    #: Set once by a user; the lifecycle turns it into `cancelled` when the provider confirms.
    cancel_requested: bool = False
    #: From -100 to 100: the higher goes first among those that wait.
    priority: int = 0
    #: When its turn came, UTC: from then on it counts as under way. None while it waits (`finetune.turns`).
    admitted_at: datetime | None = None
    #: A user's wish to pause, which the lifecycle turns into `held`; dropped when the provider refuses for good.
    hold_requested: bool = False
    #: True while it is paused because of that wish: before its start, or at the provider.
    held: bool = False
    #: When it is ended if it has not trained by then, UTC; None: there is no deadline.
    deadline_at: datetime | None = None
    #: When `advance` should look again, UTC. None in a final state, but while a second job may turn up (doubt_until).
    due_at: datetime | None = None
    #: 1 from the first attempt on; 0 before there is one.
    attempt: int = 0
    #: Identifies the attempt to the provider; None before there is one.
    run_key: str | None = None
    #: The provider's id of the job; None until known.
    remote_id: str | None = None
    #: The provider's own mark of how far we have read its events; opaque. None before the first poll.
    cursor: str | None = None
    #: The checked data: digest, paths and row counts of the prepared files.
    data: Json
    #: The provider's names for the uploaded data; None before the upload.
    remote_data: Json | None = None
    #: When a create was sent whose outcome we have not recorded, UTC; None when none is in doubt.
    create_sent_at: datetime | None = None
    #: Until when a second job of this run key may turn up at the provider, UTC: a create that seemed lost was sent
    #: again, or given up. None when that cannot be.
    doubt_until: datetime | None = None
    #: US dollars as texts: `low`, `high` and `basis` as planned, `quote` by the provider. None where nothing is billed.
    cost: Json | None = None
    #: What its training was foreseen to take (`estimates.to_row`): `seconds` and `memory_bytes`, each `low` and `high`;
    #: either may be missing. None: nothing was foreseen.
    estimate: Json | None = None
    #: Latest progress: step, total_steps, loss, tokens_per_s, eta_s. None until the provider reports one.
    progress: Json | None = None
    #: What was trained: adapter path and digest, or the provider's model id. None until trained.
    artifact: Json | None = None
    #: `name@v1`; None until registered.
    model: str | None = None
    #: code, what, why, fix of the failure; None unless failed.
    error: Json | None = None
    #: Failures of the present step in a row; drives the back-off.
    failures: int = 0
    #: The trace that its submit began, as W3C `traceparent`; None where nothing is traced.
    trace: str | None = None
    created_at: datetime
    #: When a state last changed, UTC.
    changed_at: datetime
    #: When it reached a final state, UTC; None until then.
    finished_at: datetime | None = None

    @property
    def target(self) -> str:
        """`provider/base_model`, as recipes and users write it."""
        return f"{self.provider}/{self.base_model}"

    @property
    def final(self) -> bool:
        """True when it has ended; its state will not change any more."""
        return self.state in FINAL


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of a job's history, appended in the transaction of the change that it tells of."""

    #: state (a transition), provider (the provider's words), warning, error
    kind: Literal["state", "provider", "warning", "error"]
    message: str
    #: When it happened, UTC; for provider events the provider's own time.
    at: datetime
    #: Grows with every event of the store; None before the store has numbered it.
    seq: int | None = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured value at one optimiser step: loss, eval_loss, learning_rate, tokens_per_s, grad_norm."""

    step: int
    name: str
    value: float


class Due(NamedTuple):
    """A row that waits for a worker. Each claim raises the token, so the same pair is the same wait."""

    key: str
    token: int


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to write one job until `until`; every claim has a higher token, and older tokens write nothing."""

    job: Job
    owner: str
    token: int
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one step of the lifecycle wants written: applied whole, with its events, or not at all."""

    #: The state afterwards; equal to the present one for a step that only looked.
    state: JobState
    #: When to look again, UTC; None only together with a final state.
    due_at: datetime | None
    #: Further columns of the job to set, by field name.
    fields: Json
    events: tuple[Event, ...] = ()
    metrics: tuple[Metric, ...] = ()
