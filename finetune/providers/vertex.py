"""Vertex AI: tuning of Google's own models and of some open ones, with training files in a bucket of the user's."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final

from finetune.abilities import RemoteFile
from finetune.deployments import Upstream
from finetune.errors import Problem, ProviderError
from finetune.jobs import Json
from finetune.ports import Observation, PreparedData, Provider, ProviderKit, RemoteData, RemoteJob
from finetune.providers.keyed import HONOURED, Opened, missing
from finetune.providers.vertex_bucket import Bucket
from finetune.providers.vertex_look import ENDED, STATES, Cursor, observed, remote, word
from finetune.providers.vertex_recipe import RUN_KEY, problems, request, unfit
from finetune.providers.vertex_wire import Wire
from finetune.spec import Recipe

_READ_S: Final = 60.0
#: `reach` answers within ten seconds, in two requests.
_REACH_S: Final = 4.5
#: Jobs a page; what is more than the service gives at most, it cuts down.
_PAGE: Final = 100
_PART_BYTES: Final = 8 * 1024 * 1024
_BUCKET: Final = "FT_VERTEX_BUCKET"
_PACKAGES: Final = {"google.genai": "google-genai", "google.cloud.storage": "google-cloud-storage"}
_VARIABLES: Final = {
    "GOOGLE_CLOUD_PROJECT": "the id of the project that pays",
    "GOOGLE_CLOUD_LOCATION": "the region where the model is tuned, such as us-central1",
    _BUCKET: "a bucket on Cloud Storage, in the same region, for the training files",
}
#: How an endpoint is named; who calls it needs its parts.
_ENDPOINT: Final = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/endpoints/(?P<id>[0-9]+)")


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return VertexProvider(kit)


class VertexProvider:
    """`ports.Provider`, with `abilities` Keyed and Storing.

    The credential is a ready token in CLOUDSDK_AUTH_ACCESS_TOKEN, or Google's application default credentials.
    """

    name = "vertex"
    #: The list is not promised to show at once what was created.
    grace_s = 30.0
    max_poll_s = 60.0
    honours = HONOURED | {
        *("training.epochs", "training.learning_rate", "training.learning_rate_multiplier"),
        *("training.batch_size", "lora.r"),
    }

    def __init__(self, kit: ProviderKit, *, read_s: float = _READ_S, part_bytes: int = _PART_BYTES) -> None:
        """`read_s` bounds the wait for an answer, seconds; `part_bytes` a chunk of an upload, a multiple of 256 KiB."""
        self._kit, self._read_s, self._part_bytes = kit, read_s, part_bytes
        self._opened: Opened[Wire] = Opened()

    # What is checked before anything is sent.

    def check(self, recipe: Recipe) -> list[Problem]:
        """See `ports.Provider.check`."""
        return problems(recipe, self._kit.environ.get("GOOGLE_CLOUD_LOCATION") or None)

    def unconfigured(self) -> list[Problem]:
        """See `abilities.Keyed`. Whether there is a credential, only a request can tell where it is not a variable."""
        found = [
            missing(f"the package {package} is not installed", "pip install 'ft-orchestrator[vertex]'")
            for module, package in _PACKAGES.items()
            if not _installed(module)
        ]
        found += [
            missing(f"{name} is not set", f"export {name}=... ({meaning}), or try `ft submit --sandbox`")
            for name, meaning in _VARIABLES.items()
            if not self._kit.environ.get(name)
        ]
        return found

    def reach(self) -> str:
        """See `abilities.Keyed`: lists one job, and one file of the bucket."""
        config: Any = {"page_size": 1, "http_options": {"timeout": int(_REACH_S * 1000)}}
        self._wire.ask("list the jobs", lambda: self._wire.genai.tunings.list(config=config))
        self._bucket.look(_REACH_S)
        environ = self._kit.environ
        where = f"{environ['GOOGLE_CLOUD_PROJECT']}, {environ['GOOGLE_CLOUD_LOCATION']}, gs://{self._bucket.name}"
        return f"{self._wire.host} ({where})"

    # The job.

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`."""
        return RemoteData(ids=self._bucket.upload(data))

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`: looks through all jobs of the location, as a filter is not promised to hold."""
        config: Any = {"page_size": _PAGE}
        rows = self._wire.pages("list the jobs", lambda: self._wire.genai.tunings.list(config=config))
        mine = [remote(job) for job in rows if job.name and (job.labels or {}).get(RUN_KEY) == run_key]
        return sorted(mine, key=lambda job: (job.created_at, job.remote_id))

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`."""
        wire = self._wire
        if problem := unfit(recipe, data.ids):
            raise ProviderError(problem)
        from google.genai import types

        config = types.CreateTuningJobConfig(**request(recipe, data.ids, run_key, self._bucket.name))
        dataset = types.TuningDataset(gcs_uri=data.ids["train"])
        job = wire.ask(
            "create the job",
            lambda: wire.genai.tunings.tune(base_model=recipe.base_model, training_dataset=dataset, config=config),
            creating=True,
        )
        if not job.name or "/tuningJobs/" not in job.name:
            raise wire.nonsense("create the job", "the job has no name", creating=True)
        return remote(job)

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`.

        The service keeps no history: phases between two polls, and before one without a cursor, are not told.
        """
        job = self._retrieve(remote_id)
        seen = observed(job, Cursor.of(cursor), self._kit.clock.now(), self._wire.clean)
        if seen.state == "succeeded" and seen.artifact is None:
            raise self._wire.nonsense("look at the job", f"it is {seen.raw_state} without a tuned model")
        return seen

    def cancel(self, remote_id: str) -> None:
        """See `ports.Provider.cancel`."""
        try:
            self._wire.ask("cancel the job", lambda: self._wire.genai.tunings.cancel(name=remote_id))
        except ProviderError as error:
            # What has ended cannot be cancelled, says the service.
            if error.problems[0].code != "E407" or STATES.get(word(self._retrieve(remote_id).state)) not in ENDED:
                raise

    # Its files.

    def files(self) -> list[RemoteFile]:
        """See `abilities.Storing`."""
        return self._bucket.ours()

    def delete_file(self, file_id: str) -> None:
        """See `abilities.Storing`. An id is an address, `gs://...`."""
        self._bucket.delete(file_id)

    def file_ids(self, data: Json) -> Sequence[str]:
        """See `abilities.Storing`."""
        return [str(data[side]) for side in ("train", "validation") if data.get(side)]

    def answers_at(self, artifact: Json) -> Upstream:
        """See `abilities.Answering`. Google deploys its own models when they are tuned, open ones it does not."""
        named = _ENDPOINT.fullmatch(str(artifact.get("endpoint", "")))
        if named is None:
            raise ProviderError(
                Problem(
                    code="E837",
                    what="the tuned model has no endpoint at Vertex AI",
                    why="an open model's weights lie in the bucket, and answer only where you deploy them",
                    fix="deploy it there, or serve the weights with a server of your own",
                )
            )
        where = {"vertex_project": named["project"], "vertex_location": named["location"]}
        return Upstream(kind="vertex_ai", model=f"gemini/{named['id']}", params=where)

    # Inside.

    @property
    def _wire(self) -> Wire:
        return self._opened.get(self.unconfigured, self._open)

    def _open(self) -> Wire:
        kit = self._kit
        return Wire(kit.environ, kit.clock, read_s=self._read_s, per_s=kit.requests_per_s)

    @property
    def _bucket(self) -> Bucket:
        name = self._kit.environ.get(_BUCKET, "").removeprefix("gs://").rstrip("/")
        return Bucket(self._wire, name, self._kit.uploads_dir / self.name, part_bytes=self._part_bytes)

    def _retrieve(self, remote_id: str) -> Any:
        job = self._wire.ask("look at the job", lambda: self._wire.genai.tunings.get(name=remote_id))
        if not job.name:
            raise self._wire.nonsense("look at the job", "the answer is no tuning job")
        return job


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
