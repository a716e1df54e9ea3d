"""A stand-in for Fireworks' datasets, supervised and preference fine-tuning, the weights that they leave, deployments
of these and what they answer: each its model's name and what it was asked, as no model is there.

No description of its API is published, so it is written from the types of the vendor's package (fireworks-ai 1.2) and
its pages. Where nothing is said the stricter reading holds: a list lag hides a young job from a look by its id too, a
data set must be READY before a job takes it, and a name that is taken stays taken. How a job shall go badly is said
anywhere in its training data: `sandbox:fail-data`, `sandbox:fail-train` or `sandbox:quota`, or without `sandbox:` in
its display name.
"""

import json
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ValidationError

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults
from finetune.sandbox.fireworks.bodies import CreateDpo, CreateSft, Empty, Id, ModelsPage, Page, Training
from finetune.sandbox.fireworks.chat import ChatIn, completion, refusal
from finetune.sandbox.fireworks.datasets import WISHES, Dataset, Datasets
from finetune.sandbox.fireworks.deployments import Deployments
from finetune.sandbox.fireworks.jobs import ENDED, Job, Timing
from finetune.sandbox.fireworks.signed import PLACE, Signed
from finetune.sandbox.fireworks.times import moment
from finetune.sandbox.fireworks.weights import BASES, RANK, files
from finetune.sandbox.fireworks.words import answer, checked, no_such, refuse
from finetune.sandbox.service import Entry, Reply, Request, Route, Sandbox

ACCOUNT: Final = "sandbox"
#: The key that is known and may not tune.
_NO_ACCESS: Final = "sandbox-no-access"
#: Collections of jobs: the body of a create, the query's name for a chosen id, and what each trains on.
_KINDS: Final[Mapping[str, tuple[type[CreateSft] | type[CreateDpo], str, str]]] = {
    "supervisedFineTuningJobs": (CreateSft, "supervisedFineTuningJobId", "chat"),
    "dpoJobs": (CreateDpo, "dpoJobId", "preference"),
}
_KEPT: Final = 10_000
#: Operations that have parameters.
_ASKED: Final = frozenset({"create", "list", "list_datasets", "deploy", "deployments", "undeploy", "models"})
#: Those that look at what the vendor itself has, too.
_LIBRARY: Final = frozenset({"retrieve_model", "models"})

_Handler = Callable[[Request, Any, float], Reply]


class _Chosen(BaseModel):
    id: Id


class FireworksSandbox(Sandbox):
    """Fireworks."""

    name: ClassVar[str] = "fireworks"

    def __init__(
        self, *, clock: SandboxClock | None = None, faults: Faults | None = None, timing: Timing | None = None
    ) -> None:
        super().__init__(clock=clock, faults=faults)
        self.timing = timing or Timing()
        self.signed = Signed(self._now)
        self.datasets = Datasets(ACCOUNT, self.signed, checking_s=self.timing.checking_s)
        self.deployments = Deployments(ACCOUNT, self._is_model, self._now)
        #: Bases that are served to all: they answer without a deployment.
        self.serverless = set(BASES)
        #: Operation and path of the newest requests.
        self.requests: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        #: By whole name, in the order of their creation.
        self._jobs: dict[str, Job] = {}

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        account = "/v1/accounts/{account}"
        datasets, dataset = f"{account}/datasets", f"{account}/datasets/{{dataset}}"
        model = f"{account}/models/{{model}}"
        table: list[tuple[str, str, str, _Handler]] = [
            ("GET", account, "account", self._account),
            ("POST", datasets, "create_dataset", self.datasets.create),
            (
                "GET",
                datasets,
                "list_datasets",
                lambda request, body, now: self.datasets.list(request, _page(request), now),
            ),
            ("GET", dataset, "retrieve_dataset", self.datasets.retrieve),
            ("DELETE", dataset, "delete_dataset", self.datasets.delete),
            ("POST", f"{dataset}:getUploadEndpoint", "upload_endpoint", self.datasets.endpoint),
            ("POST", f"{dataset}:validateUpload", "validate", self.datasets.validate),
            ("GET", f"{account}/models", "models", self._models),
            ("GET", model, "retrieve_model", self._model),
            ("GET", f"{model}:getDownloadEndpoint", "download_endpoint", self._weights),
            *self._hosting(f"{account}/deployments"),
        ]
        for kind in _KINDS:
            jobs, job = f"{account}/{kind}", f"{account}/{kind}/{{job}}"
            table += [
                ("POST", jobs, "create", self._of(kind, self._create)),
                ("GET", jobs, "list", self._of(kind, self._list)),
                ("GET", job, "retrieve", self._of(kind, self._retrieve)),
                ("POST", f"{job}:cancel", "cancel", self._of(kind, self._cancel)),
            ]
        table.append(("GET", f"{account}/dpoJobs/{{job}}:getMetricsFileEndpoint", "metrics_endpoint", self._metrics))
        routes = [
            Route(method=method, path=path, operation=operation, answer=self._kept(operation, handler))
            for method, path, operation, handler in table
        ]
        chat = Route(method="POST", path="/inference/v1/chat/completions", operation="chat", answer=self._chat)
        routes.append(chat)
        stored = f"{PLACE}{{token}}"
        routes.append(Route(method="PUT", path=stored, operation="upload", answer=self.signed.put))
        return [*routes, Route(method="GET", path=stored, operation="content", answer=self.signed.get)]

    def _hosting(self, all_of_them: str) -> "list[tuple[str, str, str, _Handler]]":
        kept, one = self.deployments, f"{all_of_them}/{{deployment}}"
        return [
            ("POST", all_of_them, "deploy", kept.create),
            ("GET", all_of_them, "deployments", lambda request, body, now: kept.list(request, _page(request), now)),
            ("GET", one, "deployment", kept.retrieve),
            ("DELETE", one, "undeploy", kept.delete),
        ]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {"FIREWORKS_BASE_URL": url, "FIREWORKS_API_KEY": "sandbox-key", "FIREWORKS_ACCOUNT_ID": ACCOUNT}

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`."""
        return answer(status, message, **more)

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`. A signed address is its own credential."""
        if request.path.startswith(PLACE):
            return None
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not key.startswith("sandbox"):
            return self.refused(401, "The API key you provided is invalid.")
        if key == _NO_ACCESS:
            return self.refused(403, "The API key may not be used for this operation.")
        return None

    def ledger(self) -> list[Entry]:
        """See `Sandbox.ledger`. A job's key is its id."""
        with self.lock:
            now = self._now()
            return [_entry(job, now) for job in self._jobs.values()]

    def _now(self) -> float:
        return self.clock.now().timestamp()

    def _kept(self, operation: str, handler: _Handler) -> Callable[[Request], Reply]:
        def handle(request: Request) -> Reply:
            self.requests.append((operation, request.path))
            account = request.parts["account"]
            if account != ACCOUNT and not (operation in _LIBRARY and account == "fireworks"):
                raise refuse("PERMISSION_DENIED", f"no access to accounts/{account}")
            if request.query and operation not in _ASKED:
                raise refuse("INVALID_ARGUMENT", f"unknown query parameter {next(iter(request.query))}")
            return handler(request, _json(request), self._now())

        return handle

    def _of(self, kind: str, handler: Callable[[str, Request, Any], Reply]) -> _Handler:
        return lambda request, body, now: handler(kind, request, body)

    def _account(self, request: Request, body: Any, now: float) -> Reply:
        told: dict[str, Any] = {
            "name": f"accounts/{ACCOUNT}",
            "email": "sandbox@example.com",
            "suspendState": "UNSUSPENDED",
        }
        return Reply(body={**told, "displayName": "Sandbox", "state": "READY", "status": {"code": "OK", "message": ""}})

    def _create(self, kind: str, request: Request, body: Any) -> Reply:
        now, (form, parameter, rows) = self._now(), _KINDS[kind]
        if unknown := set(request.query) - {parameter}:
            raise refuse("INVALID_ARGUMENT", f"unknown query parameter {min(unknown)}")
        chosen = checked(_Chosen, {"id": request.one(parameter) or f"j{uuid.uuid4().hex[:15]}"}).id
        asked: CreateSft | CreateDpo = checked(form, body)
        name = f"accounts/{ACCOUNT}/{kind}/{chosen}"
        if name in self._jobs:
            raise refuse("ALREADY_EXISTS", f"{name} already exists")
        numbers = asked.trainingConfig if isinstance(asked, CreateDpo) else asked
        dataset = self._trainable(asked.dataset, rows, now)
        if isinstance(asked, CreateSft) and asked.evaluationDataset is not None:
            self._trainable(asked.evaluationDataset, rows, now)
        self._check_base(numbers)
        ends = next((word for word in WISHES if word in asked.displayName or word in dataset.wishes), None)
        if ends == "quota":
            raise refuse("RESOURCE_EXHAUSTED", "The monthly spend limit of this account is exceeded.")
        assert dataset.rows is not None
        self._jobs[name] = Job(
            name=name,
            asked=asked,
            rows=dataset.rows,
            model=self._model_name(numbers.outputModel or chosen),
            created=now,
            timing=self.timing,
            fails=ends,
        )
        return Reply(body=self._shown(self._jobs[name], request, now))

    def _trainable(self, name: str, rows: str, now: float) -> Dataset:
        dataset = self.datasets.get(name)
        if dataset is None:
            raise refuse("INVALID_ARGUMENT", f"dataset {name} not found")
        if dataset.state(now) != "READY" or dataset.rows is None:
            raise refuse("FAILED_PRECONDITION", f"dataset {name} is not READY")
        if dataset.rows.kind != rows:
            raise refuse("INVALID_ARGUMENT", f"dataset {name} has rows of another kind: {dataset.rows.kind}")
        return dataset

    def _check_base(self, numbers: Training) -> None:
        if numbers.baseModel is not None and numbers.baseModel not in BASES:
            raise refuse("INVALID_ARGUMENT", f"model {numbers.baseModel} not found, or not tunable")
        if numbers.warmStartFrom is None:
            return
        if not any(
            job.model == numbers.warmStartFrom and _has_trained(job, self._now()) for job in self._jobs.values()
        ):
            raise refuse("INVALID_ARGUMENT", f"model {numbers.warmStartFrom} not found")

    def _model_name(self, wanted: str) -> str:
        """The whole name of the model that a job leaves. Raises Refusal when it is taken."""
        prefix = f"accounts/{ACCOUNT}/models/"
        name = prefix + checked(_Chosen, {"id": wanted.removeprefix(prefix)}).id
        if any(job.model == name for job in self._jobs.values()):
            raise refuse("ALREADY_EXISTS", f"{name} already exists")
        return name

    def _list(self, kind: str, request: Request, body: Any) -> Reply:
        now = self._now()
        rows = [self._shown(job, request, now) for name, job in sorted(self._jobs.items()) if f"/{kind}/" in name]
        return Reply(body=_page(request).of(rows, kind))

    def _retrieve(self, kind: str, request: Request, body: Any) -> Reply:
        told = self._shown(self._named(kind, request), request, self._now())
        if self.faults.meet("retrieve", ("odd_state",)):
            told["state"] = "JOB_STATE_REBALANCING"
        return Reply(body=told)

    def _cancel(self, kind: str, request: Request, body: Any) -> Reply:
        checked(Empty, body)
        job, now = self._named(kind, request), self._now()
        if job.state(now) in ENDED:
            raise refuse("FAILED_PRECONDITION", f"{job.name} is {job.state(now)}")
        if job.cancelled is None:
            job.cancelled = now
        return Reply(body={})

    def _metrics(self, request: Request, body: Any, now: float) -> Reply:
        job = self._named("dpoJobs", request)
        if now < job.running:
            raise no_such(f"the metrics file of {job.name}")
        return Reply(body={"signedUrl": self._metrics_at(job, request)})

    def _shown(self, job: Job, request: Request, now: float) -> dict[str, Any]:
        return job.json(now, self._metrics_at(job, request))

    def _metrics_at(self, job: Job, request: Request) -> str:
        return self.signed.to_get(request.base, lambda: job.metrics(self._now()))

    def _model(self, request: Request, body: Any, now: float) -> Reply:
        name = f"accounts/{request.parts['account']}/models/{request.parts['model']}"
        told: dict[str, Any]
        if name in BASES:
            return Reply(body=self._base(name))
        job = self._trained(request, now)
        peft = {"baseModel": job.training.baseModel, "r": job.training.loraRank or RANK, "targetModules": ["q_proj"]}
        told = {"name": name, "kind": "HF_PEFT_ADDON", "state": "READY", "status": {"code": "OK", "message": ""}}
        made = moment(job.timeline(now)[-1][0])
        return Reply(body={**told, "createTime": made, "peftDetails": peft, "fineTuningJob": job.name, "public": False})

    def _models(self, request: Request, body: Any, now: float) -> Reply:
        """Of the vendor's library; those of the account are not listed here."""
        page: ModelsPage = checked(ModelsPage, {name: values[-1] for name, values in request.query.items()})
        names = sorted(BASES) if request.parts["account"] == "fireworks" else []
        rows = [self._base(name) for name in names if not page.filter or name in self.serverless]
        return Reply(body=page.of(rows, "models"))

    def _base(self, name: str) -> dict[str, Any]:
        told = {"name": name, "kind": "HF_BASE_MODEL", "state": "READY", "huggingFaceUrl": BASES[name]}
        return {**told, "public": True, "supportsLora": True, "supportsServerless": name in self.serverless}

    def _weights(self, request: Request, body: Any, now: float) -> Reply:
        job = self._trained(request, now)
        kept, folder = files(job), job.model.rpartition("/")[2]
        urls = {f"{folder}/{name}": self._stored(request, content) for name, content in kept.items()}
        return Reply(body={"filenameToSignedUrls": urls})

    def _stored(self, request: Request, content: bytes) -> str:
        return self.signed.to_get(request.base, lambda: content)

    def _trained(self, request: Request, now: float) -> Job:
        name = f"accounts/{request.parts['account']}/models/{request.parts['model']}"
        for job in self._jobs.values():
            if job.model == name and _has_trained(job, now):
                return job
        raise no_such(name)

    def _is_model(self, name: str) -> bool:
        return name in BASES or any(job.model == name and _has_trained(job, self._now()) for job in self._jobs.values())

    def _chat(self, request: Request) -> Reply:
        """Those bases answer without a deployment that are served to all (`serverless`)."""
        self.requests.append(("chat", request.path))
        try:
            asked = ChatIn.model_validate_json(request.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise refusal(400, "INVALID_ARGUMENT", f"{first['loc']}: {first['msg']}") from None
        model = asked.model if asked.model in self.serverless else self.deployments.answering(asked.model)
        if model is None:
            raise refusal(404, "NOT_FOUND", "Model not found, inaccessible, and/or not deployed")
        return completion(f"chatcmpl-{uuid.uuid4().hex}", self._now(), asked, model)

    def _named(self, kind: str, request: Request) -> Job:
        name = f"accounts/{ACCOUNT}/{kind}/{request.parts['job']}"
        job = self._jobs.get(name)
        if job is None or self._now() - job.created < self.faults.list_lag_s:
            raise no_such(name)
        return job


def _has_trained(job: Job, now: float) -> bool:
    return job.state(now) == "JOB_STATE_COMPLETED"


def _page(request: Request) -> Page:
    return checked(Page, {name: values[-1] for name, values in request.query.items()})


def _json(request: Request) -> Any:
    if request.method != "POST":
        return None
    try:
        return json.loads(request.body)
    except ValueError:
        raise refuse("INVALID_ARGUMENT", "the body is no JSON") from None


def _entry(job: Job, now: float) -> Entry:
    state = job.state(now)
    gone = state in ("JOB_STATE_CANCELLED", "JOB_STATE_CANCELLING")
    return Entry(remote_id=job.name, key=job.name.rpartition("/")[2], raw_state=state, live=not gone, paid=True)
