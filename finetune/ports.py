"""Every seam of the product on one page. Rooms know these, not each other; `wiring` joins them.

None of these calls waits for training. All of them are sync. Times are aware datetimes in UTC.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from finetune.errors import Problem
from finetune.jobs import Change, Due, Event, Job, Json, Lease, Metric, ProviderState
from finetune.runs import RunStore

if TYPE_CHECKING:
    from finetune.catalogue import ProviderSheet
    from finetune.spec import Recipe


class Clock(Protocol):
    """The only source of time; tests hand in one that they turn by hand."""

    def now(self) -> datetime:
        """The present, aware, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`, >= 0."""
        ...


class Queue(Protocol):
    """Wakes workers. A hint: a lost message costs a sweep's interval, never a job."""

    def wake(self, task: str, key: str) -> None:
        """Ask for `task` (`ft.advance`, `ft.train`) to run on `key` soon.

        Called after the commit, never inside a transaction. Never raises for a dead broker: the sweep will find
        the row.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Training data, checked, split and in the target's layout, as files of JSON lines on this machine."""

    train: Path
    #: None when the recipe asks for no validation.
    validation: Path | None
    train_rows: int
    validation_rows: int
    #: sha256 over the rows of both sides in their canonical form; names the content, not the place or the layout.
    digest: str
    #: The layout of the files, as `ft data convert --to` names it.
    format: str
    #: What was found and does not stand in the way.
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RemoteData:
    """What `Provider.create` needs to name the uploaded data: the provider's own ids or paths, JSON values only."""

    ids: Json


@dataclass(frozen=True, kw_only=True)
class RemoteJob:
    """A job as the provider knows it."""

    remote_id: str
    #: The provider's own word for its state.
    raw_state: str
    created_at: datetime
    #: It has come to its end, well or not.
    ended: bool = False


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one poll saw: the present state, and what has happened since the cursor."""

    state: ProviderState
    #: The provider's own word for it, shown beside ours.
    raw_state: str
    #: Hand this to the next poll. Opaque.
    cursor: str | None
    events: tuple[Event, ...] = ()
    metrics: tuple[Metric, ...] = ()
    #: step, total_steps, loss, tokens_per_s, eta_s as far as the provider tells; None when it tells nothing.
    progress: Json | None = None
    #: Adapter path and digest, or the provider's model id; None unless succeeded.
    artifact: Json | None = None
    #: Why it failed; None unless failed.
    problem: Problem | None = None
    #: US dollars that the training has cost so far; None where nobody counts.
    spent_usd: Decimal | None = None
    #: It waits for `abilities.Startable.start`: what it will cost (`usd`, `tokens`); None when it waits for nothing.
    quote: Json | None = None


class Provider(Protocol):
    """A place that can train: a hosted API or this machine. One file each, entry point group `ft.providers`."""

    #: The word users write in `provider:`.
    name: str
    #: Seconds after a create during which `find` may still miss the job.
    grace_s: float
    #: The longest pause between two polls, seconds; the lifecycle begins with short ones.
    max_poll_s: float
    #: Recipe fields, dotted, that it does something about (`lora.r`, or `lora` for all below), without those that are
    #: dealt with before (`plan.OURS`). Any other field that a recipe sets is an error, unless it is in `allow_ignored`.
    honours: frozenset[str]

    def check(self, recipe: "Recipe") -> list[Problem]:
        """Everything about the recipe that this provider cannot do, at once. Sends nothing, blocks for nothing."""
        ...

    def upload(self, data: PreparedData) -> RemoteData:
        """Hand the data over. Idempotent by `data.digest`. Raises ProviderError."""
        ...

    def find(self, run_key: str) -> list[RemoteJob]:
        """The provider's jobs that carry this key, oldest first. Raises ProviderUnavailable if it cannot tell."""
        ...

    def create(self, recipe: "Recipe", data: RemoteData, run_key: str) -> RemoteJob:
        """Start the job with one request that is never retried below us. Not idempotent: call `find` first.

        Raises ProviderUnavailable (nothing was done), OutcomeUnknown (it may have been), ProviderError (refused).
        """
        ...

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """State and news since `cursor` (None: from the start). Idempotent.

        Raises ProviderUnavailable, ProviderError.
        """
        ...

    def cancel(self, remote_id: str) -> None:
        """Ask for the end of the job. Idempotent, silent if it has ended; `poll` tells when nothing runs any more."""
        ...


def _shipped(provider: str) -> "ProviderSheet | None":
    from finetune.catalogue import load

    return load().provider(provider)


@dataclass(frozen=True, kw_only=True)
class ProviderKit:
    """What a provider is built from. An entry point of the group `ft.providers` is a function of this to a Provider."""

    #: Where local trainings write, a folder a run key.
    runs_dir: Path
    #: Built-in base models.
    cache_dir: Path
    clock: Clock
    queue: Queue
    #: Opens the database when it is first called: a check of a recipe needs none.
    runs: Callable[[], RunStore]
    #: Complete JSON lines of a trainer's report from a byte offset on, and the next offset.
    read_report: Callable[[Path, int], tuple[list[Json], int]]
    #: The environment: credentials and addresses, under the names that the vendors' own packages read.
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: What an hour of one of our own cards costs, US dollars; None: nobody counts.
    gpu_hour_usd: Decimal | None = None
    #: What an upload in parts has got done, so that the next try goes on from there.
    uploads_dir: Path = Path("uploads")
    #: Requests a second to each hosted API from this process, in the long run.
    requests_per_s: float = 10.0
    #: What the catalogue says of a provider.
    sheet: "Callable[[str], ProviderSheet | None]" = _shipped


class JobStore(Protocol):
    """Jobs, their events and metrics. Every write of an existing job goes through a lease."""

    def submit(self, job: Job, event: Event, *, force: bool) -> tuple[Job, bool]:
        """Insert `job`, or answer with the live or succeeded job of the same fingerprint: (job, True if inserted).

        With `force` it is always inserted and takes the fingerprint over. Two submits at once insert one.
        """
        ...

    def answering(self, fingerprint: str) -> Job | None:
        """The live or succeeded job of this fingerprint, or None."""
        ...

    def get(self, job_id: str) -> Job:
        """The job of this id or unambiguous prefix of one. Raises NotFound."""
        ...

    def recent(self, *, limit: int | None = None, unfinished: bool = False) -> list[Job]:
        """Jobs, newest first; with `unfinished` only those that something can still happen to."""
        ...

    def note_model(self, job_id: str, ref: str) -> None:
        """Write down which version a job has made that came to its end elsewhere. Idempotent."""
        ...

    def claim(self, job_id: str, owner: str, now: datetime, ttl: timedelta) -> Lease | None:
        """Take the job for `ttl` if it is due and no live lease holds it; else None. The new token is the highest."""
        ...

    def claim_due(self, owner: str, now: datetime, ttl: timedelta, limit: int) -> list[Lease]:
        """Take up to `limit` jobs at once that are due and unleased, longest due first, as `claim` takes one.

        Waits for no other claim: what somebody else is taking at this moment is passed over.
        """
        ...

    def apply(self, lease: Lease, change: Change, now: datetime, *, until: datetime | None = None) -> Job:
        """Write the change with its events and metrics in one transaction; give the lease back, or hold it `until`.

        Raises LeaseLost (and writes nothing) when a later token exists, or when it was given back. Refuses a transition
        that is not in the table.
        """
        ...

    def record(self, lease: Lease, now: datetime, fields: Json) -> Lease:
        """Write columns durably in the middle of a step, keeping the lease. Raises LeaseLost."""
        ...

    def renew(self, lease: Lease, until: datetime) -> None:
        """Hold the lease for longer. Raises LeaseLost, also when it was given back."""
        ...

    def request_cancel(self, job_id: str, now: datetime) -> Job:
        """Set the wish to cancel and make the job due. Idempotent; silent if the job is final. Raises NotFound."""
        ...

    def nudge(self, provider: str, remote_id: str, now: datetime) -> str | None:
        """Make the job with this remote id due now; returns its id, or None if no unfinished job has it. Idempotent."""
        ...

    def due(self, now: datetime, limit: int) -> Sequence[Due]:
        """Jobs that are due and unleased, longest due first."""
        ...

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """Events with seq > `after`, in order."""
        ...

    def metrics(self, job_id: str) -> list[Metric]:
        """All metrics by step, then name."""
        ...


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model that the embedded server can answer with."""

    #: The name that answers carry: `support-bot@v3`, or the base model's own name.
    id: str
    base_model: str
    #: The adapter's folder; None for the base model itself.
    adapter: Path | None
    created_at: datetime
    #: sha256 of the adapter's files (`files.digest`), looked at whenever they are loaded; None: nobody knows it.
    digest: str | None = None
    #: Where the folder can be fetched from when it is missing; None: nowhere.
    uri: str | None = None
    #: Other names for the same thing (`support-bot@production`).
    aliases: tuple[str, ...] = field(default=())


class ModelSource(Protocol):
    """What the embedded server may serve; asked anew at every request, so a promotion is live at once."""

    def served(self) -> list[Served]:
        """Everything that can be asked for."""
        ...

    def resolve(self, name: str) -> Served:
        """The model of this name, version or alias. Raises NotFound: never another model in its place."""
        ...


class LoadedBase(Protocol):
    """A base model in memory with its tokenizer, as `transformers` objects."""

    @property
    def model(self) -> Any:
        """`PreTrainedModel`, in evaluation mode, on its device."""
        ...

    @property
    def tokenizer(self) -> Any:
        """`PreTrainedTokenizer` with a chat template."""
        ...


#: Loads a base model by the name that recipes use; the callable reports progress in plain lines.
BaseLoader = Callable[[str, Callable[[str], None]], LoadedBase]


class Chat(Protocol):
    """Anything that answers a chat: used by `ft chat`, the comparison after training, and the server."""

    def stream(
        self, messages: Sequence[Json], *, max_tokens: int, temperature: float, seed: int | None
    ) -> Iterator[str]:
        """Pieces of the answer's text as they are made. Temperature 0 is greedy and repeatable."""
        ...
