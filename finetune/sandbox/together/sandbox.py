"""A stand-in for Together's files and fine-tuning, by its description of 2026-04 and its package 3.1.1 of 2026-11.

Where the two differ, the newer holds. How a job shall go badly is said anywhere in its training data:
`sandbox:fail-data`, `sandbox:fail-train` or `sandbox:quota`, or without `sandbox:` in its suffix. Tokens are estimated,
limits of models are the same for all and ours. A tuned model answers chats from a dedicated endpoint only
(`endpoints`), with its own name and what it was asked.
"""

import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from finetune.catalogue import load
from finetune.catalogue.sheets import Model
from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults
from finetune.sandbox.service import Entry, Reply, Request, Route, Sandbox
from finetune.sandbox.together import bodies
from finetune.sandbox.together.adapter import archive
from finetune.sandbox.together.cost import usd
from finetune.sandbox.together.endpoints import Endpoints
from finetune.sandbox.together.files import WISHES, Files, StoredFile, Wish
from finetune.sandbox.together.jobs import ENDED, RANK, Job, Size, Timing
from finetune.sandbox.together.words import answer, body, checked, no_such, refuse

#: The key that is known and may not tune.
_NO_ACCESS: Final = "sandbox-no-access"
_MAX_RANK: Final = 128
_MAX_BATCH: Final = 1024
_MAX_EPOCHS: Final = 100
_MAX_EVALS: Final = 100
_MAX_RATE, _MIN_RATE = 0.01, 1e-8
_KEPT: Final = 10_000

_Handler = Callable[[Request], Reply]


class TogetherSandbox(Sandbox):
    """Together."""

    name: ClassVar[str] = "together"

    def __init__(
        self, *, clock: SandboxClock | None = None, faults: Faults | None = None, timing: Timing | None = None
    ) -> None:
        super().__init__(clock=clock, faults=faults)
        self.timing = timing or Timing()
        self.files = Files(self.timing.validating_s)
        #: Operation and path of the newest requests.
        self.requests: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        #: In the order of their creation.
        self._jobs: dict[str, Job] = {}
        self._sheet = load().sheets[self.name]
        self.endpoints = Endpoints(self._tuned, self._now, frozenset(model.name for model in self._sheet.models))

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        files, file, parts, jobs = "/v1/files", "/v1/files/{file_id}", "/v1/files/multipart", "/v1/fine-tunes"
        job = f"{jobs}/{{job_id}}"
        table: list[tuple[str, str, str, _Handler, type[Any]]] = [
            ("POST", files, "upload", lambda request: self.files.tell(request, self._now()), bodies.NoQuery),
            ("GET", files, "list_files", lambda request: self.files.list(self._now()), bodies.NoQuery),
            ("POST", f"{parts}/initiate", "initiate", self._initiate, bodies.NoQuery),
            ("POST", f"{parts}/complete", "complete", self._complete, bodies.NoQuery),
            ("POST", f"{parts}/abort", "abort", self._abort, bodies.NoQuery),
            ("GET", file, "retrieve_file", lambda asked: self.files.retrieve(asked, self._now()), bodies.NoQuery),
            ("DELETE", file, "delete_file", self.files.delete, bodies.NoQuery),
            ("GET", f"{file}/content", "content", self.files.content, bodies.NoQuery),
            ("POST", f"{file}/preprocess", "preprocess", self._preprocess, bodies.NoQuery),
            ("POST", jobs, "create", self._create, bodies.NoQuery),
            ("GET", jobs, "list", self._list, bodies.NoQuery),
            ("POST", f"{jobs}/estimate-price", "estimate", self._estimate, bodies.NoQuery),
            ("GET", f"{jobs}/models/supported", "supported", self._supported, bodies.NoQuery),
            ("GET", f"{jobs}/models/limits", "limits", self._limits, bodies.LimitsQuery),
            ("GET", job, "retrieve", self._retrieve, bodies.NoQuery),
            ("DELETE", job, "delete", self._delete, bodies.DeleteQuery),
            ("POST", f"{job}/cancel", "cancel", self._cancel, bodies.NoQuery),
            ("GET", f"{job}/events", "events", self._events, bodies.NoQuery),
            ("GET", f"{job}/checkpoints", "checkpoints", self._checkpoints, bodies.NoQuery),
            ("GET", f"{job}/metrics", "metrics", self._metrics, bodies.MetricsQuery),
            ("GET", "/v1/finetune/download", "download", self._download, bodies.DownloadQuery),
            *self.endpoints.table(),
        ]
        routes = [
            Route(method=method, path=path, operation=operation, answer=self._kept(operation, handler, query))
            for method, path, operation, handler, query in table
        ]
        # Its query is the signature.
        storage = Route(method="PUT", path="/storage/{place}", operation="put", answer=self.files.put)
        return [*routes, storage]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {"TOGETHER_BASE_URL": url, "TOGETHER_API_KEY": "sandbox-key"}

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`."""
        return answer(status, message, **more)

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`. The storage is another host, whose addresses are permissions."""
        if request.path.startswith("/storage/"):
            return None
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key.startswith("sandbox"):
            return self.refused(401, "Invalid API key provided.", code="invalid_api_key")
        if key == _NO_ACCESS:
            return self.refused(403, "You do not have permission to perform this action.")
        return None

    def ledger(self) -> list[Entry]:
        """See `Sandbox.ledger`. A create is what costs."""
        with self.lock:
            now = self._now()
            return [_entry(job, now) for job in self._jobs.values()]

    def _kept(self, operation: str, handler: _Handler, query: type[Any]) -> _Handler:
        def handle(request: Request) -> Reply:
            self.requests.append((operation, request.path))
            asked = {name: values[-1] for name, values in request.query.items()}
            checked(query, asked)
            return handler(request)

        return handle

    def _now(self) -> float:
        return self.clock.now().timestamp()

    # Files.

    def _initiate(self, request: Request) -> Reply:
        return self.files.initiate(body(request.body), request, self._now())

    def _complete(self, request: Request) -> Reply:
        return self.files.complete(body(request.body), self._now())

    def _abort(self, request: Request) -> Reply:
        asked = checked(bodies.Abort, body(request.body))
        return self.files.abort(asked.file_id, asked.upload_id)

    def _preprocess(self, request: Request) -> Reply:
        return self.files.preprocess(request, self._now())

    # Jobs.

    def _create(self, request: Request) -> Reply:
        asked = checked(bodies.JobIn, body(request.body))
        model, size, files = self._ordered(asked)
        self._check(asked, model)
        ends = _badly(asked.suffix, files)
        if ends == "quota":
            raise refuse(402, "You have reached your spending limit. Please add credit to your account.")
        job = Job(id=f"ft-{uuid.uuid4()}", asked=asked, size=size, created=self._now(), timing=self.timing, fails=ends)
        self._jobs[job.id] = job
        return Reply(body=job.short(self._now()))

    def _ordered(self, asked: bodies.Priced) -> tuple[Model, Size, list[StoredFile]]:
        """The model and how much there is to do. Raises Refusal when the model or a file is none."""
        model = self._sheet.model(asked.model or "")
        method = asked.training_method.method
        claim = model.methods.of(method) if model else None
        if model is None or claim is None or not claim.value or asked.from_checkpoint:
            raise refuse(400, f"Model {asked.model} is not supported for {method} fine-tuning.", param="model")
        training = self._tunable(asked.training_file, "training_file", method)
        held_out = self._tunable(asked.validation_file, "validation_file", method) if asked.validation_file else None
        size = Size(
            rows=max(1, training.rows.count if training.rows else 0),
            tokens=training.rows.tokens if training.rows else 0,
            held_out_tokens=held_out.rows.tokens if held_out and held_out.rows else 0,
            parameters=model.parameters.value if model.parameters else None,
        )
        return model, size, [training, *([held_out] if held_out else [])]

    def _tunable(self, file_id: str, field: str, method: str) -> StoredFile:
        file = self.files.get(file_id)
        if file is None or file.told.purpose != "fine-tune":
            raise refuse(400, f"{field}: file {file_id} is not there, or is not for fine-tuning", param=field)
        found = file.rows.format if file.rows else None
        if found and (found == "PREFERENCE_OPENAI") is not (method == "dpo"):
            raise refuse(400, f"{field}: the dataset format {found} does not fit {method}", param=field)
        return file

    def _check(self, asked: bodies.JobIn, model: Model) -> None:
        """What the limits of models allow. Raises Refusal."""
        kind, batch = asked.training_type, asked.batch_size
        wrong = {
            "n_epochs": asked.n_epochs > _MAX_EPOCHS,
            "n_evals": asked.n_evals > _MAX_EVALS,
            "batch_size": isinstance(batch, int) and not 1 <= batch <= _MAX_BATCH,
            "learning_rate": not _MIN_RATE <= asked.learning_rate <= _MAX_RATE,
            "training_type.lora_r": isinstance(kind, bodies.Lora) and kind.lora_r > _MAX_RANK,
            "early_stopping_enabled": bool(asked.early_stopping_enabled) and not asked.validation_file,
        }
        for field, is_wrong in wrong.items():
            if is_wrong:
                raise refuse(400, f"{field}: out of the limits of {model.name}", param=field)

    def _estimate(self, request: Request) -> Reply:
        asked = checked(bodies.Priced, body(request.body))
        _, size, files = self._ordered(asked)
        for side, file in zip(("train", "eval"), files, strict=False):
            state = self.files.state(file, self._now())
            if state != "COMPLETED":
                reason = f"{side}_file_{'invalid' if state == 'INVALID_FORMAT' else 'not_validated'}"
                return Reply(body={"estimation_available": False, "unavailable_reason": reason})
        trained, evaluated = asked.n_epochs * size.tokens, asked.n_evals * size.held_out_tokens
        price = usd(trained + evaluated, asked.training_method.method, size.parameters)
        return Reply(
            body={
                "estimation_available": True,
                "estimated_total_price": float(price),
                "allowed_to_proceed": _badly(None, files) != "quota",
                "user_limit": 100.0,
                "estimated_train_token_count": trained,
                "estimated_eval_token_count": evaluated,
            }
        )

    def _supported(self, request: Request) -> Reply:
        return Reply(body={"models": [model.name for model in self._sheet.models]})

    def _limits(self, request: Request) -> Reply:
        name = request.one("model_name") or ""
        if self._sheet.model(name) is None:
            return Reply(status=404, body={"message": f"Model {name} is not available for fine-tuning."})
        batches = {"max_batch_size": _MAX_BATCH, "max_batch_size_dpo": _MAX_BATCH, "min_batch_size": 1}
        lora = {**batches, "max_rank": _MAX_RANK, "default_rank": RANK, "target_modules": ["q_proj", "v_proj"]}
        told = {"max_num_epochs": _MAX_EPOCHS, "max_num_evals": _MAX_EVALS, "max_num_checkpoints": 20}
        rates = {"max_learning_rate": _MAX_RATE, "min_learning_rate": _MIN_RATE}
        sees = dict.fromkeys(("supports_vision", "supports_reasoning", "supports_full_training"), False)
        lengths = {"max_seq_length_sft": 131_072, "max_seq_length_dpo": 131_072, "min_max_seq_length": 1024}
        more = {"supports_tools": True, "merge_output_lora": True, "default_gradient_accumulation_steps": 1}
        return Reply(body={"model_name": name, "lora_training": lora, **told, **rates, **sees, **lengths, **more})

    def _list(self, request: Request) -> Reply:
        """All jobs, newest first. With a lag the youngest are missing."""
        now, lag_s = self._now(), self.faults.list_lag_s
        jobs = (job for job in self._jobs.values() if not job.deleted)
        seen = [job for job in jobs if not lag_s or job.created <= now - lag_s]
        return Reply(body={"data": [job.short(now) for job in reversed(seen)]})

    def _retrieve(self, request: Request) -> Reply:
        told = self._named(request).detailed(self._now())
        if self.faults.meet("retrieve", ("odd_state",)):
            told["status"] = "rebalancing"
        return Reply(body=told)

    def _delete(self, request: Request) -> Reply:
        job = self._named(request)
        if job.status(self._now()) not in ENDED:
            raise refuse(400, "The job must end before it can be deleted.")
        job.deleted = True
        return Reply(body={"message": f"Deleted {job.id}"})

    def _cancel(self, request: Request) -> Reply:
        job, now = self._named(request), self._now()
        status = job.status(now)
        if status in ENDED:
            raise refuse(400, f"The job cannot be cancelled: it is {status}.")
        if job.cancelled is None:
            job.cancelled = now
        return Reply(body=job.short(self._now()))

    def _events(self, request: Request) -> Reply:
        return Reply(body={"data": self._named(request).events(self._now())})

    def _checkpoints(self, request: Request) -> Reply:
        job, now = self._named(request), self._now()
        if job.status(now) != "completed":
            return Reply(body={"data": []})
        made = job.timeline(now)[-1][0]
        told = {"step": job.steps, "created_at": str(int(made)), "path": f"s3://sandbox/{job.id}"}
        return Reply(body={"data": [{**told, "checkpoint_type": "Final Adapter", "checkpoint": "adapter"}]})

    def _metrics(self, request: Request) -> Reply:
        job, now = self._named(request), self._now()
        first, last = (request.one(f"global_step_{end}") for end in ("from", "to"))
        rows = [
            row
            for row in job.metrics(now)
            if (first is None or row["train/global_step"] >= int(first))
            and (last is None or row["train/global_step"] <= int(last))
        ]
        return Reply(body={"metrics": rows})

    def _download(self, request: Request) -> Reply:
        job = self._there(request.one("ft_id") or "")
        if job.status(self._now()) != "completed":
            raise refuse(400, "Training job is not downloadable: it is not in a completed state.")
        kind = job.training_type
        if request.one("checkpoint") != "adapter" or kind["type"] != "Lora":
            raise refuse(400, "checkpoint: the sandbox has adapters only", param="checkpoint")
        name = job.output.rpartition("/")[2]
        return archive(name, str(job.asked.model), int(kind["lora_r"]), int(kind["lora_alpha"]))

    def _tuned(self, known: str) -> str | None:
        """The name of the model that has this id in the registry."""
        now = self._now()
        found = (job for job in self._jobs.values() if job.registered == known and job.status(now) == "completed")
        return next((job.output for job in found), None)

    def _named(self, request: Request) -> Job:
        return self._there(request.parts["job_id"])

    def _there(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.deleted:
            raise no_such("Fine-tune job")
        return job


def _badly(suffix: str | None, files: Sequence[StoredFile]) -> Wish | None:
    return next((word for word in WISHES if word in (suffix or "") or any(word in each.wishes for each in files)), None)


def _entry(job: Job, now: float) -> Entry:
    status = job.status(now)
    return Entry(
        remote_id=job.id,
        key=job.asked.suffix,
        raw_state=status,
        live=status not in ("cancelled", "cancel_requested"),
        paid=True,
    )
