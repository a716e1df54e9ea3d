"""Vertex AI's tuning service and the Cloud Storage beside it, on one port.

After Google's published description of v1beta1 (revision 20261106). What it does not say is written where it is
guessed: the regions, the pages of a list, when a missing dataset is refused.
"""

import itertools
import re
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults
from finetune.sandbox.service import Entry, Reply, Request, Route, Sandbox
from finetune.sandbox.vertex import bodies, checks
from finetune.sandbox.vertex.gcs import Storage
from finetune.sandbox.vertex.jobs import Job, Timing
from finetune.sandbox.vertex.rows import Dataset, mismatched, read
from finetune.sandbox.vertex.words import google_error, google_refusal, invalid, reason

PROJECT: Final = "sandbox-project"
BUCKET: Final = "sandbox-bucket"
LOCATION: Final = "us-central1"
#: Where ft puts its run key; other clients' jobs have none.
RUN_KEY: Final = "ft-run-key"
#: Names of resources carry the number of the project, whatever the request called it.
_NUMBER: Final = "271828182845"
_KEY: Final = "sandbox-key"
_NO_ACCESS: Final = "sandbox-no-access"
_VERSIONS: Final = ("v1", "v1beta1")
_PAGE: Final = 100
_TERM: Final = re.compile(r'labels\.([\w-]+)\s*(=|:)\s*("[^"]*"|[\w*-]+)')
#: Datasets that were read and are remembered.
_REMEMBERED: Final = 200
_STORAGE: Final = ("/storage/", "/upload/storage/", "/download/storage/")


class VertexSandbox(Sandbox):
    """One project with one bucket. Jobs go through every phase of v1beta1 in `timing`."""

    name: ClassVar[str] = "vertex"

    def __init__(
        self,
        *,
        clock: SandboxClock | None = None,
        faults: Faults | None = None,
        timing: Timing | None = None,
        open_models: Sequence[str] = checks.OPEN_MODELS,
    ) -> None:
        """`open_models` are taken beside those of the catalogue."""
        super().__init__(clock=clock, faults=faults)
        self.timing = timing or Timing()
        self.storage = Storage(self.clock, (BUCKET,))
        self.models = checks.Models(open_models)
        #: Method and path of the last requests.
        self.requests: deque[tuple[str, str]] = deque(maxlen=1000)
        self._jobs: list[Job] = []
        self._by_id: dict[str, Job] = {}
        #: Places in `_jobs` by location, and by location and label.
        self._in: dict[str, list[int]] = {}
        self._labelled: dict[tuple[str, str, str], list[int]] = {}
        self._read: dict[tuple[str, str, int, str], Dataset] = {}

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`: `create`, `list`, `retrieve`, `cancel`, and those of the storage."""
        jobs = "/{version}/projects/{project}/locations/{location}/tuningJobs"
        return [
            Route(method="POST", path=jobs, operation="create", answer=self._create),
            Route(method="GET", path=jobs, operation="list", answer=self._list),
            Route(method="GET", path=jobs + "/{job}", operation="retrieve", answer=self._retrieve),
            Route(method="POST", path=jobs + "/{job}:cancel", operation="cancel", answer=self._cancel),
            *self.storage.routes(),
        ]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {
            "GOOGLE_VERTEX_BASE_URL": url,
            "STORAGE_EMULATOR_HOST": url,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "GOOGLE_CLOUD_LOCATION": LOCATION,
            "FT_VERTEX_BUCKET": BUCKET,
            "CLOUDSDK_AUTH_ACCESS_TOKEN": _KEY,
        }

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`: `name` of the status, `details`."""
        return google_error(status, message, **more)

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`. The storage also answers who says no name, as emulators of it do."""
        self.requests.append((request.method, request.path))
        if "upload_id=" in request.query_text:
            # Whoever has the address of an upload may go on with it.
            return None
        said = request.headers.get("authorization", "")
        if not said and request.path.startswith(_STORAGE):
            return None
        if not said:
            told = reason("CREDENTIALS_MISSING", service="aiplatform.googleapis.com")
            return google_error(401, "the request has no access token", details=told)
        scheme, _, token = said.partition(" ")
        if scheme == "Bearer" and token == _NO_ACCESS:
            told = reason("IAM_PERMISSION_DENIED", permission="aiplatform.tuningJobs.create")
            return google_error(403, f"permission denied on resource project {PROJECT}", details=told)
        if scheme != "Bearer" or not token.startswith("sandbox"):
            told = reason("ACCESS_TOKEN_TYPE_UNSUPPORTED", service="aiplatform.googleapis.com")
            return google_error(401, "the access token is not valid", details=told)
        return None

    def ledger(self) -> list[Entry]:
        """See `Sandbox.ledger`. A job costs from its creation on."""
        with self.lock:
            return [self._entry(job) for job in self._jobs]

    def _entry(self, job: Job) -> Entry:
        state = job.at(self.clock.now()).state
        key = job.said.get("labels", {}).get(RUN_KEY)
        return Entry(remote_id=job.name, key=key, raw_state=state, live=job.cancelled_at is None, paid=True)

    def _create(self, request: Request) -> Reply:
        location = self._location(request)
        asked = bodies.read(request.body)
        spec, method = checks.check(asked, self.models, location, self.clock.now().date())
        self._output(asked)
        train, bad = self._data(asked, spec, method)
        display = asked.tuned_model_display_name or ""
        if "quota" in display:
            told = reason("RESOURCE_QUOTA_EXCEEDED", quota_metric="aiplatform.googleapis.com/concurrent_tuning_jobs")
            raise google_refusal(429, "quota exceeded for concurrent tuning jobs of this project", details=told)
        if "fail-data" in display:
            bad = bad or "line 1: an example that the service cannot use"
        hyper = spec.hyper_parameters
        job = Job(
            number=len(self._jobs),
            job_id=str(4_000_000_000_000_000_000 + len(self._jobs) * 7_919),
            parent=f"projects/{_NUMBER}/locations/{location}",
            said=bodies.echoed(asked),
            created_at=self.clock.now(),
            timing=self.timing,
            train=train,
            batch=getattr(hyper, "batch_size", None),
            epochs=hyper.epoch_count if hyper else None,
            method=method,
            bad_data=bad,
            breaks="fail-train" in display,
            last_checkpoint_only=bool(spec.export_last_checkpoint_only),
        )
        self._keep(job, location)
        return Reply(body=self._told(job, request))

    def _keep(self, job: Job, location: str) -> None:
        self._jobs.append(job)
        self._by_id[job.job_id] = job
        self._in.setdefault(location, []).append(job.number)
        for key, value in job.said.get("labels", {}).items():
            self._labelled.setdefault((location, key, value), []).append(job.number)

    def _list(self, request: Request) -> Reply:
        """Newest first. A page's token is the place where it goes on, so new jobs shift nothing."""
        location = self._location(request)
        checks.parameters(request, {"pageSize", "pageToken", "filter"})
        size = min(checks.whole(request, "pageSize", _PAGE), _PAGE) or _PAGE
        places = self._matching(location, request.one("filter") or "")
        token = checks.whole(request, "pageToken", len(places))
        begin = min(token, len(places))
        lag_s, now = self.faults.list_lag_s, self.clock.now()
        page: list[dict[str, Any]] = []
        while begin > 0 and len(page) < size:
            begin -= 1
            job = self._jobs[places[begin]]
            if not lag_s or (now - job.created_at).total_seconds() >= lag_s:
                page.append(self._told(job, request))
        body: dict[str, Any] = {"tuningJobs": page} if page else {}
        return Reply(body={**body, "nextPageToken": str(begin)} if begin else body)

    def _matching(self, location: str, wanted: str) -> Sequence[int]:
        """Places of the jobs that have all these labels (`labels.key=value`, `labels.key:*`), joined by AND."""
        terms = [term.strip() for term in re.split(r"\s+AND\s+", wanted)] if wanted.strip() else []
        found: set[int] | None = None
        for term in terms:
            match = _TERM.fullmatch(term)
            if match is None:
                raise invalid("filter", f"{term!r} is neither labels.key=value nor labels.key:*")
            key, value = match[1], match[3].strip('"')
            if (match[2], value) == (":", "*"):
                labelled = (each for at, each in self._labelled.items() if at[:2] == (location, key))
                places = set(itertools.chain.from_iterable(labelled))
            else:
                places = set(self._labelled.get((location, key, value), ()))
            found = places if found is None else found & places
        return self._in.get(location, []) if found is None else sorted(found)

    def _retrieve(self, request: Request) -> Reply:
        told = self._told(self._job(request), request)
        if self.faults.meet("retrieve", ("odd_state",)):
            told["state"] = "JOB_STATE_DREAMING"
            told["tuningJobState"] = "TUNING_JOB_STATE_COUNTING_SHEEP"
        return Reply(body=told)

    def _cancel(self, request: Request) -> Reply:
        job, now = self._job(request), self.clock.now()
        if request.body.strip() not in (b"", b"{}"):
            raise google_refusal(400, "a cancel has no fields")
        if job.ended(now):
            state = job.at(now).state
            raise google_refusal(400, f"the job has ended as {state}", name="FAILED_PRECONDITION")
        job.cancel(now)
        return Reply(body={})

    def _job(self, request: Request) -> Job:
        location = self._location(request)
        job = self._by_id.get(request.parts["job"])
        if job is None or not job.parent.endswith(f"/{location}"):
            raise google_refusal(404, f"there is no tuning job {request.parts['job']} in {location}")
        return job

    def _told(self, job: Job, request: Request) -> dict[str, Any]:
        return job.told(self.clock.now(), beta=request.parts["version"] == "v1beta1")

    def _location(self, request: Request) -> str:
        """The location of the path, in a version and a project that there are. Raises Refusal."""
        if request.parts["version"] not in _VERSIONS:
            raise google_refusal(404, f"there is no version {request.parts['version']}")
        if request.parts["project"] not in (PROJECT, _NUMBER):
            told = reason("IAM_PERMISSION_DENIED", permission="aiplatform.tuningJobs.list")
            raise google_refusal(403, "permission denied on the project, or it does not exist", details=told)
        location = request.parts["location"]
        if location not in checks.REGIONS:
            raise google_refusal(404, f"the location {location} does not exist or has no tuning")
        return location

    def _output(self, asked: bodies.TuningJob) -> None:
        """Weights of open models go into a bucket of the project. Raises Refusal."""
        if asked.output_uri is not None:
            bucket, _ = checks.gcs_uri("output_uri", asked.output_uri)
            if not self.storage.has(bucket):
                raise invalid("output_uri", f"there is no bucket {bucket}")

    def _data(self, asked: bodies.TuningJob, spec: checks.Spec, method: str) -> tuple[Dataset, str | None]:
        """The training data, and what is wrong with it or with the validation data; the job will tell of that."""
        layout = checks.layout(asked, method)
        train = self._dataset("training_dataset_uri", spec.training_dataset_uri, layout)
        faults = list(train.faults)
        if spec.validation_dataset_uri is not None:
            validation = self._dataset("validation_dataset_uri", spec.validation_dataset_uri, layout)
            faults += [f"validation dataset: {each}" for each in validation.faults]
            faults += filter(None, [mismatched(train, validation)])
        return train, "; ".join(faults) or None

    def _dataset(self, field: str, uri: str | None, layout: str) -> Dataset:
        bucket, name = checks.gcs_uri(field, uri)
        stored = self.storage.get(bucket, name)
        if stored is None:
            raise invalid(field, f"there is no object {uri}")
        key = (bucket, name, stored.generation, layout)
        if key not in self._read:
            while len(self._read) >= _REMEMBERED:
                del self._read[next(iter(self._read))]
            self._read[key] = read(stored.data, layout)
        return self._read[key]
