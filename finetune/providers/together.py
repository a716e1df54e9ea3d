"""Together AI's fine-tuning: open models, trained by LoRA, whose adapters can be fetched.

A create costs at once. Before it the API is asked what it will cost, which costs nothing.
"""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Final

from finetune.abilities import BaseAt, Hosted, Hosting, RemoteFile
from finetune.deployments import Upstream
from finetune.errors import Problem, ProviderError, StateError
from finetune.files import unwritable
from finetune.jobs import Json
from finetune.ports import Observation, PreparedData, Provider, ProviderKit, RemoteData, RemoteJob
from finetune.providers.keyed import HONOURED, Opened, host, of_address, of_key
from finetune.providers.packed import ARCHIVE_MOST, Unpacked, present, unpack
from finetune.providers.together_base import base_at
from finetune.providers.together_deploy import Deployments
from finetune.providers.together_files import Files, kept, not_ready
from finetune.providers.together_hosting import KEY, hosting, missing_for
from finetune.providers.together_look import ENDED, IDLE, STATES, Cursor, Seen, observed, remote
from finetune.providers.together_terms import FIELDS, SHAPED, faults, priced, wanted
from finetune.providers.together_wire import VENDOR, Bounds, Call, Wire, part
from finetune.spec import Recipe

_TITLE: Final = "Together"
_ADDRESS: Final = "TOGETHER_BASE_URL"
_READ_S: Final = 60.0
_UPLOAD_S: Final = 600.0
_DOWNLOAD: Final = Bounds(bytes=ARCHIVE_MOST, seconds=3600.0)
#: For connecting and for reading each, so that both end within ten.
_REACH_S: Final = 5.0
_JOBS: Final = "/v1/fine-tunes"
#: How the API may say that a job is in another state than the wish needs.
_OUT_OF_PLACE: Final = frozenset({400, 409, 422})
_NO_FILE_YET: Final = frozenset({"train_file_not_validated", "eval_file_not_validated"})
_BAD_FILE: Final = frozenset({"train_file_invalid", "eval_file_invalid"})


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return TogetherProvider(kit)


class TogetherProvider:
    """`ports.Provider`, with `abilities` Keyed, Storing, Deployable and Yielding."""

    name = "together"
    #: A list may miss what was created a moment ago; how long is not published.
    grace_s = 30.0
    max_poll_s = 60.0
    honours = HONOURED | frozenset(FIELDS.values()) | SHAPED

    def __init__(self, kit: ProviderKit, *, read_s: float = _READ_S, download: Bounds = _DOWNLOAD) -> None:
        """`read_s` bounds the wait for an answer, in seconds; uploads have ten minutes. `download`: of an adapter."""
        self._kit, self._read_s, self._download = kit, read_s, download
        self._opened: Opened[Wire] = Opened()

    def check(self, recipe: Recipe) -> list[Problem]:
        """See `ports.Provider.check`."""
        return faults(recipe)

    def unconfigured(self) -> list[Problem]:
        """See `abilities.Keyed`."""
        return [*of_key(KEY, self._key()), *of_address(_ADDRESS, self._address(), VENDOR)]

    def reach(self) -> str:
        """See `abilities.Keyed`: lists the jobs, as no shorter question is sure to need the key."""
        self._wire.rows(Call(doing="list the jobs", path=_JOBS), min(_REACH_S, self._read_s))
        return f"{_TITLE} at {host(self._address())}"

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`. The names of the files hold the digest."""
        return RemoteData(ids=self._files.upload(data))

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`. The key is the job's suffix; the API lists all jobs, without filter or pages."""
        rows = self._wire.rows(Call(doing="look for the job", path=_JOBS), self._read_s)
        if not all(isinstance(row.get("id"), str) for row in rows):
            raise self._wire.troubles.nonsense("look for the job", "a job without an id")
        return sorted((remote(row) for row in rows if _carries(row, run_key)), key=lambda job: job.created_at)

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`. Asks for the price first, and creates nothing above limits.max_cost."""
        body = wanted(recipe, data.ids, run_key)
        self._weigh(body, recipe.limits.max_cost_usd)
        call = Call(doing="create the job", method="POST", path=_JOBS, body=body, creating=True)
        made = self._wire.call(call, self._read_s)
        if not isinstance(made.get("id"), str):
            raise self._wire.troubles.nonsense(call.doing, "the job has no id", creating=True)
        return remote(made)

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`: the job, its events, and its metrics once it trains."""
        known, path = Cursor.of(cursor), f"{_JOBS}/{part(remote_id)}"
        job = self._job(remote_id)
        events = self._wire.rows(Call(doing="look at the job's events", path=f"{path}/events"), self._read_s)
        measured = [] if job["status"] in IDLE else self._measured(path, known.step)
        look = Seen(job=job, events=events, metrics=measured)
        seen = observed(look, known, now=self._kit.clock.now(), clean=self._wire.troubles.clean)
        if seen.artifact is not None and not isinstance(seen.artifact["model"], str):
            raise self._wire.troubles.nonsense("look at the job", "it has succeeded, and its model has no name")
        return seen

    def cancel(self, remote_id: str) -> None:
        """See `ports.Provider.cancel`. What was trained until then is paid."""
        call = Call(doing="cancel the job", method="POST", path=f"{_JOBS}/{part(remote_id)}/cancel")
        answer = self._wire.ask(call, self._read_s)
        if answer.good:
            return
        status = str(self._job(remote_id)["status"]) if answer.status in _OUT_OF_PLACE else None
        if status != "cancel_requested" and STATES.get(str(status)) not in ENDED:
            raise self._wire.refusal(call.doing, answer, creating=call.creating)

    def files(self) -> list[RemoteFile]:
        """See `abilities.Storing`."""
        return self._files.ours()

    def delete_file(self, file_id: str) -> None:
        """See `abilities.Storing`."""
        self._files.delete(file_id)

    def file_ids(self, data: Json) -> Sequence[str]:
        """See `abilities.Storing`."""
        return kept(data)

    def hosting(self, base_model: str) -> Hosting:
        """See `abilities.Deployable`: by the hardware, whatever the base."""
        return hosting(self._kit.environ, self._kit.sheet(self.name), base_model)

    def undeployable(self) -> list[Problem]:
        """See `abilities.Deployable`."""
        return [*self.unconfigured(), *missing_for(self._kit.environ)]

    def base_at(self, base_model: str) -> BaseAt:
        """See `abilities.Deployable`."""
        return base_at(self._wire, self._kit.environ, base_model, address=self._address(), read_s=self._read_s)

    def deploy(self, name: str, artifact: Json) -> Upstream | None:
        """See `abilities.Deployable`."""
        return self._deployments.deploy(name, artifact)

    def hosted_at(self, name: str) -> Upstream:
        """See `abilities.Deployable`."""
        return self._deployments.hosted_at(name)

    def deployed(self) -> list[Hosted]:
        """See `abilities.Deployable`."""
        return self._deployments.deployed()

    def undeploy(self, name: str) -> None:
        """See `abilities.Deployable`."""
        self._deployments.undeploy(name)

    def fetch_adapter(self, artifact: Json, folder: Path) -> bool:
        """See `abilities.Yielding`. The archive's other files (tokenizer, notes) are left out."""
        if artifact.get("tuning") == "Full":
            return False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(unwritable(folder, error)) from None
        if present(folder):
            return True
        archive = folder / ".download"
        call = Call(
            doing="fetch the adapter",
            path="/v1/finetune/download",
            query={"ft_id": artifact["job"], "checkpoint": "adapter"},
        )
        try:
            answer = self._wire.fetch(call, archive, self._read_s, self._download)
            if answer.status == 404:
                return False
            if not answer.good:
                raise self._wire.refusal(call.doing, answer, creating=call.creating)
            unpack(archive, folder)
        except Unpacked as fault:
            raise self._unusable(call, fault) from None
        finally:
            archive.unlink(missing_ok=True)
        return True

    # Inside.

    def _key(self) -> str:
        return self._kit.environ.get(KEY, "").strip()

    def _address(self) -> str:
        # Version 3 of the vendor's package wants it without the version of the API, the ones before with it.
        return self._kit.environ.get(_ADDRESS, "").strip().rstrip("/").removesuffix("/v1") or VENDOR

    @property
    def _wire(self) -> Wire:
        return self._opened.get(self.unconfigured, self._open)

    @property
    def _files(self) -> Files:
        return Files(self._wire, read_s=self._read_s, upload_s=_UPLOAD_S)

    @property
    def _deployments(self) -> Deployments:
        return Deployments(self._wire, self._kit, address=self._address(), read_s=self._read_s)

    def _open(self) -> Wire:
        return Wire(_TITLE, self._kit.clock, address=self._address(), key=self._key(), per_s=self._kit.requests_per_s)

    def _job(self, remote_id: str) -> Json:
        call = Call(doing="look at the job", path=f"{_JOBS}/{part(remote_id)}")
        job = self._wire.call(call, self._read_s)
        if job.get("id") != remote_id or not isinstance(job.get("status"), str):
            raise self._wire.troubles.nonsense(call.doing, "the answer is about no job, or about another one")
        return job

    def _measured(self, path: str, step: int) -> list[Json]:
        """Rows of metrics from this step on."""
        query = {"global_step_from": step} if step >= 0 else None
        call = Call(doing="look at the job's metrics", path=f"{path}/metrics", query=query)
        rows = self._wire.call(call, self._read_s).get("metrics") or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._wire.troubles.nonsense(call.doing, "metrics that are no list of numbers")
        return rows

    def _weigh(self, body: Json, limit: Decimal | None) -> None:
        """Hold the API's own price against the limit and the credit. Raises ProviderError; nothing was created."""
        call = Call(doing="ask for the price", method="POST", path=f"{_JOBS}/estimate-price", body=priced(body))
        told = self._wire.call(call, self._read_s)
        if told.get("estimation_available") is False:
            reason = str(told.get("unavailable_reason"))
            if reason in _NO_FILE_YET:
                raise not_ready(f"no price yet: {reason}")
            if reason in _BAD_FILE:
                what, fix = f"{_TITLE} refuses the training data", "mend the data and submit again"
                raise ProviderError(Problem(code="E413", what=what, why=f"it says: {reason}", fix=fix))
            # It has no estimate for rows with images. The plan has held its own against the limit.
            return
        price = told.get("estimated_total_price")
        usd = Decimal(str(price)) if isinstance(price, int | float) and not isinstance(price, bool) else None
        if told.get("allowed_to_proceed") is False:
            raise ProviderError(_no_credit(usd))
        if usd is None and limit is not None and told.get("estimation_available"):
            raise self._wire.troubles.nonsense(call.doing, "an estimate without a price")
        if usd is not None and limit is not None and usd > limit:
            raise ProviderError(_too_dear(usd, limit))

    def _unusable(self, call: Call, fault: Unpacked) -> ProviderError:
        if not fault.lasting:
            return self._wire.troubles.nonsense(call.doing, f"the archive: {fault}")
        return ProviderError(
            Problem(
                code="E411",
                what=f"the archive that {_TITLE} hands out has no adapter that can be used",
                why=self._wire.troubles.clean(str(fault)),
                fix="look at it yourself: `together fine-tuning download ID --checkpoint-type adapter`",
            )
        )


def _carries(row: Json, run_key: str) -> bool:
    """Whether the job has the key: as its suffix, or in its model's name where the list has no suffixes."""
    if row.get("suffix"):
        return bool(row["suffix"] == run_key)
    name = row.get("model_output_name")
    if not isinstance(name, str):
        return False
    # What follows is the job's own mark, behind a sign that is none of the key's last number.
    before, found, after = name.rpartition(run_key)
    return bool(found) and not before[-1:].isalnum() and not after[:1].isalnum()


def _usd(price: Decimal) -> Decimal:
    return price.quantize(Decimal("0.01"), rounding=ROUND_CEILING)


def _too_dear(usd: Decimal, limit: Decimal) -> Problem:
    return Problem(
        code="E311",
        what=f"{_TITLE} asks {_usd(usd)} US dollars, and limits.max_cost is {limit}",
        why="it was not created, so it costs nothing",
        fix="raise limits.max_cost, or train on fewer rows or epochs",
    )


def _no_credit(usd: Decimal | None) -> Problem:
    asks = "the job" if usd is None else f"the job, {_usd(usd)} US dollars,"
    return Problem(
        code="E408",
        what=f"the quota or budget at {_TITLE} is used up (create the job)",
        why=f"it says that {asks} is above the account's credit and balance, and would be cancelled on the way",
        fix="raise it in the provider's console, then submit again",
    )
