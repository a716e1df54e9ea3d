"""A stand-in for OpenAI's fine-tuning, files, uploads, models and chats, after its published description 2.3.0.

A suffix with `fail-data` fails in validation, with `fail-train` while training, with `quota` at the create. Tokens are
estimated (no tokenizer ships with ft), losses are invented from the job's id, and models say who they are.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults
from finetune.sandbox.openai import chat
from finetune.sandbox.openai.bodies import JOB, JOB_NEEDED, MAX_SEED, NOTHING, Check, fields, method_of
from finetune.sandbox.openai.book import Book
from finetune.sandbox.openai.files import Files, Limits
from finetune.sandbox.openai.filing import Filing
from finetune.sandbox.openai.front import KEY, ORGANIZATION, Operation
from finetune.sandbox.openai.jobs import Job, Order, Timing, result_csv
from finetune.sandbox.openai.models import Models
from finetune.sandbox.openai.paging import listing, metadata_filter, newest_first, page_of
from finetune.sandbox.openai.rows import LEAST, Rows, look
from finetune.sandbox.openai.webhooks import Sender, Webhook
from finetune.sandbox.openai.words import Refused, closed, no_quota
from finetune.sandbox.service import Entry, Request, Route

#: The metadata under which ft keeps its run key.
_RUN_KEY: Final = "ft_run_key"
_ODD: Final = "hibernating"


class OpenAiSandbox(Filing):
    """OpenAI on this machine."""

    name: ClassVar[str] = "openai"
    #: Whose models these are, as the list of models says.
    owner: ClassVar[str] = "system"
    #: Further fields of a create.
    job_fields: ClassVar[Mapping[str, Check]] = {}
    #: Seconds until a new file is processed, unless the timing says so.
    processing_s: ClassVar[float] = 0.0

    def __init__(  # noqa: PLR0913 -- each by its own name, all optional
        self,
        *,
        clock: SandboxClock | None = None,
        faults: Faults | None = None,
        timing: Timing | None = None,
        webhook: Webhook | tuple[str, str] | None = None,
        closed_from: date | None = None,
        file_limit: int | None = None,
        part_limit: int | None = None,
        per_minute: int = 100_000,
    ) -> None:
        """`closed_from`: from this day of the sandbox's clock on, no job can be created; None: open.

        `webhook`: where events go and what they are signed with. `file_limit` and `part_limit` in bytes; None: the
        vendor's. `per_minute`: requests before 429.
        """
        super().__init__(clock=clock, faults=faults, per_minute=per_minute)
        self._timing, self._closed_from = timing or Timing(), closed_from
        self._webhook = Webhook(*webhook) if isinstance(webhook, tuple) else webhook
        #: None when there is no webhook.
        self.webhooks = Sender(self._webhook, self.now) if self._webhook else None
        vendor = Limits()
        limits = Limits(file=file_limit or vendor.file, part=part_limit or vendor.part)
        process_s = self.processing_s if self._timing.processing_s is None else self._timing.processing_s
        self.files = Files(self.new_id, self.now, limits, process_s)
        self._models = Models(self.name, self.owner, ORGANIZATION)
        self._book = Book()
        self._looked: dict[tuple[str, str, str], Rows] = {}

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        out = {"OPENAI_BASE_URL": url + self.root, "OPENAI_API_KEY": KEY}
        return out | ({"OPENAI_WEBHOOK_SECRET": self._webhook.secret} if self._webhook else {})

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        jobs, job = "/fine_tuning/jobs", "/fine_tuning/jobs/{id}"
        table: list[Operation] = [
            *self.filing(),
            ("POST", jobs, "create", self._create, ()),
            ("GET", jobs, "list", self._list, ("after", "limit", "metadata")),
            ("GET", job, "retrieve", self._retrieve, ()),
            ("POST", job + "/cancel", "cancel", self._cancel, ()),
            ("POST", job + "/pause", "pause", self._pause, ()),
            ("POST", job + "/resume", "resume", self._resume, ()),
            ("GET", job + "/events", "events", self._events, ("after", "limit")),
            ("GET", job + "/checkpoints", "checkpoints", self._checkpoints, ("after", "limit")),
            ("GET", "/models", "models", lambda request: listing(self._models.list(), False), ()),
            ("GET", "/models/{id...}", "models", lambda request: self._models.get(unquote(request.parts["id"])), ()),
            ("DELETE", "/models/{id...}", "models", self._delete_model, ()),
            ("POST", "/chat/completions", "chat", self._chat, ()),
        ]
        return [self.route(*row) for row in table]

    def ledger(self) -> list[Entry]:
        """See `Sandbox.ledger`."""
        with self.lock:
            now = self.now()
            for job in self._book:
                job.look(now)
            return [
                Entry(
                    remote_id=job.id,
                    key=(job.order.metadata or {}).get(_RUN_KEY),
                    raw_state=self.state_of(job),
                    live=job.status != "cancelled",
                    paid=job.started,
                )
                for job in self._book
            ]

    def tick(self) -> None:
        """See `Sandbox.tick`: jobs end, and webhooks go out."""
        with self.lock:
            self._book.pass_time(self.now())
        if self.webhooks:
            self.webhooks.send()

    def job(self, job: Job) -> dict[str, Any]:
        """A job as it goes out."""
        asked = dict(job.hyperparameters)
        return {
            "object": "fine_tuning.job",
            "id": job.id,
            "model": job.order.model,
            "created_at": int(job.created),
            "finished_at": None if job.finished is None else int(job.finished),
            "fine_tuned_model": job.tuned if job.status == "succeeded" else None,
            "organization_id": ORGANIZATION,
            "result_files": list(job.result_files),
            "status": self.state_of(job),
            "validation_file": job.order.validation_file,
            "training_file": job.order.training_file,
            "hyperparameters": asked if job.order.method == "supervised" else {},
            "trained_tokens": job.tokens if job.status == "succeeded" else None,
            "error": job.error,
            "seed": job.order.seed,
            "estimated_finish": int(job.end) if job.status == "running" else None,
            "integrations": job.order.integrations,
            "metadata": dict(job.order.metadata) if job.order.metadata else None,
            "method": {"type": job.order.method, job.order.method: {"hyperparameters": asked}},
        }

    def state_of(self, job: Job) -> str:
        """The word for a job's state."""
        return job.status

    def tuned_name(self, job_id: str, snapshot: str, suffix: str | None) -> str:
        """What a tuned model is called."""
        return f"ft:{snapshot}:sandbox-org:{suffix or ''}:{self.new_id('')[:8]}"

    def filter_of(self, request: Request) -> dict[str, str] | None:
        """The metadata that a list is to be filtered by; see `openai_paging.metadata_filter`."""
        return metadata_filter(request.query)

    def answering(self, name: str) -> str:
        """The model that answers a chat for this name. Raises Refused."""
        return self._models.answering(name)

    def check_order(self, body: Mapping[str, Any]) -> None:
        """Refuse what a checked create cannot do. Raises Refused."""
        if self._closed_from and self.clock.now().date() >= self._closed_from:
            raise closed()
        if "quota" in (body.get("suffix") or ""):
            raise no_quota()

    def _create(self, request: Request) -> Any:
        body = self.json(request)
        fields(JOB_NEEDED, {**JOB, **self.job_fields})(body, "")
        method, hyperparameters = method_of(body)
        self.check_order(body)
        snapshot = self._models.tunable(body["model"], method)
        held_out = body.get("validation_file")
        seed = body.get("seed")
        order = Order(
            model=body["model"] if self._models.is_tuned(body["model"]) else snapshot,
            snapshot=snapshot,
            method=method,
            hyperparameters=hyperparameters,
            training_file=body["training_file"],
            validation_file=held_out,
            rows=self._rows(body["training_file"], method, "training", LEAST),
            held_out=self._rows(held_out, method, "validation", 1) if held_out is not None else None,
            suffix=body.get("suffix"),
            seed=self._chance.randint(0, MAX_SEED) if seed is None else seed,
            metadata=body.get("metadata"),
            integrations=body.get("integrations") or [],
        )
        return self.job(self._begin(order))

    def _begin(self, order: Order) -> Job:
        job_id = self.new_id("ftjob-")
        job = Job(
            id=job_id,
            number=len(self._book),
            order=order,
            created=self.now(),
            timing=self._timing,
            ids=self.ids,
            tuned=self.tuned_name(job_id, order.snapshot, order.suffix),
            ended=self._ended,
        )
        self._book.add(job)
        job.look(job.created)
        return job

    def _rows(self, file_id: str, method: str, side: str, least: int) -> Rows:
        param = f"{side}_file"
        try:
            file = self.files.get(file_id)
        except Refused:
            raise Refused(400, f"invalid {param}: {file_id}", code=f"invalid_{param}", param=param) from None
        self.usable(file, param)
        # A file never changes, and many jobs may train on one.
        known = self._looked.get((file_id, method, side))
        if known is None:
            known = self._looked[file_id, method, side] = look(file.content, method, file_id, side=side, least=least)
        return known

    def _ended(self, job: Job) -> None:
        if job.status == "succeeded":
            self._models.add(job.tuned, job.order.snapshot, int(job.finished or 0))
            content = base64.b64encode(result_csv(job))
            job.result_files.append(self.files.add("step_metrics.csv", "fine-tune-results", content).id)
        if self.webhooks and not self.faults.meet("webhook", ("webhook_lost",)):
            twice = self.faults.meet("webhook", ("webhook_twice",)) is not None
            event = {
                "object": "event",
                "id": self.new_id("evt_"),
                "type": f"fine_tuning.job.{job.status}",
                "created_at": int(job.finished or 0),
                "data": {"id": job.id},
            }
            self.webhooks.queue(self.new_id("wh_"), event, 2 if twice else 1)

    def _list(self, request: Request) -> Any:
        page, now = page_of(request.query, 20, 100), self.now()
        jobs, more = self._book.page(page, self.filter_of(request), now - self.faults.list_lag_s, now)
        return listing([self.job(job) for job in jobs], more)

    def _retrieve(self, request: Request) -> Any:
        shown = self.job(self._found(request))
        odd = self.faults.meet("retrieve", ("odd_state",))
        return {**shown, "status": _ODD} if odd else shown

    def _cancel(self, request: Request) -> Any:
        job = self._wished(request)
        if job.is_over:
            raise Refused(400, f"Job has already completed: {job.id}", code="invalid_request")
        job.cancel(self.now())
        return self.job(job)

    def _pause(self, request: Request) -> Any:
        job = self._wished(request)
        if job.status != "running":
            raise Refused(400, f"Job {job.id} cannot be paused: it is {job.status}", code="invalid_request")
        job.pause(self.now())
        return self.job(job)

    def _resume(self, request: Request) -> Any:
        job = self._wished(request)
        if not job.paused:
            raise Refused(400, f"Job {job.id} cannot be resumed: it is {job.status}", code="invalid_request")
        job.resume(self.now())
        self._book.watch(job)
        return self.job(job)

    def _events(self, request: Request) -> Any:
        page = page_of(request.query, 20, 1000)
        return listing(*self._found(request).log.page(page))

    def _checkpoints(self, request: Request) -> Any:
        page = page_of(request.query, 10, 100)
        return listing(*newest_first(self._found(request).checkpoints, page, "Could not find checkpoint"), ends=True)

    def _delete_model(self, request: Request) -> Any:
        name = unquote(request.parts["id"])
        self._models.delete(name)
        return {"id": name, "object": "model", "deleted": True}

    def _chat(self, request: Request) -> Any:
        body = self.json(request)
        chat.check(body)
        made = {"id": self.new_id("chatcmpl-"), "created": int(self.now())}
        return chat.completion(made, self.answering(body["model"]), body)

    def _found(self, request: Request) -> Job:
        return self._book.get(request.parts["id"], self.now())

    def _wished(self, request: Request) -> Job:
        NOTHING(self.json(request, empty=True), "")
        return self._found(request)
