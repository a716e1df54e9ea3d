"""A stand-in for Mistral's files, fine-tuning and chats, as its last published description with jobs has them.

Fine-tuning has ended: with `gone` each of its routes answers 410, as the vendor's do today. Without it the whole
protocol can be used. How a job shall go badly is said anywhere in its training data: `sandbox:fail-data`,
`sandbox:fail-train` or `sandbox:quota`, or without `sandbox:` in its suffix. Classifiers and repositories are checked
and then refused, as to an account that has neither.
"""

import json
import uuid
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults
from finetune.sandbox.mistral.bodies import Classifier, Completion, CreateQuery, JobIn, JobsQuery, NoQuery
from finetune.sandbox.mistral.chat import ChatIn, beyond, completion
from finetune.sandbox.mistral.cost import sized
from finetune.sandbox.mistral.files import WISHES, Files, StoredFile, Wish, identified
from finetune.sandbox.mistral.jobs import ENDED, Job, Timing
from finetune.sandbox.mistral.words import answer, asked_rightly, checked, no_such, refuse, unknown_model
from finetune.sandbox.service import Entry, Reply, Request, Route, Sandbox

#: What could be tuned for completion, as Mistral's documentation listed it last.
MODELS: Final = (
    "open-mistral-7b",
    "open-mistral-nemo",
    "mistral-small-latest",
    "mistral-large-latest",
    "codestral-latest",
    "ministral-3b-latest",
    "ministral-8b-latest",
    "pixtral-12b-latest",
)
#: The key that is known and may not tune.
_NO_ACCESS: Final = "sandbox-no-access"
#: Validation files of a job together, at most.
_HELD_OUT_BYTES: Final = 1024 * 1024
_KEPT: Final = 10_000

_Handler = Callable[[Request], Reply]


class MistralSandbox(Sandbox):
    """Mistral."""

    name: ClassVar[str] = "mistral"

    def __init__(
        self,
        *,
        clock: SandboxClock | None = None,
        faults: Faults | None = None,
        timing: Timing | None = None,
        gone: bool = False,
    ) -> None:
        super().__init__(clock=clock, faults=faults)
        self.timing, self.gone = timing or Timing(), gone
        self.files = Files()
        #: Operation and path of the newest requests.
        self.requests: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        #: All in the order of their creation: by id, by suffix, by model.
        self._jobs: dict[str, Job] = {}
        self._all: list[Job] = []
        self._by_suffix: defaultdict[str | None, list[Job]] = defaultdict(list)
        self._by_model: defaultdict[str, list[Job]] = defaultdict(list)

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        jobs, job, files, file = (
            "/v1/fine_tuning/jobs",
            "/v1/fine_tuning/jobs/{job_id}",
            "/v1/files",
            "/v1/files/{file_id}",
        )
        table: list[tuple[str, str, str, _Handler]] = [
            ("POST", files, "upload", lambda request: self.files.upload(request, self._now())),
            ("GET", files, "list_files", self.files.list),
            ("GET", file, "retrieve_file", self.files.retrieve),
            ("DELETE", file, "delete_file", self.files.delete),
            ("GET", f"{file}/content", "content", self.files.content),
            ("POST", jobs, "create", self._create),
            ("GET", jobs, "list", self._list),
            ("GET", job, "retrieve", self._retrieve),
            ("POST", f"{job}/cancel", "cancel", self._cancel),
            ("POST", f"{job}/start", "start", self._start),
            ("POST", "/v1/chat/completions", "chat", self._chat),
        ]
        return [
            Route(method=method, path=path, operation=operation, answer=self._kept(operation, handler))
            for method, path, operation, handler in table
        ]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {"MISTRAL_BASE_URL": url, "MISTRAL_API_KEY": "sandbox-key"}

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`."""
        return answer(status, message, **more)

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`."""
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key.startswith("sandbox"):
            return self.refused(401, "Unauthorized")
        if key == _NO_ACCESS:
            return self.refused(403, "You do not have permission to perform this action.")
        return None

    def ledger(self) -> list[Entry]:
        """See `Sandbox.ledger`."""
        with self.lock:
            now = self._now()
            return [_entry(job, now) for job in self._all]

    def _kept(self, operation: str, handler: _Handler) -> _Handler:
        tuning = operation in ("create", "list", "retrieve", "cancel", "start")

        def handle(request: Request) -> Reply:
            self.requests.append((operation, request.path))
            if tuning and self.gone:
                raise refuse(410, "The fine-tuning API has been retired.")
            if operation not in ("create", "list", "list_files"):
                checked(NoQuery, _last(request), ("query",))
            return handler(request)

        return handle

    def _now(self) -> float:
        return self.clock.now().timestamp()

    def _create(self, request: Request) -> Reply:
        dry = checked(CreateQuery, _last(request), ("query",)).dry_run
        asked, numbers = self._asked(request)
        files = self._files_of(asked)
        ends = _badly(asked.suffix, files)
        if ends == "quota":
            raise refuse(402, "Fine-tuning needs an active payment plan or more credit on this workspace.")
        tokens = sum(file.rows.tokens for file in files if file.rows)
        job = Job(
            id=str(uuid.uuid4()),
            asked=asked,
            numbers=numbers,
            size=sized(tokens, steps=numbers.training_steps, epochs=numbers.epochs),
            owner=_owner(request),
            created=self._now(),
            timing=self.timing,
            fails=ends,
        )
        if dry:
            return Reply(body=_legacy(job))
        self._keep(job)
        return Reply(body=job.short(self._now()))

    def _asked(self, request: Request) -> tuple[JobIn, Completion]:
        place = ("body", "job_in")
        asked = checked(JobIn, _json(request), place)
        kind = asked.job_type or "completion"
        numbers = checked(
            Classifier if kind == "classifier" else Completion, asked.hyperparameters, (*place, "hyperparameters")
        )
        if not isinstance(numbers, Completion) or asked.model not in MODELS:
            raise refuse(422, f"Model not available for this type of fine-tuning ({kind}).")
        if asked.repositories:
            raise refuse(422, f"The repository {asked.repositories[0].name} cannot be accessed.")
        return asked, numbers

    def _files_of(self, asked: JobIn) -> list[StoredFile]:
        """The training files. Raises Refusal when one of all files is not there, or is for something else."""
        held_out = [self._tunable(str(each)) for each in asked.validation_files or ()]
        if sum(len(file.content) for file in held_out) > _HELD_OUT_BYTES:
            raise refuse(422, "The validation files exceed the limit of 1 MB.")
        return [self._tunable(str(each.file_id)) for each in asked.training_files]

    def _tunable(self, file_id: str) -> StoredFile:
        file = self.files.get(file_id)
        if file is None:
            raise refuse(422, f"File {file_id} does not exist.")
        if file.purpose != "fine-tune":
            raise refuse(422, f"File {file_id} has the purpose {file.purpose}, not fine-tune.")
        return file

    def _keep(self, job: Job) -> None:
        self._jobs[job.id] = job
        for index in (self._all, self._by_suffix[job.asked.suffix], self._by_model[job.asked.model]):
            index.append(job)

    def _list(self, request: Request) -> Reply:
        asked = checked(JobsQuery, _last(request), ("query",))
        now, begin = self._now(), asked.page * asked.page_size
        jobs = self._visible(asked, now)
        if not asked.model_fields_set <= {"page", "page_size", "suffix"}:
            jobs = [job for job in jobs if _fits(job, asked, now, _owner(request))]
        # The newest stand last.
        end = max(0, len(jobs) - begin)
        rows = [job.short(now) for job in jobs[max(0, end - asked.page_size) : end][::-1]]
        return Reply(body={"data": rows, "object": "list", "total": len(jobs)})

    def _visible(self, asked: JobsQuery, now: float) -> Sequence[Job]:
        """Those that a list may show, by the narrowest index. With a lag the youngest are missing."""
        jobs: Sequence[Job] = self._all
        if asked.suffix is not None:
            jobs = self._by_suffix.get(asked.suffix, [])
        elif asked.model is not None:
            jobs = self._by_model.get(asked.model, [])
        lag_s = self.faults.list_lag_s
        return jobs[: bisect_right(jobs, now - lag_s, key=lambda job: job.created)] if lag_s else jobs

    def _retrieve(self, request: Request) -> Reply:
        told = self._named(request).detailed(self._now())
        if self.faults.meet("retrieve", ("odd_state",)):
            told["status"] = "REBALANCING"
        return Reply(body=told)

    def _cancel(self, request: Request) -> Reply:
        job, now = self._named(request), self._now()
        status = job.status(now)
        if status in ENDED:
            raise refuse(409, f"The job cannot be cancelled: it is {status}.")
        if job.cancelled is None:
            job.cancelled = now
        return Reply(body=job.detailed(self._now()))

    def _start(self, request: Request) -> Reply:
        job, now = self._named(request), self._now()
        status = job.status(now)
        if status != "VALIDATED":
            raise refuse(409, f"The job cannot be started: it is {status}, not VALIDATED.")
        job.started = now
        return Reply(body=job.detailed(self._now()))

    def _chat(self, request: Request) -> Reply:
        asked = asked_rightly(ChatIn, _json(request))
        if asked.model not in MODELS and not self._is_tuned(asked.model):
            raise unknown_model(asked.model)
        if refused := beyond(asked):
            raise refused
        return Reply(body=completion(uuid.uuid4().hex, int(self._now()), asked))

    def _is_tuned(self, name: str) -> bool:
        """Whether this is a model that was made here."""
        now, end = self._now(), name.rpartition(":")[2]
        return any(job.short(now)["fine_tuned_model"] == name for job in self._all if job.id.startswith(end))

    def _named(self, request: Request) -> Job:
        job = self._jobs.get(identified(request, "job_id"))
        if job is None:
            raise no_such("fine tuning job")
        return job


def _owner(request: Request) -> str:
    """Whose key it is: each key is a user of the same organisation."""
    return request.headers["authorization"]


def _last(request: Request) -> dict[str, str]:
    return {name: values[-1] for name, values in request.query.items()}


def _json(request: Request) -> Any:
    try:
        return json.loads(request.body)
    except ValueError:
        raise refuse(400, "Cannot parse request body") from None


def _badly(suffix: str | None, files: Sequence[StoredFile]) -> Wish | None:
    return next((word for word in WISHES if word in (suffix or "") or any(word in each.wishes for each in files)), None)


def _fits(job: Job, asked: JobsQuery, now: float, owner: str) -> bool:
    runs = job.asked.integrations or ()
    return (
        (asked.model is None or job.asked.model == asked.model)
        and (asked.created_after is None or job.created > _epoch(asked.created_after))
        and (asked.created_before is None or job.created < _epoch(asked.created_before))
        and (not asked.created_by_me or job.owner == owner)
        and (asked.wandb_project is None or any(each.project == asked.wandb_project for each in runs))
        and (asked.wandb_name is None or any(each.name == asked.wandb_name for each in runs))
        and (asked.status is None or job.status(now) == asked.status)
    )


def _epoch(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _legacy(job: Job) -> dict[str, Any]:
    """What a dry run tells."""
    told = {"epochs": job.size.epochs, "training_steps": job.size.steps, "object": "job.metadata"}
    return {**job.metadata(), "deprecated": True, "details": "Nothing was created: this is a dry run.", **told}


def _entry(job: Job, now: float) -> Entry:
    status = job.status(now)
    return Entry(
        remote_id=job.id,
        key=job.asked.suffix,
        raw_state=status,
        live=status not in ("CANCELLED", "CANCELLATION_REQUESTED"),
        paid=job.paid(now),
    )
