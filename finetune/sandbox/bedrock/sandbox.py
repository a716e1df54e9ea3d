"""Amazon Bedrock's customization of models and the S3 beside it, on one port.

After the description that Amazon publishes with its packages (2023-04-20). What it does not say is written where it is
guessed: how long a token is remembered (for good), when a missing dataset is refused (at the create), and how a second
job of a name is.
"""

import heapq
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from finetune.sandbox.bedrock import bodies, rows
from finetune.sandbox.bedrock.deployments import Deployments
from finetune.sandbox.bedrock.jobs import ENDED, Job, Timing
from finetune.sandbox.bedrock.paging import paged
from finetune.sandbox.bedrock.s3 import Storage
from finetune.sandbox.bedrock.words import ACCOUNT, KEY, aws_error, refusal, region_of, unsigned
from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults
from finetune.sandbox.service import Entry, Reply, Request, Route, Sandbox

BUCKET: Final = "sandbox-bucket"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/SandboxBedrock"
REGION: Final = "us-east-1"
_JOBS: Final = "/model-customization-jobs"
_STATUSES: Final = ("InProgress", "Completed", "Failed", "Stopping", "Stopped")


class BedrockSandbox(Sandbox):
    """One account with one bucket. Jobs go through every phase in `timing`."""

    name: ClassVar[str] = "bedrock"

    def __init__(
        self, *, clock: SandboxClock | None = None, faults: Faults | None = None, timing: Timing | None = None
    ) -> None:
        super().__init__(clock=clock, faults=faults)
        # Not in the first create, whose caller would not wait for it.
        bodies.sheet()
        self.timing = timing or Timing()
        self.storage = Storage(self.clock, (BUCKET,))
        self.deployments = Deployments(self.clock, self._model_name)
        #: Method and path of the last requests.
        self.requests: deque[tuple[str, str]] = deque(maxlen=1000)
        self._jobs: list[Job] = []
        #: By ARN, and by name: an account has each once in a region.
        self._by_id: dict[str, Job] = {}
        self._by_token: dict[str, Job] = {}
        self._model_names: set[str] = set()
        #: Jobs whose files are not written yet, by when they end.
        self._unwritten: list[tuple[datetime, int]] = []

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`: `create`, `list`, `retrieve`, `cancel`, those of deployments and of the storage."""
        one = _JOBS + "/{job}"
        own = [
            Route(method="POST", path=_JOBS, operation="create", answer=self._create),
            Route(method="GET", path=_JOBS, operation="list", answer=self._list),
            Route(method="GET", path=one, operation="retrieve", answer=self._retrieve),
            Route(method="POST", path=one + "/stop", operation="cancel", answer=self._stop),
            *self.deployments.routes(),
            *self.storage.routes(),
        ]
        return [replace(route, answer=self._settled(route.answer)) for route in own]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`. Of two regions, as no one of them tunes every model, that of the process's own."""
        said = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        return {
            "AWS_ENDPOINT_URL_BEDROCK": url,
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_REGION": said if said in bodies.REGIONS else REGION,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": "sandbox-secret",
            "FT_BEDROCK_BUCKET": BUCKET,
            "FT_BEDROCK_ROLE_ARN": ROLE,
        }

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`: `code` of the error."""
        return aws_error(status, message, **more)

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`: who signs, and that it is signed, not by which secret."""
        self.requests.append((request.method, request.path))
        return unsigned(request)

    def ledger(self) -> list[Entry]:
        """See `Sandbox.ledger`. A job costs from its creation on; its key is its name."""
        with self.lock:
            return [self._entry(job) for job in self._jobs]

    def _entry(self, job: Job) -> Entry:
        name = job.said["jobName"]
        # ft writes a dot where its key has what no name here may have.
        key = name.replace(".", "_") if name.startswith("ft.") else None
        state = job.status(self.clock.now())
        return Entry(remote_id=job.arn, key=key, raw_state=state, live=job.stopped_at is None, paid=True)

    def _settled(self, answer: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        """The handler, with the files of all that has ended in the bucket."""

        def answering(request: Request) -> Reply:
            now = self.clock.now()
            while self._unwritten and self._unwritten[0][0] <= now:
                self._write(self._jobs[heapq.heappop(self._unwritten)[1]], now)
            return answer(request)

        return answering

    def _write(self, job: Job, now: datetime) -> None:
        if job.status(now) != "Completed":
            return
        folder = f"{job.said['outputDataConfig']['s3Uri'].rstrip('/')}/model-customization-job-{job.job_id}"
        for name, table in job.tables().items():
            self.storage.put(f"{folder}/{name}", table.encode(), "text/csv")

    def _create(self, request: Request) -> Reply:
        asked, region = bodies.read(request.body, bodies.CreateJob), region_of(request)
        said = asked.model_dump(exclude_none=True)
        if (known := self._by_token.get(f"{region} {asked.clientRequestToken}")) is not None:
            if known.said != said:
                raise refusal("ConflictException", "The token was used by a request with other parameters.")
            return Reply(status=201, body={"jobArn": known.arn})
        model = self._fit(asked, region)
        train, bad = self._data(asked, model)
        if "quota" in asked.customModelName:
            raise refusal(
                "ServiceQuotaExceededException", "You have exceeded the number of concurrent customization jobs."
            )
        if "fail-data" in asked.customModelName:
            bad = bad or "line 1: a sample that the service cannot use"
        job = Job(
            number=len(self._jobs),
            region=region,
            said=said,
            base_model=model,
            created_at=self.clock.now(),
            timing=self.timing,
            rows=train.rows,
            bad_data=bad,
            breaks="fail-train" in asked.customModelName,
        )
        self._keep(job, asked.clientRequestToken)
        return Reply(status=201, body={"jobArn": job.arn})

    def _keep(self, job: Job, token: str | None) -> None:
        self._jobs.append(job)
        self._by_id[f"{job.region} {job.said['jobName']}"] = self._by_id[f"{job.region} {job.arn}"] = job
        self._model_names.add(f"{job.region} {job.said['customModelName']}")
        if token is not None:
            self._by_token[f"{job.region} {token}"] = job
        heapq.heappush(self._unwritten, (job.ends()[1], job.number))

    def _fit(self, asked: bodies.CreateJob, region: str) -> str:
        """The base model of a job that may be created. Raises Refusal."""
        if asked.roleArn != ROLE:
            raise refusal("ValidationException", f"Could not assume the role {asked.roleArn}.")
        if asked.customizationType != "FINE_TUNING":
            raise refusal("ValidationException", f"The sandbox does no {asked.customizationType}.")
        model = bodies.base_model(asked.baseModelIdentifier)
        bodies.check_model(model, region, asked.hyperParameters, self.clock.now().date())
        if f"{region} {asked.jobName}" in self._by_id:
            raise refusal("ValidationException", "The provided job name is currently in use.")
        if f"{region} {asked.customModelName}" in self._model_names:
            raise refusal("ValidationException", "The provided model name is currently in use.")
        return model

    def _data(self, asked: bodies.CreateJob, model: str) -> tuple[rows.Dataset, str | None]:
        """The training data, and what is wrong with it or with the validation data; the job will tell of that."""
        bucket = asked.outputDataConfig.s3Uri.removeprefix("s3://").partition("/")[0]
        if not self.storage.has(bucket):
            raise refusal(
                "ValidationException", f"The output bucket {bucket} does not exist, or the role may not write."
            )
        train = self._dataset(asked.trainingDataConfig.s3Uri, model)
        validators = asked.validationDataConfig.validators if asked.validationDataConfig else ()
        held_out = [self._dataset(each.s3Uri, model) for each in validators]
        faults = [*rows.sized(model, train.rows, sum(each.rows for each in held_out)), *train.faults]
        faults += [f"validation data: {fault}" for each in held_out for fault in each.faults]
        return train, "; ".join(faults) or None

    def _dataset(self, uri: str, model: str) -> rows.Dataset:
        stored = self.storage.get(uri)
        if stored is None:
            raise refusal("ValidationException", f"The file {uri} does not exist, or the role may not read it.")
        return rows.read(stored.data, model)

    def _list(self, request: Request) -> Reply:
        region, wanted, status = region_of(request), request.one("nameContains"), request.one("statusEquals")
        if status not in (None, *_STATUSES):
            raise refusal("ValidationException", f"Value '{status}' at 'statusEquals' is no status")
        lag_s, now = self.faults.list_lag_s, self.clock.now()
        found = [
            job
            for job in reversed(self._jobs)
            if job.region == region
            and (wanted is None or wanted in job.said["jobName"])
            and (status is None or status == job.status(now))
            and (not lag_s or (now - job.created_at).total_seconds() >= lag_s)
        ]
        page, more = paged(request, found, {"nameContains", "statusEquals", "creationTimeAfter", "creationTimeBefore"})
        return Reply(body={"modelCustomizationJobSummaries": [job.summary(now) for job in page], **more})

    def _retrieve(self, request: Request) -> Reply:
        told = self._job(request).told(self.clock.now())
        if self.faults.meet("retrieve", ("odd_state",)):
            told["status"] = "Dreaming"
        return Reply(body=told)

    def _stop(self, request: Request) -> Reply:
        job, now = self._job(request), self.clock.now()
        status = job.status(now)
        if status in ENDED:
            raise refusal("ConflictException", f"The job cannot be stopped: it is {status}.")
        job.stop(now)
        return Reply(body={})

    def _job(self, request: Request) -> Job:
        """By ARN or name. Raises Refusal."""
        known = unquote(request.parts["job"])
        job = self._by_id.get(f"{region_of(request)} {known}")
        if job is None:
            raise refusal("ResourceNotFoundException", f"Could not find the customization job {known}.", 404)
        return job

    def _model_name(self, arn: str) -> str | None:
        now = self.clock.now()
        for job in self._jobs:
            if job.model_arn == arn and job.status(now) == "Completed":
                return str(job.said["customModelName"])
        return None
