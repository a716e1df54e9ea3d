"""OpenAI's fine-tuning API, and whatever speaks its protocol at another address (`OPENAI_BASE_URL`)."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from finetune.abilities import RemoteFile
from finetune.errors import AuthenticationFailed, Problem, ProviderError
from finetune.files import write_whole
from finetune.jobs import Json
from finetune.ports import Observation, PreparedData, Provider, ProviderKit, RemoteData, RemoteJob
from finetune.providers.openai_files import Files
from finetune.providers.openai_look import ENDED, STATES, Cursor, checkpoint, observed, remote
from finetune.providers.openai_results import plain
from finetune.providers.openai_wire import Wire
from finetune.providers.roster import Roster
from finetune.spec import Recipe, explicit

#: The key of a job's metadata under which it carries our run key.
RUN_KEY: Final = "ft_run_key"
_SEED_MOST: Final = 2**31 - 1
_EPOCHS_MOST: Final = 50
_BATCH_MOST: Final = 256
_SUFFIX_MOST: Final = 64
_READ_S: Final = 60.0


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return OpenAiProvider(kit)


class OpenAiProvider:
    """`ports.Provider`, with `abilities` Keyed, Storing, Pausable, Reporting and Notifying."""

    name = "openai"
    title: ClassVar[str] = "OpenAI"
    #: Variables: the credential, and the address with its default.
    key_variable: ClassVar[str] = "OPENAI_API_KEY"
    #: What `provider_options` may hold, with the type of each.
    options: ClassVar[Mapping[str, type]] = {"suffix": str, "beta": float, "integrations": list}
    #: A list may miss what was created a moment ago.
    grace_s = 20.0
    max_poll_s = 60.0
    honours = frozenset(
        {
            *("base_model", "method", "seed", "provider_options", "register.alias"),
            *("training.epochs", "training.batch_size", "training.learning_rate_multiplier"),
            *("limits.max_cost", "limits.data"),
        }
    )

    def __init__(self, kit: ProviderKit, *, read_s: float = _READ_S) -> None:
        """`read_s` bounds the wait for an answer, in seconds."""
        self._kit, self._read_s = kit, read_s
        self._opening = threading.Lock()

    # What is checked before anything is sent.

    def check(self, recipe: Recipe) -> list[Problem]:
        """See `ports.Provider.check`."""
        return [*self._of_numbers(recipe), *self._of_options(recipe), *self._of_region(recipe)]

    def unconfigured(self) -> list[Problem]:
        """See `abilities.Keyed`."""
        found = []
        if find_spec("openai") is None:
            found.append(_missing("the package openai is not installed", "pip install 'ft-orchestrator[openai]'"))
        found += [
            _missing(f"{name} is not set", f"export {name}=..., or try without a bill: `ft submit --sandbox`")
            for name in self._needed()
            if not self._kit.environ.get(name)
        ]
        return found

    def reach(self) -> str:
        """See `abilities.Keyed`: lists one job."""
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        self._wire.call("list the jobs", lambda: jobs.list(limit=1, timeout=10.0))
        return str(self._wire.client.base_url.host)

    # The job.

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`."""
        return RemoteData(ids=self._files.upload(data))

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`. The filter is the API's; rows are matched again, as not every host knows it."""
        rows = self._jobs(**self._filter(run_key))
        mine = [remote(row) for row in rows if (row.get("metadata") or {}).get(RUN_KEY) == run_key]
        return sorted(mine, key=lambda job: (job.created_at, job.remote_id))

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`."""
        body = self._body(recipe, data, run_key)
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        made = self._wire.call("create the job", lambda: jobs.create(**body), creating=True)
        if not isinstance(made.get("id"), str):
            raise self._wire.troubles.nonsense("create the job", "the job has no id", creating=True)
        return remote(made)

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`."""
        before = Cursor.of(cursor)
        job = self._roster.get(remote_id) or self._retrieve(remote_id)
        state = STATES.get(str(job.get("status")), before.state)
        # A job that still waits has no news.
        quiet = cursor is not None and state == before.state and state in ("queued", "paused")
        seen = observed(job, [] if quiet else self._events(remote_id, before.event), before, self._kit.clock.now())
        if state != "succeeded":
            return seen
        return Observation(**{**vars(seen), "artifact": self._artifact(job)})

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
        for file_id in self._retrieve(remote_id).get("result_files") or ():
            path = folder / f"{file_id}.csv"
            write_whole(path, plain(self._files.content(file_id)))
            out.append(path)
        return out

    def notice(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """See `abilities.Notifying`. Needs OPENAI_WEBHOOK_SECRET."""
        import openai

        secret = self._kit.environ.get("OPENAI_WEBHOOK_SECRET")
        if not secret:
            raise AuthenticationFailed(_missing("OPENAI_WEBHOOK_SECRET is not set", "export it and restart"))
        try:
            event: Any = openai.OpenAI(api_key="none").webhooks.unwrap(body, dict(headers), secret=secret)
        except (openai.InvalidWebhookSignatureError, ValueError) as error:
            what = "a call to the webhook is not signed as it must be"
            raise AuthenticationFailed(Problem(code="E405", what=what, why=str(error)[:200])) from None
        return str(event.data.id) if str(event.type).startswith("fine_tuning.job.") else None

    # Inside.

    def _needed(self) -> Sequence[str]:
        return (self.key_variable,)

    def _address(self) -> str | None:
        """The base URL; None for the vendor's own."""
        return self._kit.environ.get("OPENAI_BASE_URL") or None

    @property
    def _wire(self) -> Wire:
        with self._opening:
            return self._opened

    @cached_property
    def _opened(self) -> Wire:
        if missing := self.unconfigured():
            raise AuthenticationFailed(*missing)
        return Wire(
            self.title,
            self._kit.clock,
            base_url=self._address(),
            key=self._kit.environ[self.key_variable],
            timeout_s=self._read_s,
            per_s=self._kit.requests_per_s,
        )

    @property
    def _files(self) -> Files:
        return Files(self._wire, self._kit.clock, self._kit.uploads_dir / self.name)

    @cached_property
    def _roster(self) -> Roster:
        return Roster(self._jobs, self._kit.clock)

    def _filter(self, run_key: str) -> dict[str, Any]:
        """What the list shall show for a run key, as far as the host filters."""
        return {"metadata": {RUN_KEY: run_key}}

    def _jobs(self, **filters: Any) -> Iterator[Json]:
        """Newest first."""
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        return self._wire.pages("list the jobs", lambda where: jobs.list(**filters, **where))

    def _retrieve(self, remote_id: str) -> Json:
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        return self._wire.call("look at the job", lambda: jobs.retrieve(remote_id))

    def _events(self, remote_id: str, last: str | None) -> list[Json]:
        """Those after `last`, oldest first. The API lists the newest first."""
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        rows = self._wire.pages("read the events", lambda where: jobs.list_events(remote_id, **where))
        return list(takewhile(lambda row: row["id"] != last, rows))[::-1]

    def _artifact(self, job: Json) -> Json:
        checkpoints = self._wire.client.fine_tuning.jobs.checkpoints.with_raw_response
        rows = self._wire.pages("list the checkpoints", lambda where: checkpoints.list(job["id"], **where))
        return {
            "model": job.get("fine_tuned_model"),
            "trained_tokens": job.get("trained_tokens"),
            "checkpoints": [checkpoint(row) for row in rows],
            "result_files": job.get("result_files") or [],
        }

    def _ask(self, remote_id: str, wish: str) -> None:
        """Silent when the job has ended, or is as wished, which the API refuses with 400."""
        jobs = self._wire.client.fine_tuning.jobs.with_raw_response
        try:
            self._wire.call(f"{wish} the job", lambda: getattr(jobs, wish)(remote_id))
        except ProviderError as error:
            if error.problems[0].code != "E407":
                raise
            state = STATES.get(str(self._retrieve(remote_id).get("status")), "queued")
            if state not in ENDED and not (wish == "pause" and state == "paused"):
                raise

    def _body(self, recipe: Recipe, data: RemoteData, run_key: str) -> Json:
        wanted, options = explicit(recipe), recipe.provider_options
        numbers: Json = {"n_epochs": recipe.training.epochs}
        for theirs, ours in (("batch_size", "batch_size"), ("learning_rate_multiplier", "learning_rate_multiplier")):
            if f"training.{ours}" in wanted:
                numbers[theirs] = getattr(recipe.training, ours)
        if "beta" in options:
            numbers["beta"] = options["beta"]
        method = {"sft": "supervised", "dpo": "dpo"}[recipe.method]
        body: Json = {
            "model": recipe.base_model,
            "training_file": data.ids["train"],
            "method": {"type": method, method: {"hyperparameters": numbers}},
            "suffix": options.get("suffix") or recipe.name[:_SUFFIX_MOST],
            "metadata": {RUN_KEY: run_key, "ft_recipe": recipe.name},
        }
        if data.ids.get("validation"):
            body["validation_file"] = data.ids["validation"]
        if "seed" in wanted:
            body["seed"] = recipe.seed
        if "integrations" in options:
            body["integrations"] = options["integrations"]
        return body

    def _of_numbers(self, recipe: Recipe) -> list[Problem]:
        bounds = (
            ("training.epochs", recipe.training.epochs, _EPOCHS_MOST),
            ("training.batch_size", recipe.training.batch_size, _BATCH_MOST),
            ("seed", recipe.seed, _SEED_MOST),
        )
        set_here = explicit(recipe)
        return [
            not_taken(field, str(value), f"{self.title} takes at most {most:,}", f"write {most} or less")
            for field, value, most in bounds
            if value > most and (field in set_here or field == "training.epochs")
        ]

    def _of_options(self, recipe: Recipe) -> list[Problem]:
        found = []
        for name, value in recipe.provider_options.items():
            place = f"provider_options.{name}"
            wanted = self.options.get(name)
            if wanted is None:
                why = f"{self.title} has {', '.join(sorted(self.options))}"
                found.append(not_taken(place, str(value)[:40], why, "remove it"))
            elif not isinstance(value, (wanted, int) if wanted is float else wanted):
                why = f"it is a {wanted.__name__}"
                found.append(not_taken(place, str(value)[:40], why, "correct it"))
        suffix = recipe.provider_options.get("suffix")
        if isinstance(suffix, str) and not 1 <= len(suffix) <= _SUFFIX_MOST:
            why = f"a suffix has 1 to {_SUFFIX_MOST} characters, and this one {len(suffix)}"
            found.append(not_taken("provider_options.suffix", suffix[:40], why, "shorten it"))
        return found

    def _of_region(self, recipe: Recipe) -> list[Problem]:
        """A region is the beginning of the address: `https://eu.api.openai.com/v1`."""
        wanted = recipe.limits.data
        if isinstance(wanted, str):
            return []
        host = urlsplit(self._address() or "https://api.openai.com").hostname or ""
        if host.startswith(f"{wanted.region}."):
            return []
        why = f"data goes to {host}, and the recipe keeps it in {wanted.region}"
        fix = (
            f"export OPENAI_BASE_URL=https://{wanted.region}.api.openai.com/v1, with a key of a project in that region"
        )
        return [not_taken("limits.data", f"region: {wanted.region}", why, fix)]


def _missing(what: str, fix: str) -> Problem:
    return Problem(code="E412", what=what, why="nothing can be sent without it", fix=fix)


def not_taken(field: str, value: str, why: str, fix: str) -> Problem:
    """A value of the recipe that the provider does not take."""
    return Problem(
        code="E414", what=f"`{field}: {value}` is not taken here", why=why, fix=fix, field=field, value=value
    )
