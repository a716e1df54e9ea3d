"""Mistral's fine-tuning API, which has ended: its routes answer 410 today. The protocol goes on at `MISTRAL_BASE_URL`.

A create is free: with `auto_start: false` the job is validated, told its price, and waits. `start` is what costs.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from finetune.abilities import RemoteFile
from finetune.deployments import Upstream
from finetune.errors import AuthenticationFailed, Problem
from finetune.jobs import Json
from finetune.ports import Observation, PreparedData, Provider, ProviderKit, RemoteData, RemoteJob
from finetune.providers.asking import Answer
from finetune.providers.keyed import HONOURED, Opened, host, missing, of_address, of_key
from finetune.providers.mistral_look import STATES, WAITING, Cursor, observed, remote
from finetune.providers.mistral_terms import HYPERPARAMETERS, WANDB_KEY, faults, hyperparameters, wandb
from finetune.providers.mistral_wire import VENDOR, Wire
from finetune.spec import Recipe

_TITLE: Final = "Mistral"
_KEY: Final = "MISTRAL_API_KEY"
_ADDRESS: Final = "MISTRAL_BASE_URL"
#: The package's releases that have both `mistralai.client` and the jobs: from the first to before the second.
_SINCE, _UNTIL = (2, 0, 0), (2, 5, 2)
_READ_S: Final = 60.0
_UPLOAD_S: Final = 600.0
#: For connecting and for reading each, so that both end within ten.
_REACH_S: Final = 5.0
#: How the API may say that a job is in another state than the wish needs.
_OUT_OF_PLACE: Final = frozenset({400, 409, 422})
_PURPOSE: Final = "fine-tune"
#: What ft calls the files that it uploads; all begin so.
_PREFIX: Final = "ft-"
_OURS: Final = re.compile(_PREFIX + r"[0-9a-f]{1,32}-(train|validation)\.jsonl")
_WANDB_KEY_LENGTH: Final = 40


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return MistralProvider(kit)


class MistralProvider:
    """`ports.Provider`, with `abilities` Keyed, Storing and Startable."""

    name = "mistral"
    #: A list may miss what was created a moment ago; how long is not published.
    grace_s = 30.0
    max_poll_s = 60.0
    honours = HONOURED | frozenset(HYPERPARAMETERS.values())

    def __init__(self, kit: ProviderKit, *, read_s: float = _READ_S) -> None:
        """`read_s` bounds the wait for an answer, in seconds; uploads have ten minutes."""
        self._kit, self._read_s = kit, read_s
        self._opened: Opened[Wire] = Opened()

    def check(self, recipe: Recipe) -> list[Problem]:
        """See `ports.Provider.check`."""
        return faults(recipe)

    def unconfigured(self) -> list[Problem]:
        """See `abilities.Keyed`."""
        return [*_package(), *of_key(_KEY, self._key()), *of_address(_ADDRESS, self._address(), VENDOR)]

    def reach(self) -> str:
        """See `abilities.Keyed`: lists one job, as files go on answering where fine-tuning has ended."""
        jobs, wait_ms = self._jobs, int(min(_REACH_S, self._read_s) * 1000)
        self._wire.call("list the jobs", lambda: jobs.list(page=0, page_size=1, timeout_ms=wait_ms))
        return f"{_TITLE} at {host(self._address())}"

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`. The names of the files hold the digest."""
        train = self._uploaded(data.train, _named(data.digest, "train"))
        validation = self._uploaded(data.validation, _named(data.digest, "validation")) if data.validation else None
        return RemoteData(ids={"train": train, "validation": validation})

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`. The key is the job's suffix; the API's filter is not relied on."""
        jobs = self._jobs
        rows = self._wire.pages(
            "look for the job",
            lambda page, size: jobs.list(page=page, page_size=size, suffix=run_key, timeout_ms=self._wait_ms),
        )
        # Newest first, in whole seconds.
        mine = [remote(row) for row in rows if row.get("suffix") == run_key][::-1]
        return sorted(mine, key=lambda job: job.created_at)

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`. Nothing is paid yet."""
        doing, jobs, wanted = "create the job", self._jobs, self._wanted(recipe, data)
        made = self._wire.call(
            doing,
            lambda: jobs.create(suffix=run_key, auto_start=False, timeout_ms=self._wait_ms, **wanted),
            creating=True,
        )
        if not isinstance(made.get("id"), str):
            raise self._wire.troubles.nonsense(doing, "the job has no id", creating=True)
        return remote(made)

    def start(self, remote_id: str) -> None:
        """See `abilities.Startable`: the step that costs."""
        doing, jobs = "start the job", self._jobs
        answer = self._wire.ask(doing, lambda: jobs.start(job_id=remote_id, timeout_ms=self._wait_ms), creating=True)
        if answer.good:
            return
        status = self._status(remote_id) if answer.status in _OUT_OF_PLACE else None
        if status is None or status in WAITING:
            # A job that is still being looked at was certainly not started by this.
            raise self._wire.refusal(doing, answer, creating=answer.status != 404 and status in (None, "VALIDATED"))

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`. Events and checkpoints come with the job itself."""
        job = self._job(remote_id)
        seen = observed(job, Cursor.of(cursor), self._kit.clock.now(), self._wire.troubles.clean)
        if seen.artifact is not None and not isinstance(seen.artifact["model"], str):
            raise self._wire.troubles.nonsense("look at the job", "it has succeeded, and its model has no name")
        return seen

    def cancel(self, remote_id: str) -> None:
        """See `ports.Provider.cancel`."""
        doing, jobs = "cancel the job", self._jobs
        answer = self._wire.ask(doing, lambda: jobs.cancel(job_id=remote_id, timeout_ms=self._wait_ms))
        if answer.good:
            return
        status = self._status(remote_id) if answer.status in _OUT_OF_PLACE else None
        if status != "CANCELLATION_REQUESTED" and STATES.get(str(status)) not in ("succeeded", "failed", "cancelled"):
            raise self._wire.refusal(doing, answer)

    def files(self) -> list[RemoteFile]:
        """See `abilities.Storing`."""
        mine = [_file(row) for row in self._listed(_PREFIX) if _OURS.fullmatch(str(row.get("filename")))]
        return sorted(mine, key=lambda file: file.uploaded_at, reverse=True)

    def delete_file(self, file_id: str) -> None:
        """See `abilities.Storing`."""
        doing, files = "delete the file", self._wire.client.files
        answer = self._wire.ask(doing, lambda: files.delete(file_id=file_id, timeout_ms=self._wait_ms))
        if not answer.good and answer.status != 404:
            raise self._wire.refusal(doing, answer)

    def file_ids(self, data: Json) -> Sequence[str]:
        """See `abilities.Storing`."""
        return [str(each) for each in (data.get("train"), data.get("validation")) if each]

    def answers_at(self, artifact: Json) -> Upstream:
        """See `abilities.Answering`."""
        return Upstream(kind="mistral", model=str(artifact["model"]), api_base=f"{self._address()}/v1", key_env=_KEY)

    # Inside.

    def _key(self) -> str:
        return self._kit.environ.get(_KEY, "").strip()

    def _address(self) -> str:
        # The package adds the version itself; addresses are often written with it.
        return self._kit.environ.get(_ADDRESS, "").strip().rstrip("/").removesuffix("/v1") or VENDOR

    @property
    def _wait_ms(self) -> int:
        return int(self._read_s * 1000)

    @property
    def _wire(self) -> Wire:
        return self._opened.get(self.unconfigured, self._open)

    def _open(self) -> Wire:
        return Wire(
            _TITLE,
            self._kit.clock,
            address=self._address(),
            key=self._key(),
            secrets=(self._kit.environ.get(WANDB_KEY, ""),),
            per_s=self._kit.requests_per_s,
        )

    @property
    def _jobs(self) -> Any:
        return self._wire.client.fine_tuning.jobs

    def _job(self, remote_id: str) -> Json:
        doing, jobs = "look at the job", self._jobs
        job = self._wire.call(doing, lambda: jobs.get(job_id=remote_id, timeout_ms=self._wait_ms))
        if job.get("id") != remote_id or not isinstance(job.get("status"), str):
            raise self._wire.troubles.nonsense(doing, "the answer is about no job, or about another one")
        return job

    def _status(self, remote_id: str) -> str:
        return str(self._job(remote_id)["status"])

    def _wanted(self, recipe: Recipe, data: RemoteData) -> dict[str, Any]:
        """What the job shall be. The package fills in a learning rate of its own where it is told nothing."""
        from mistralai.client import models

        numbers = models.CompletionTrainingParameters(**{"learning_rate": None, **hyperparameters(recipe)})
        wanted: dict[str, Any] = {
            "model": recipe.base_model,
            "job_type": "completion",
            "training_files": [models.TrainingFile(file_id=data.ids["train"])],
            "hyperparameters": numbers,
            "invalid_sample_skip_percentage": recipe.provider_options.get("invalid_sample_skip_percentage"),
        }
        if data.ids.get("validation"):
            wanted["validation_files"] = [data.ids["validation"]]
        if integration := wandb(recipe, self._kit.environ):
            if len(integration["api_key"]) != _WANDB_KEY_LENGTH:
                fix = f"export {WANDB_KEY}=..., {_WANDB_KEY_LENGTH} characters, where the workers run"
                raise AuthenticationFailed(missing(f"{WANDB_KEY} does not hold a key", fix))
            wanted["integrations"] = [models.WandbIntegration(**integration)]
        return wanted

    def _uploaded(self, path: Path, name: str) -> str:
        """The id of the file of this name and size, which is uploaded if it is not there."""
        size = path.stat().st_size
        for row in self._listed(name):
            if row.get("filename") == name and row.get("bytes") == size:
                return str(row["id"])
        doing, files = "upload the data", self._wire.client.files
        with path.open("rb") as content:
            file: Any = {"file_name": name, "content": content, "content_type": "application/jsonl"}
            answer = self._wire.ask(
                doing, lambda: files.upload(file=file, purpose=_PURPOSE, timeout_ms=int(_UPLOAD_S * 1000))
            )
        if answer.status in (413, 422):
            raise self._bad_data(answer)
        if not answer.good:
            raise self._wire.refusal(doing, answer)
        made = self._wire.read(doing, answer)
        if not isinstance(made.get("id"), str):
            raise self._wire.troubles.nonsense(doing, "the file has no id")
        return str(made["id"])

    def _bad_data(self, answer: Answer) -> Exception:
        error = self._wire.refusal("upload the data", answer)
        why = error.problems[0].why
        fix = "`ft validate` shows what it can see of that; mend the data and submit again"
        what = f"{_TITLE} refuses the training data ({answer.status})"
        return type(error)(Problem(code="E413", what=what, why=why, fix=fix))

    def _listed(self, search: str) -> list[Json]:
        """Files whose name has this in it."""
        files = self._wire.client.files
        return list(
            self._wire.pages(
                "list the files",
                lambda page, size: files.list(
                    page=page, page_size=size, search=search, purpose=_PURPOSE, timeout_ms=self._wait_ms
                ),
            )
        )


def _named(digest: str, side: str) -> str:
    return f"{_PREFIX}{digest[:32]}-{side}.jsonl"


def _file(row: Json) -> RemoteFile:
    size, created = row.get("bytes"), row.get("created_at")
    return RemoteFile(
        file_id=str(row["id"]),
        name=str(row["filename"]),
        bytes=size if isinstance(size, int) else 0,
        uploaded_at=datetime.fromtimestamp(created if isinstance(created, int) else 0, UTC),
    )


def _package() -> list[Problem]:
    install = "pip install 'ft-orchestrator[mistral]'"
    try:
        said = metadata.version("mistralai")
    except metadata.PackageNotFoundError:
        return [missing("the package mistralai is not installed", install)]
    numbers = tuple(int(each) for each in re.findall(r"\d+", said)[:3])
    if _SINCE <= numbers < _UNTIL:
        return []
    return [missing(f"mistralai {said} has no fine-tuning jobs; 2.5.1 is the last that has", install)]
