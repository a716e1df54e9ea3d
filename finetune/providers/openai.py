"""OpenAI's fine-tuning API, and whatever speaks its protocol at another address (`OPENAI_BASE_URL`)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Final

from finetune.abilities import Past, RemoteFile
from finetune.deployments import Upstream
from finetune.errors import AuthenticationFailed, Problem, ProviderError, StateError
from finetune.files import unwritable, write_whole
from finetune.jobs import Json
from finetune.ports import Observation, PreparedData, Provider, ProviderKit, RemoteData, RemoteJob
from finetune.providers.keyed import HONOURED, Opened, missing, variable
from finetune.providers.openai_check import SUFFIX_MOST, environment, numbers, options, region
from finetune.providers.openai_files import Files, not_ready
from finetune.providers.openai_look import STATES, Cursor, as_wished, checkpoint, observed, remote
from finetune.providers.openai_notice import SECRET, subject
from finetune.providers.openai_past import past
from finetune.providers.openai_results import plain
from finetune.providers.openai_wire import Wire
from finetune.providers.roster import Roster
from finetune.spec import Recipe, explicit

#: The key of a job's metadata under which it carries our run key.
RUN_KEY: Final = "ft_run_key"
_VENDOR: Final = "https://api.openai.com/v1"
READ_S: Final = 60.0
#: Connecting and reading are waited for one after the other, and both must fit into ten seconds.
_REACH_S: Final = 4.0
#: Code and words by which a create is refused as long as its file is being processed.
_NOT_READY: Final = ("file_not_ready", "still being processed")
#: Refusals by a host that does not know an operation: not there, or refused for good.
_WITHOUT: Final = frozenset({"E402", "E407"})


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return OpenAiProvider(kit)


class OpenAiProvider:
    """`ports.Provider`, with `abilities` Keyed, Storing, Pausable, Reporting, Importable and Notifying."""

    name = "openai"
    title: ClassVar[str] = "OpenAI"
    #: Variables: the credential, and the address with its default.
    key_variable: ClassVar[str] = "OPENAI_API_KEY"
    address_variable: ClassVar[str] = "OPENAI_BASE_URL"
    #: What `provider_options` may hold, with the type of each.
    options: ClassVar[Mapping[str, type]] = {"suffix": str, "beta": float, "integrations": list}
    #: A list may miss what was created a moment ago.
    grace_s = 20.0
    max_poll_s = 60.0
    honours = HONOURED | {
        *("seed", "dpo.beta", "training.epochs", "training.batch_size", "training.learning_rate_multiplier")
    }

    def __init__(self, kit: ProviderKit, *, read_s: float = READ_S) -> None:
        """`read_s` bounds the wait for an answer, in seconds."""
        self._kit, self._read_s = kit, read_s
        self._opened: Opened[Wire] = Opened()
        self._roster = Roster(self._jobs, kit.clock)

    # What is checked before anything is sent.

    def check(self, recipe: Recipe) -> list[Problem]:
        """See `ports.Provider.check`."""
        return [
            *numbers(self.title, recipe),
            *options(self.title, self.options, recipe),
            *self._of_region(recipe),
        ]

    def unconfigured(self) -> list[Problem]:
        """See `abilities.Keyed`."""
        needed = {name: self._said(name) for name in self._needed()}
        addresses = {self.address_variable: self._said(self.address_variable)}
        return [*self._unusable(), *environment(needed, addresses)]

    def reach(self) -> str:
        """See `abilities.Keyed`: lists one job."""
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        self._wire.call("list the jobs", lambda: jobs.list(limit=1, timeout=_REACH_S))
        return str(self._wire.client.base_url.host)

    # The job.

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`."""
        return RemoteData(ids=self._files.upload(data))

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`. The filter is the API's; rows are matched again, as not every host knows it."""
        rows = self._jobs(**self._filter(run_key))
        mine = [remote(row) for row in rows if _key(row) == run_key]
        return sorted(mine, key=lambda job: (job.created_at, job.remote_id))

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`."""
        body = self._body(recipe, data, run_key)
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        try:
            made = self._wire.call("create the job", lambda: jobs.create(**body), needs=("id",), creating=True)
        except ProviderError as error:
            why = error.problems[0].why
            # A large file may be there and not be ready for minutes, which its state does not always tell.
            if error.problems[0].code == "E407" and any(words in why for words in _NOT_READY):
                raise not_ready(why) from None
            raise
        return remote(made)

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`."""
        before = Cursor.of(cursor)
        job = self._roster.get(remote_id) or self._retrieve(remote_id)
        state = STATES.get(str(job.get("status")), before.state)
        # A job that still waits has no news.
        quiet = cursor is not None and state == before.state and state in ("queued", "paused")
        new = [] if quiet else self._events(remote_id, before.event)
        seen = observed(job, new, before, now=self._kit.clock.now(), clean=self._wire.troubles.clean)
        if state != "succeeded":
            return seen
        return replace(seen, artifact=self._artifact(job))

    def cancel(self, remote_id: str) -> None:
        """See `ports.Provider.cancel`."""
        self._ask(remote_id, "cancel")

    def pause(self, remote_id: str) -> None:
        """See `abilities.Pausable`."""
        self._ask(remote_id, "pause")

    def resume(self, remote_id: str) -> None:
        """See `abilities.Pausable`."""
        self._ask(remote_id, "resume")

    # Its files.

    def files(self) -> list[RemoteFile]:
        """See `abilities.Storing`."""
        return self._files.ours()

    def delete_file(self, file_id: str) -> None:
        """See `abilities.Storing`."""
        self._files.delete(file_id)

    def file_ids(self, data: Json) -> Sequence[str]:
        """See `abilities.Storing`."""
        return [str(each) for each in data.values() if each]

    def fetch_results(self, remote_id: str, folder: Path) -> list[Path]:
        """See `abilities.Reporting`: a table of what was measured, one file each."""
        out = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(unwritable(folder, error)) from None
        for file_id in self._retrieve(remote_id).get("result_files") or ():
            path = folder / f"{Path(str(file_id)).name}.csv"
            write_whole(path, plain(self._files.content(file_id)))
            out.append(path)
        return out

    def notice(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """See `abilities.Notifying`. Needs OPENAI_WEBHOOK_SECRET."""
        secret = self._said(SECRET)
        if not secret:
            raise AuthenticationFailed(
                missing(f"{SECRET} is not set", "export it, as the vendor shows it, and restart")
            )
        if unusable := self._unusable():
            raise AuthenticationFailed(*unusable)
        return subject(headers, body, secret)

    def past(self, export: Sequence[Json] | None = None) -> list[Past]:
        """See `abilities.Importable`."""
        return past(self._jobs() if export is None else export, RUN_KEY)

    def fetch_file(self, file_id: str, to: Path) -> bool:
        """See `abilities.Importable`."""
        try:
            content = self._files.content(file_id)
        except ProviderError as error:
            if error.problems[0].code not in _WITHOUT:
                raise
            return False
        write_whole(to, content)
        return True

    # Inside.

    def _needed(self) -> Sequence[str]:
        return (self.key_variable,)

    def _address(self) -> str | None:
        """The base URL; None for the vendor's own."""
        return self._said(self.address_variable)

    def _headers(self) -> Mapping[str, str]:
        """What every request carries beside the key: from the variables that the vendor's package reads, too."""
        named = {"OpenAI-Organization": self._said("OPENAI_ORG_ID"), "OpenAI-Project": self._said("OPENAI_PROJECT_ID")}
        lines = (self._said("OPENAI_CUSTOM_HEADERS") or "").splitlines()
        own = {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
        return {**{name: value for name, value in named.items() if value}, **own}

    def _said(self, name: str) -> str | None:
        """A variable's value, without what a file or a copy has left at its ends; None when it is not set."""
        return variable(self._kit.environ, name)

    def _unusable(self) -> list[Problem]:
        if find_spec("openai") is not None:
            return []
        return [missing("the package openai is not installed", "pip install 'ft-orchestrator[openai]'")]

    @property
    def _wire(self) -> Wire:
        return self._opened.get(self.unconfigured, self._open)

    def _open(self) -> Wire:
        return Wire(
            self.title,
            self._kit.clock,
            address=self._address() or _VENDOR,
            key=self._said(self.key_variable) or "",
            headers=self._headers(),
            timeout_s=self._read_s,
            per_s=self._kit.requests_per_s,
        )

    @property
    def _files(self) -> Files:
        return Files(self._wire, self._kit.clock, self._kit.uploads_dir / self.name)

    def _filter(self, run_key: str) -> dict[str, Any]:
        """What the list shall show for a run key, as far as the host filters."""
        return {"metadata": {RUN_KEY: run_key}}

    def _jobs(self, **filters: Any) -> Iterator[Json]:
        """Newest first."""
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        return self._wire.pages("list the jobs", lambda where: jobs.list(**filters, **where))

    def _retrieve(self, remote_id: str) -> Json:
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        return self._wire.call("look at the job", lambda: jobs.retrieve(remote_id), needs=("id", "status"))

    def answers_at(self, artifact: Json) -> Upstream:
        """See `abilities.Answering.answers_at`."""
        return Upstream(
            kind="openai", model=str(artifact["model"]), api_base=self._address(), key_env=self.key_variable
        )

    def _events(self, remote_id: str, last: str | None) -> list[Json]:
        """Those after `last`, oldest first. The API lists the newest first."""
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        rows = self._wire.pages("read the events", lambda where: jobs.list_events(remote_id, **where))
        return list(takewhile(lambda row: row["id"] != last, rows))[::-1]

    def _artifact(self, job: Json) -> Json:
        if not isinstance(job.get("fine_tuned_model"), str):
            raise self._wire.troubles.nonsense("look at the job", "it has succeeded and names no model")
        return {
            "model": job["fine_tuned_model"],
            "trained_tokens": job.get("trained_tokens"),
            "checkpoints": [checkpoint(row) for row in self._checkpoints(job["id"])],
            "result_files": job.get("result_files") or [],
        }

    def _checkpoints(self, remote_id: str) -> list[Json]:
        """None where the host has no such list: the model is there, and worth more."""
        checkpoints = self._wire.client.fine_tuning.jobs.checkpoints.with_raw_response
        try:
            return list(self._wire.pages("list the checkpoints", lambda where: checkpoints.list(remote_id, **where)))
        except ProviderError as error:
            if error.problems[0].code not in _WITHOUT:
                raise
            return []

    def _ask(self, remote_id: str, wish: str) -> None:
        """Silent when the job has ended, or is as wished: hosts refuse that, each with a status of its own."""
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        try:
            self._wire.call(f"{wish} the job", lambda: getattr(jobs, wish)(remote_id))
        except AuthenticationFailed:
            raise
        except ProviderError:
            if not as_wished(self._retrieve(remote_id), wish):
                raise

    def _body(self, recipe: Recipe, data: RemoteData, run_key: str) -> Json:
        wanted, options = explicit(recipe), recipe.provider_options
        numbers: Json = {"n_epochs": recipe.training.epochs}
        for theirs, ours in (("batch_size", "batch_size"), ("learning_rate_multiplier", "learning_rate_multiplier")):
            if f"training.{ours}" in wanted:
                numbers[theirs] = getattr(recipe.training, ours)
        if "beta" in options:
            numbers["beta"] = options["beta"]
        elif recipe.method == "dpo" and "dpo.beta" in wanted:
            numbers["beta"] = recipe.dpo.beta
        method = {"sft": "supervised", "dpo": "dpo"}[recipe.method]
        body: Json = {
            "model": recipe.base_model,
            "training_file": data.ids["train"],
            "method": {"type": method, method: {"hyperparameters": numbers}},
            "suffix": options.get("suffix") or recipe.name[:SUFFIX_MOST],
            "metadata": {RUN_KEY: run_key, "ft_recipe": recipe.name},
        }
        if data.ids.get("validation"):
            body["validation_file"] = data.ids["validation"]
        if "seed" in wanted:
            body["seed"] = recipe.seed
        if "integrations" in options:
            body["integrations"] = options["integrations"]
        return body

    def _of_region(self, recipe: Recipe) -> Iterable[Problem]:
        return region(self._address(), recipe)


def _key(job: Json) -> str | None:
    """The run key that a job carries; None for a job of somebody else."""
    metadata = job.get("metadata")
    return metadata.get(RUN_KEY) if isinstance(metadata, dict) else None
