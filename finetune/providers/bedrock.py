"""Amazon Bedrock: customization of models by fine-tuning, with training files in a bucket of the user's.

A job is created with a token and a name that are both made of the run key: the service answers the same job again, or
refuses a second one of that name.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from finetune.abilities import BaseAt, Hosted, Hosting, RemoteFile
from finetune.deployments import Upstream
from finetune.errors import Problem, ProviderError, ProviderUnavailable
from finetune.jobs import Json
from finetune.ports import Observation, PreparedData, Provider, ProviderKit, RemoteData, RemoteJob
from finetune.providers.bedrock_bucket import Bucket
from finetune.providers.bedrock_deploy import Deployments, base_at, hosting
from finetune.providers.bedrock_look import ENDED, STATES, Cursor, Measured, observed, remote
from finetune.providers.bedrock_recipe import is_bucket, is_role, job_name, layout, misplaced, problems, request
from finetune.providers.bedrock_wire import Wire, code_of, everywhere, region, region_of
from finetune.providers.keyed import HONOURED, Opened, missing
from finetune.spec import Recipe

_READ_S: Final = 60.0
#: `reach` answers within ten seconds, in two requests.
_REACH_S: Final = 4.5
_BUCKET: Final = "FT_BEDROCK_BUCKET"
_ROLE: Final = "FT_BEDROCK_ROLE_ARN"
#: What a stop of a job that has ended already may be refused as.
_OUT_OF_PLACE: Final = frozenset({"E407", "E403"})


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return BedrockProvider(kit)


class BedrockProvider:
    """`ports.Provider`, with `abilities` Keyed, Storing, Reporting and Deployable.

    The credential is AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or what Amazon's package finds: a profile, a role.
    """

    name = "bedrock"
    #: The list is not promised to show at once what was created.
    grace_s = 30.0
    max_poll_s = 60.0
    honours = HONOURED | {"training.epochs", "training.learning_rate"}

    def __init__(self, kit: ProviderKit, *, read_s: float = _READ_S) -> None:
        """`read_s` bounds the wait for an answer, in seconds; uploads have ten minutes."""
        self._kit, self._read_s = kit, read_s
        #: By region: a job is looked at where it is, wherever this process creates its own.
        self._opened: dict[str, Opened[Wire]] = {}

    # What is checked before anything is sent.

    def check(self, recipe: Recipe) -> list[Problem]:
        """See `ports.Provider.check`."""
        return problems(recipe, region(self._kit.environ))

    def unconfigured(self) -> list[Problem]:
        """See `abilities.Keyed`. Whether there is a credential, only a request can tell where it is not a variable."""
        said, found = self._kit.environ, []
        if find_spec("botocore") is None:
            found.append(missing("the package boto3 is not installed", "pip install 'ft-orchestrator[bedrock]'"))
        if region(said) is None:
            fix = "export AWS_REGION=us-east-1 for Nova, or us-west-2 for Llama; or try `ft submit --sandbox`"
            found.append(missing("AWS_REGION is not set", fix))
        if not is_bucket(self._bucket_name):
            what = f"{_BUCKET} is no name of a bucket" if said.get(_BUCKET) else f"{_BUCKET} is not set"
            found.append(missing(what, f"export {_BUCKET}=..., a bucket on S3 in the same region"))
        if not is_role(said.get(_ROLE, "")):
            what = f"{_ROLE} is no ARN of a role" if said.get(_ROLE) else f"{_ROLE} is not set"
            fix = f"export {_ROLE}=arn:aws:iam::ACCOUNT:role/NAME, a role that Bedrock may take to read and write there"
            found.append(missing(what, fix))
        return found

    def reach(self) -> str:
        """See `abilities.Keyed`: lists one job, and one file of the bucket."""
        # A client of its own, less patient than that of all others.
        short: Opened[Wire] = Opened()
        wire = short.get(self.unconfigured, lambda: self._open(self._region, min(_REACH_S, self._read_s)))
        wire.ask("list the jobs", lambda: wire.jobs.list_model_customization_jobs(maxResults=1))
        Bucket(wire, self._bucket_name).look()
        return f"{wire.host} ({region(self._kit.environ)}, s3://{self._bucket_name})"

    # The job.

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`."""
        return RemoteData(ids={**self._bucket.upload(data), "region": self._region})

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`. The key is in the job's name, of which there is one."""
        name = job_name(run_key)

        def ask(where: str) -> Iterator[Json]:
            wire = self._wire_in(where)
            call = wire.jobs.list_model_customization_jobs
            return wire.rows("look for the job", call, "modelCustomizationJobSummaries", nameContains=name)

        rows = everywhere(self._region, ask)
        mine = [remote(row) for row in rows if row.get("jobName") == name and row.get("jobArn")]
        return sorted(mine, key=lambda job: (job.created_at, job.remote_id))

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`. Sent twice for one key, it makes one job."""
        if data.ids.get("format") not in (None, layout(recipe.base_model)):
            raise ProviderError(_laid_out(str(data.ids["format"]), recipe.base_model))
        # Where the bucket is that holds them, whoever uploaded them: sent again from elsewhere, it is the same job.
        where = str(data.ids.get("region") or self._region)
        if wrong := misplaced(recipe, where):
            raise ProviderError(*wrong)
        doing, wire = "create the job", self._wire_in(where)
        bucket = str(data.ids["train"]).removeprefix("s3://").partition("/")[0]
        wanted = request(recipe, data.ids, run_key, role=self._kit.environ[_ROLE], bucket=bucket)
        made = wire.ask(doing, lambda: wire.jobs.create_model_customization_job(**wanted), creating=True)
        if not made.get("jobArn"):
            raise wire.nonsense(doing, "the job has no ARN", creating=True)
        return RemoteJob(remote_id=str(made["jobArn"]), raw_state="InProgress", created_at=self._kit.clock.now())

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`. The losses are in the bucket, and read once, when the job has succeeded."""
        job, before, wire = self._retrieve(remote_id), Cursor.of(cursor), self._wire_of(remote_id)
        done = STATES.get(str(job["status"])) == "succeeded"
        if done and not job.get("outputModelArn"):
            raise wire.nonsense("look at the job", "it is Completed without a tuned model")
        measured = self._measured(job) if done and not before.measured else None
        return observed(job, before, self._kit.clock.now(), wire.clean, measured)

    def cancel(self, remote_id: str) -> None:
        """See `ports.Provider.cancel`."""
        wire = self._wire_of(remote_id)
        try:
            wire.ask("stop the job", lambda: wire.jobs.stop_model_customization_job(jobIdentifier=remote_id))
        except ProviderError as error:
            # What has ended, or is about to, cannot be stopped, says the service.
            if code_of(error) not in _OUT_OF_PLACE:
                raise
            status = str(self._retrieve(remote_id)["status"])
            if status != "Stopping" and STATES.get(status) not in ENDED:
                raise

    # Its files.

    def files(self) -> list[RemoteFile]:
        """See `abilities.Storing`."""
        return self._bucket.ours()

    def delete_file(self, file_id: str) -> None:
        """See `abilities.Storing`. An id is an address, `s3://...`."""
        self._bucket.delete(file_id)

    def file_ids(self, data: Json) -> Sequence[str]:
        """See `abilities.Storing`."""
        return [str(data[side]) for side in ("train", "validation") if data.get(side)]

    def fetch_results(self, remote_id: str, folder: Path) -> list[Path]:
        """See `abilities.Reporting`: the tables of losses."""
        where = _written(self._retrieve(remote_id))
        return self._bucket_of(remote_id).fetch(*where, folder) if where else []

    # What answers.

    def hosting(self, base_model: str) -> Hosting:
        """See `abilities.Deployable`."""
        return hosting(self._kit.sheet(self.name), base_model)

    def undeployable(self) -> list[Problem]:
        """See `abilities.Deployable`."""
        return self.unconfigured()

    def base_at(self, base_model: str) -> BaseAt:
        """See `abilities.Deployable`. Sends nothing."""
        return base_at(base_model)

    def deploy(self, name: str, artifact: Json) -> Upstream | None:
        """See `abilities.Deployable`."""
        return self._deployments.deploy(name, str(artifact["model"]))

    def hosted_at(self, name: str) -> Upstream:
        """See `abilities.Deployable`. Sends one request: the service chooses the address."""
        return self._deployments.hosted_at(name)

    def deployed(self) -> list[Hosted]:
        """See `abilities.Deployable`."""
        return self._deployments.deployed()

    def undeploy(self, name: str) -> None:
        """See `abilities.Deployable`."""
        self._deployments.undeploy(name)

    # Inside.

    @property
    def _region(self) -> str:
        return region(self._kit.environ) or ""

    @property
    def _wire(self) -> Wire:
        return self._wire_in(self._region)

    def _wire_in(self, region: str) -> Wire:
        # Not a defaultdict: of two threads each would have one of its own.
        return self._opened.setdefault(region, Opened()).get(
            self.unconfigured, lambda: self._open(region, self._read_s)
        )

    def _wire_of(self, arn: str) -> Wire:
        return self._wire_in(region_of(arn) or self._region)

    def _open(self, region: str, read_s: float) -> Wire:
        kit = self._kit
        return Wire({**kit.environ, "AWS_REGION": region}, kit.clock, read_s=read_s, per_s=kit.requests_per_s)

    @property
    def _bucket_name(self) -> str:
        return self._kit.environ.get(_BUCKET, "").removeprefix("s3://").rstrip("/")

    @property
    def _bucket(self) -> Bucket:
        return Bucket(self._wire, self._bucket_name)

    def _bucket_of(self, arn: str) -> Bucket:
        return Bucket(self._wire_of(arn), self._bucket_name)

    @property
    def _deployments(self) -> Deployments:
        return Deployments(self._wire_in, self._region)

    def _retrieve(self, remote_id: str) -> Json:
        doing, wire = "look at the job", self._wire_of(remote_id)
        job: Json = wire.ask(doing, lambda: wire.jobs.get_model_customization_job(jobIdentifier=remote_id))
        if not job.get("jobArn") or not job.get("status"):
            raise wire.nonsense(doing, "the answer is no customization job")
        return job

    def _measured(self, job: Json) -> Measured:
        """The losses; a bucket that refuses to be read takes no success away."""
        where = _written(job)
        try:
            return Measured(metrics=self._bucket_of(str(job["jobArn"])).measured(*where) if where else ())
        except ProviderUnavailable:
            raise
        except ProviderError as error:
            return Measured(trouble=error.problems[0].why or error.problems[0].what)


def _written(job: Json) -> tuple[str, str] | None:
    """Where Bedrock writes of this job: the folder that it was given, and the job's own id."""
    output: Any = job.get("outputDataConfig")
    folder = output.get("s3Uri") if isinstance(output, dict) else None
    return (str(folder), str(job["jobArn"]).rpartition("/")[2]) if folder else None


def _laid_out(format: str, base_model: str) -> Problem:
    what = f"rows laid out as {format} cannot be sent to Amazon Bedrock"
    why = f"{base_model} learns from rows laid out as {layout(base_model)}"
    return Problem(code="E414", what=what, why=why, fix="submit the recipe again, which lays them out anew")
