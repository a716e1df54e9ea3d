"""Deployments of tuned models at Fireworks: one for each, with the adapter merged into its base, on GPUs of its own.

Sources, read 2026-11-29: the types of the vendor's package (fireworks-ai 1.2) for fields, states and parameters, its
training part for a deletion that frees the id; the pages "Create Deployment" and "Deployments" for shapes and for the
name that a deployment is asked by; LiteLLM 1.106, which passes on names that begin with `accounts/` as they are; "How
to check if a model is available on serverless?" for the filter that lists those; "Deploying Fine Tuned Models" for that
the deployment of a merged adapter does not have its base.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from finetune.abilities import BaseAt, Hosted, Hosting
from finetune.deployments import Upstream
from finetune.errors import AuthenticationFailed, Problem, ProviderError, ProviderUnavailable
from finetune.jobs import Json
from finetune.ports import Clock
from finetune.providers.asking import Answer
from finetune.providers.fireworks_wire import TITLE, Ask, Wire
from finetune.providers.keyed import missing, variable

if TYPE_CHECKING:
    from finetune.catalogue import ProviderSheet

#: Variables: what a deployment runs on, and what an hour of that costs by the user's contract.
GPU: Final = "FIREWORKS_DEPLOYMENT_GPU"
GPUS: Final = "FIREWORKS_DEPLOYMENT_GPUS"
PRICE: Final = "FIREWORKS_HOSTING_USD"
_GPU: Final = "NVIDIA_H100_80GB"
_GPU_NAME: Final = re.compile(r"[A-Z0-9]+(?:_[A-Z0-9]+)+")
_MOST_GPUS: Final = 64
#: What begins the id of each of ours, and what begins its description, where the name that we gave stands whole.
_PREFIX: Final = "ft-"
_MARK: Final = "ft_model="
_LONGEST: Final = 63
_ID: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: Names that people see have fewer characters than this.
_SHOWN: Final = 63
_READY: Final = "READY"
#: Whose models can be served to all, and those of them that are.
_LIBRARY: Final = "accounts/fireworks"
_SERVERLESS: Final = "supports_serverless=true"
#: States in which nothing is billed any more, or will be.
_GOING: Final = "DELETING"
_GONE: Final = "DELETED"
_FAILED: Final = "FAILED"
#: How often and how long we look whether a deletion has ended.
_LOOKS: Final = 10
_LOOK_S: Final = 2.0


def hosting(sheet: "ProviderSheet | None", base_model: str, environ: Mapping[str, str]) -> Hosting:
    """See `Deployable.hosting`: by the user's own figure, else the catalogue's for so many GPUs. Sends nothing."""
    from finetune.catalogue.costs import hosting as published

    gpu, count = _hardware(environ)
    told = {"kind": f"{count[:10]} x {gpu[:40]}", "fix": f"say what an hour costs there: export {PRICE}=8.00"}
    if own := variable(environ, PRICE):
        usd = _amount(own)
        why = f"{PRICE}={own[:40]}"
        return Hosting(usd_per_hour=usd, source=why if usd is not None else f"{why} is no amount of US dollars", **told)
    price = published(sheet, base_model, gpu) if sheet else None
    if sheet is None or price is None or _faults(environ):
        return Hosting(usd_per_hour=None, source=f"no price of an hour of {gpu[:40]} is published", **told)
    source = sheet.sources[price.source]
    dated = f", of {source.dated}" if source.dated else ""
    said = f"Fireworks' page {source.title!r}{dated}, read {source.read}: {price.usd} for each GPU"
    return Hosting(usd_per_hour=price.usd * int(count), source=said, **told)


class Deployments:
    """What `abilities.Deployable` is, for one account. Safe for threads. Nothing is retried here."""

    def __init__(self, wire: Wire, account: str, environ: Mapping[str, str], clock: Clock) -> None:
        """`account` is its id alone. Sends nothing."""
        self._wire, self._environ, self._clock = wire, environ, clock
        self._collection = f"accounts/{account}/deployments"

    def deploy(self, name: str, model: str) -> bool:
        """Have the model (its whole name) deployed; False: it is under way. Raises ProviderError."""
        there = self._look(name)
        if there is None:
            self._create(name, model)
            return False
        if _mark(there) != name or there.get("baseModel") != model:
            raise ProviderError(
                Problem(
                    code="E407",
                    what=f"a deployment {as_named(name)} is there already, and is not the one that ft makes",
                    why="ft never changes what it has not made",
                    fix="delete it in Fireworks' console",
                )
            )
        if _state(there) == _GONE:
            # Somebody has deleted it, so that it can be restored; until then it keeps the id.
            self._delete(name)
            return False
        if _state(there) == _FAILED:
            raise self._failed(name, model, there)
        return _state(there) == _READY and _has_replica(there)

    def base_at(self, base: str, address: Upstream) -> BaseAt:
        """See `Deployable.base_at`. `base` is its whole name, `address` where inference is."""
        served = self._serverless(base)
        if served:
            return BaseAt(at=replace(address, model=base), why=f"{TITLE} lists it among those that it serves to all")
        for row in self._rows():
            if row.get("baseModel") == base and _state(row) == _READY and _has_replica(row):
                # Named so, one that has adapters too answers as its base.
                at = replace(address, model=f"{base}#{row['name']}")
                return BaseAt(at=at, why=f"{row['name']} is a deployment of it")
        if served is None:
            why = f"{TITLE} does not say whether it serves it to all"
            return BaseAt(at=replace(address, model=base), why=why, known=False)
        why = f"{TITLE} does not serve it to all, the account has no deployment of it, and in ours it is merged"
        fix = f"have it deployed while it is measured: `firectl deployment create {base}`, which bills by the hour"
        return BaseAt(at=None, why=why, fix=fix)

    def _serverless(self, base: str) -> bool | None:
        """Whether it is served to all; None: the API does not say. Raises ProviderError."""
        owner, _, _ = base.partition("/models/")
        if owner != _LIBRARY:
            return False
        path, doing = f"/v1/{_LIBRARY}/models", "list what is served to all"
        try:
            rows = list(self._wire.pages(doing, path, "models", only=_SERVERLESS))
        except ProviderError as error:
            if error.retry or isinstance(error, AuthenticationFailed):
                raise
            return None
        # None at all is no list of what is served.
        return any(row["name"] == base and row.get("supportsServerless", True) for row in rows) if rows else None

    def deployed(self) -> list[Hosted]:
        """See `Deployable.deployed`."""
        rows = [row for row in self._rows() if _mark(row) and _state(row) != _GONE]
        return [Hosted(name=_mark(row), state=self._wire.troubles.clean(_state(row))) for row in rows]

    def undeploy(self, name: str) -> None:
        """See `Deployable.undeploy`. Blocks for up to twenty seconds."""
        there = self._look(name)
        if not self._costs(there, name):
            return
        if _state(there or {}) != _GOING:
            self._delete(name)
        for _ in range(_LOOKS):
            there = self._look(name)
            if not self._costs(there, name):
                return
            self._clock.sleep(_LOOK_S)
        what = f"{TITLE} still has the deployment {as_named(name)}, which it was told to delete"
        why = f"it is {self._wire.troubles.clean(_state(there or {}))}; that takes a while, and may have failed there"
        raise ProviderUnavailable(Problem(code="E844", what=what, why=why, fix="`ft models sync` goes on by itself"))

    def model(self, name: str) -> str:
        """What a deployment of this name is asked by."""
        return f"{self._collection}/{as_named(name)}"

    @staticmethod
    def _costs(there: Json | None, name: str) -> bool:
        """Whether it is there, ours, and billed."""
        return there is not None and _mark(there) == name and _state(there) != _GONE

    def _look(self, name: str) -> Json | None:
        found = self._wire.known("look at the deployment", self.model(name))
        if found is not None:
            return found
        # A wrong account is a 404, too, and would pass for a deployment that is gone while it costs.
        return next((row for row in self._rows() if row["name"] == self.model(name)), None)

    def _rows(self) -> list[Json]:
        return list(self._wire.pages("list the deployments", f"/v1/{self._collection}", "deployments"))

    def _create(self, name: str, model: str) -> None:
        """One request. That no second one is made is held by the id, of which an account has one."""
        doing, (gpu, count) = "deploy the model", _hardware(self._environ)
        body: Json = {
            "baseModel": model,
            "displayName": as_named(name)[:_SHOWN],
            "description": f"{_MARK}{name}",
            # One that is validated for the model and has these GPUs: the API refuses where there is none.
            "deploymentShape": "default",
            "acceleratorType": gpu,
            "acceleratorCount": int(count),
            # Never more than is agreed to; and never none, as the first call after that is refused for minutes.
            "minReplicaCount": 1,
            "maxReplicaCount": 1,
        }
        path, params = f"/v1/{self._collection}", {"deploymentId": as_named(name)}
        answer = self._wire.ask(doing, Ask(method="POST", path=path, params=params, body=body))
        if answer.status == 409:
            # Another worker was faster; or the id of one that was deleted is not free yet.
            return
        if not answer.good:
            raise self._refusal(doing, answer, model)
        made = self._wire.read(doing, answer)
        has = made.get("acceleratorType", gpu), made.get("acceleratorCount", int(count))
        if has != (gpu, int(count)):
            what = f"{TITLE} deploys {model} on {self._wire.troubles.clean(f'{has[1]} x {has[0]}')}"
            why, fix = (
                f"asked for, and agreed to, are {count} x {gpu}",
                f"say it by {GPU} and {GPUS}, and agree to that",
            )
            raise ProviderError(Problem(code="E407", what=what, why=why, fix=fix))

    def _delete(self, name: str) -> None:
        """For good, as one that could be restored would keep the id, and though it was asked within the hour."""
        doing, params = "undo the deployment", {"hard": "true", "ignoreChecks": "true"}
        answer = self._wire.ask(doing, Ask(method="DELETE", path=f"/v1/{self.model(name)}", params=params))
        if not answer.good and answer.status != 404:
            raise self._wire.refusal(doing, answer)

    def _refusal(self, doing: str, answer: Answer, model: str) -> ProviderError:
        error = self._wire.refusal(doing, answer)
        if answer.status != 400:
            return error
        fits = f"`firectl deployment-shape-version match --model {model}` shows what fits"
        (problem,) = error.problems
        fix = f"{fits}: export {GPU}=... and {GPUS}=..."
        return ProviderError(Problem(code=problem.code, what=problem.what, why=problem.why, fix=fix))

    def _failed(self, name: str, model: str, there: Json) -> ProviderError:
        status = there.get("status")
        said = self._wire.troubles.clean(str(status.get("message") or "")) if isinstance(status, dict) else ""
        what = f"{TITLE} has not deployed {model}: its deployment {as_named(name)} has failed"
        fix = f"see the deployment in Fireworks' console; quota, and GPUs that do not fit ({GPU}), are frequent causes"
        return ProviderError(Problem(code="E407", what=what, why=f"it says: {said or 'nothing'}", fix=fix))


def unusable(environ: Mapping[str, str]) -> list[Problem]:
    """What of the variables is none; see `Deployable.undeployable`."""
    return [missing(what, fix) for what, fix in _faults(environ)]


def as_named(name: str) -> str:
    """The id of the deployment of this name. Never the same for two."""
    own = f"{_PREFIX}{name}"
    if len(own) <= _LONGEST and _ID.fullmatch(own):
        return own
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: _LONGEST - len(_PREFIX) - 13].rstrip("-")
    return f"{_PREFIX}{words or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _faults(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    gpu, count = _hardware(environ)
    found = []
    if not _GPU_NAME.fullmatch(gpu):
        found.append((f"{GPU} is no name of a GPU", f"write it as Fireworks does: export {GPU}={_GPU}"))
    if not (count.isascii() and count.isdigit() and 0 < int(count) <= _MOST_GPUS):
        found.append((f"{GPUS} is no whole number from 1 to {_MOST_GPUS}", f"export {GPUS}=1"))
    return found


def _hardware(environ: Mapping[str, str]) -> tuple[str, str]:
    """The GPU's name and how many, as they are said."""
    return variable(environ, GPU) or _GPU, variable(environ, GPUS) or "1"


def _amount(text: str) -> Decimal | None:
    return Decimal(text) if re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,4})?", text) else None


def _state(there: Json) -> str:
    return str(there.get("state") or "unknown")


def _mark(there: Json) -> str:
    said = str(there.get("description") or "")
    return said.removeprefix(_MARK) if said.startswith(_MARK) else ""


def _has_replica(there: Json) -> bool:
    """Whether something answers; where the API does not count them, READY has to do."""
    stats = there.get("replicaStats")
    return not isinstance(stats, dict) or not stats or bool(stats.get("readyReplicaCount"))
