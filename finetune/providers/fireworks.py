"""Fireworks' fine-tuning: supervised and by preferences, of LoRA adapters, which it also gives away.

A job's id is ours to choose, and is made of the run key: a second create of the same key is refused, and the job is
found by its id. So nothing is paid twice, whatever a list shows.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from finetune.abilities import BaseAt, Hosted, Hosting, RemoteFile
from finetune.deployments import Upstream
from finetune.errors import AuthenticationFailed, OutcomeUnknown, Problem, ProviderError
from finetune.files import write_whole
from finetune.jobs import Event, Json
from finetune.ports import Observation, PreparedData, Provider, ProviderKit, RemoteData, RemoteJob
from finetune.providers.fireworks_data import Datasets
from finetune.providers.fireworks_deploy import Deployments, hosting, unusable
from finetune.providers.fireworks_look import MEASURED, STATES, Cursor, Curve, curve, has_ended, observed, remote
from finetune.providers.fireworks_terms import NUMBERS, WANDB_KEY, body, faults, job_id, whole
from finetune.providers.fireworks_weights import fetched, measured
from finetune.providers.fireworks_wire import TITLE, VENDOR, Ask, Wire
from finetune.providers.keyed import HONOURED, Opened, host, missing, of_address, of_key
from finetune.spec import Recipe

_KEY: Final = "FIREWORKS_API_KEY"
_ACCOUNT: Final = "FIREWORKS_ACCOUNT_ID"
_ADDRESS: Final = "FIREWORKS_BASE_URL"
_READ_S: Final = 60.0
#: For connecting and for reading each, so that both end within ten.
_REACH_S: Final = 5.0
#: By method, and what a chosen id is called there.
_KINDS: Final = {"sft": ("supervisedFineTuningJobs", "supervisedFineTuningJobId"), "dpo": ("dpoJobs", "dpoJobId")}
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_JOB: Final = re.compile(r"accounts/[a-z0-9-]+/(?:supervisedFineTuningJobs|dpoJobs)/[a-z0-9-]+")
#: When the API has an id and does not show the job: pauses before it is looked for again, seconds, two minutes in all.
#: A look by id that lags behind for longer would be news; a job that somebody has deleted is never shown again.
_LOOKS_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
#: How the API may say that a job is in another state than the wish needs.
_OUT_OF_PLACE: Final = frozenset({400, 409, 412})
_RESULTS: Final = "metrics.jsonl"


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return FireworksProvider(kit)


class FireworksProvider:
    """`ports.Provider`, with `abilities` Keyed, Storing, Reporting, Yielding and Deployable."""

    name = "fireworks"
    #: How soon a job is found by its id is not published. Until then a second create is refused, so this is short.
    grace_s = 20.0
    max_poll_s = 60.0
    honours = HONOURED | frozenset(NUMBERS.values())

    def __init__(self, kit: ProviderKit, *, read_s: float = _READ_S) -> None:
        """`read_s` bounds the wait for an answer, in seconds; an upload has ten minutes, an adapter half an hour."""
        self._kit, self._read_s = kit, read_s
        self._opened: Opened[Wire] = Opened()

    def check(self, recipe: Recipe) -> list[Problem]:
        """See `ports.Provider.check`."""
        return faults(recipe)

    def unconfigured(self) -> list[Problem]:
        """See `abilities.Keyed`."""
        found = list(of_key(_KEY, self._set(_KEY)))
        if not _ID.fullmatch(self._account):
            what = f"{_ACCOUNT} is {'no account id' if self._account else 'not set'}"
            found.append(missing(what, f"export {_ACCOUNT}=..., as `firectl whoami` or the console shows it"))
        return [*found, *of_address(_ADDRESS, self._address, VENDOR)]

    def reach(self) -> str:
        """See `abilities.Keyed`: looks at the account, which says whether it is suspended."""
        doing = "look at the account"
        told = self._wire.known(doing, f"accounts/{self._account}", within_s=_REACH_S)
        if told is None:
            raise AuthenticationFailed(missing(f"{TITLE} has no account {self._account}", f"correct {_ACCOUNT}"))
        suspended = told.get("suspendState")
        if suspended not in (None, "", "UNSUSPENDED"):
            raise self._wire.troubles.refused(doing, 402, f"the account is suspended: {suspended}", exhausted=True)
        return f"{TITLE} at {host(self._address)}, account {self._account}"

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`. The names of the data sets hold the digest."""
        return RemoteData(ids=self._datasets.uploaded(data))

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`: looks the id up, of either kind."""
        names = [f"accounts/{self._account}/{kind}/{job_id(run_key)}" for kind, _ in _KINDS.values()]
        found = [self._wire.known("look for the job", name) for name in names]
        return sorted((self._remote(job) for job in found if job is not None), key=lambda job: job.created_at)

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`. A second one of the same key finds the first."""
        doing, wanted = "create the job", body(recipe, data.ids["train"], data.ids.get("validation"), self._kit.environ)
        if "wandbConfig" in wanted and not wanted["wandbConfig"]["apiKey"]:
            fix = f"export {WANDB_KEY}=... where the workers run"
            raise AuthenticationFailed(missing(f"{WANDB_KEY} does not hold a key", fix))
        kind, parameter = _KINDS[recipe.method]
        name = f"accounts/{self._account}/{kind}/{job_id(run_key)}"
        path = f"/v1/accounts/{self._account}/{kind}"
        ask = Ask(method="POST", path=path, params={parameter: job_id(run_key)}, body=wanted)
        answer = self._wire.ask(doing, ask, creating=True)
        if answer.status == 409:
            return self._taken(name)
        if not answer.good:
            raise self._wire.refusal(doing, answer, creating=True)
        made = self._wire.read(doing, answer, creating=True)
        if made.get("name") != name:
            raise self._wire.troubles.nonsense(doing, "the answer is about another job, or none", creating=True)
        return self._remote(made)

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`. Measured values stand in a file that grows; without it the job goes on."""
        job, now = self._job(remote_id), self._kit.clock.now()
        values, lost = self._curve(job)
        seen = observed(job, values, Cursor.of(cursor), now=now, clean=self._wire.troubles.clean)
        if lost and has_ended(job):
            told = Event(kind="warning", message=f"the measured values were not read: {lost}", at=now)
            seen = replace(seen, events=(*seen.events, told))
        return seen

    def cancel(self, remote_id: str) -> None:
        """See `ports.Provider.cancel`."""
        doing, name = "cancel the job", self._named(remote_id)
        answer = self._wire.ask(doing, Ask(method="POST", path=f"/v1/{name}:cancel", body={}))
        if answer.good:
            return
        job = self._job(remote_id) if answer.status in _OUT_OF_PLACE else None
        if job is None or not (has_ended(job) or job.get("state") == "JOB_STATE_CANCELLING"):
            raise self._wire.refusal(doing, answer)

    def files(self) -> list[RemoteFile]:
        """See `abilities.Storing`. The API does not tell how large they are: `bytes` is 0."""
        return self._datasets.ours()

    def delete_file(self, file_id: str) -> None:
        """See `abilities.Storing`."""
        self._datasets.delete(file_id)

    def file_ids(self, data: Json) -> Sequence[str]:
        """See `abilities.Storing`."""
        return [str(each) for each in (data.get("train"), data.get("validation")) if each]

    def fetch_results(self, remote_id: str, folder: Path) -> list[Path]:
        """See `abilities.Reporting`: the file of measured values."""
        content = measured(self._wire, self._job(remote_id))
        if content is None:
            return []
        write_whole(folder / _RESULTS, content)
        return [folder / _RESULTS]

    def fetch_adapter(self, artifact: Json, folder: Path) -> bool:
        """See `abilities.Yielding`."""
        return fetched(self._wire, str(artifact["model"]), folder)

    def hosting(self, base_model: str) -> Hosting:
        """See `abilities.Deployable`: by what it runs on, whatever the base."""
        return hosting(self._kit.sheet(self.name), base_model, self._kit.environ)

    def undeployable(self) -> list[Problem]:
        """See `abilities.Deployable`."""
        return [*self.unconfigured(), *unusable(self._kit.environ)]

    def deploy(self, name: str, artifact: Json) -> Upstream | None:
        """See `abilities.Deployable`. Never on GPUs that are no GPUs."""
        if problems := self.undeployable():
            raise ProviderError(*problems)
        return self.hosted_at(name) if self._deployments.deploy(name, str(artifact["model"])) else None

    def hosted_at(self, name: str) -> Upstream:
        """See `abilities.Deployable`. It speaks OpenAI's protocol, with the deployment in place of a model."""
        if problems := self.unconfigured():
            raise ProviderError(*problems)
        return self._asked_as(self._deployments.model(name))

    def base_at(self, base_model: str) -> BaseAt:
        """See `abilities.Deployable`."""
        if problems := self.unconfigured():
            raise ProviderError(*problems)
        base = whole(base_model)
        return self._deployments.base_at(base, self._asked_as(base))

    def deployed(self) -> list[Hosted]:
        """See `abilities.Deployable`."""
        return self._deployments.deployed()

    def undeploy(self, name: str) -> None:
        """See `abilities.Deployable`."""
        self._deployments.undeploy(name)

    # Inside.

    def _asked_as(self, model: str) -> Upstream:
        return Upstream(kind="fireworks_ai", model=model, api_base=f"{self._address}/inference/v1", key_env=_KEY)

    def _remote(self, job: Json) -> RemoteJob:
        return remote(job, now=self._kit.clock.now(), clean=self._wire.troubles.clean)

    def _set(self, name: str) -> str:
        return self._kit.environ.get(name, "").strip()

    @property
    def _account(self) -> str:
        # Its whole name is as good.
        return self._set(_ACCOUNT).removeprefix("accounts/")

    @property
    def _address(self) -> str:
        # Addresses are often written with what stands in every path.
        return self._set(_ADDRESS).rstrip("/").removesuffix("/v1").removesuffix("/inference") or VENDOR

    @property
    def _wire(self) -> Wire:
        return self._opened.get(self.unconfigured, self._open)

    def _open(self) -> Wire:
        return Wire(
            self._kit.clock,
            address=self._address,
            key=self._set(_KEY),
            secrets=(self._set(WANDB_KEY),),
            per_s=self._kit.requests_per_s,
            read_s=self._read_s,
        )

    @property
    def _datasets(self) -> Datasets:
        return Datasets(self._wire, self._account, self._kit.clock)

    @property
    def _deployments(self) -> Deployments:
        return Deployments(self._wire, self._account, self._kit.environ, self._kit.clock)

    def _taken(self, name: str) -> RemoteJob:
        """The job that has the id already: an earlier create of this key was carried out after all.

        Blocks for two minutes while it is not shown. Then it is an error for good: the lifecycle looks for it for an
        hour more, and cancels it should it turn up.
        """
        for pause_s in (0.0, *_LOOKS_S):
            self._kit.clock.sleep(pause_s)
            try:
                found = self._wire.known("create the job", name)
            except ProviderError as error:
                # Whatever stands against the look: the job is there.
                raise OutcomeUnknown(*error.problems) from None
            if found is not None:
                return self._remote(found)
        raise ProviderError(
            Problem(
                code="E407",
                what=f"{TITLE} has had a job {name.rpartition('/')[2]} and does not show it",
                why=f"its id is taken, and {sum(_LOOKS_S):.0f} s of looks found nothing: it was deleted, or is hidden",
                fix="look for it in the console; if nothing trains under this id, `ft submit --force` trains anew",
            )
        )

    def _named(self, remote_id: str) -> str:
        if not _JOB.fullmatch(remote_id):
            raise self._wire.troubles.refused("look at the job", 404, f"{remote_id} is no name of a job")
        return remote_id

    def _job(self, remote_id: str) -> Json:
        doing = "look at the job"
        job = self._wire.known(doing, self._named(remote_id))
        if job is None:
            raise self._wire.troubles.refused(doing, 404, f"{remote_id} not found")
        if not isinstance(job.get("state"), str):
            raise self._wire.troubles.nonsense(doing, "the job has no state")
        return job

    def _curve(self, job: Json) -> tuple[Curve, str | None]:
        """The measured values so far, and why they could not be read."""
        if STATES.get(job["state"]) not in MEASURED:
            return (), None
        try:
            content = measured(self._wire, job)
        except ProviderError as error:
            return (), error.problems[0].what
        return curve(content or b""), None
