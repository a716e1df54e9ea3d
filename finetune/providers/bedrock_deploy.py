"""Deployments of tuned models at Amazon Bedrock for inference on demand: one request makes each, calls are paid by the
token.

Sources, read 2026-11-29: the package's own description of Bedrock (2023-04-20) for names, states and requests; "Deploy
a custom model for on-demand inference" in Amazon's guide for which models, where, and that only use is paid.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from finetune.abilities import Hosted, Hosting
from finetune.deployments import Upstream
from finetune.errors import Problem, ProviderError
from finetune.jobs import Json
from finetune.providers.bedrock_wire import Wire, code_of, region

if TYPE_CHECKING:
    from finetune.catalogue import ProviderSheet

#: What begins the name of each of ours, and what begins its description, where the name that we gave stands whole.
_PREFIX: Final = "ft-"
_MARK: Final = "ft_model="
_LONGEST: Final = 63
_NAME: Final = re.compile(r"([0-9a-zA-Z][_-]?)+")
_READY: Final = "Active"
_FAILED: Final = "Failed"
#: As the catalogue names it.
_DEPLOYMENT: Final = "on-demand"
_KIND: Final = "on demand, paid by the token"
_REGIONS: Final = "Amazon's guide names us-east-1 and us-west-2 as the regions that can"
#: How LiteLLM is told what a model behind an ARN can do, by the base in the ARN of the tuned model.
_SPEAKS: Final[Mapping[str, str]] = {"amazon.nova-2-": "nova-2", "amazon.nova-": "nova"}
_OTHERWISE: Final = "converse"


def hosting(sheet: "ProviderSheet | None", base_model: str) -> Hosting:
    """See `Deployable.hosting`: by the catalogue. Sends nothing."""
    from finetune.catalogue.costs import hosting as published

    price = published(sheet, base_model, _DEPLOYMENT) if sheet else None
    if sheet is not None and price is not None:
        source = sheet.sources[price.source]
        said = f"Amazon's page {source.title!r}, read {source.read}"
        return Hosting(usd_per_hour=price.usd, source=said, kind=_KIND, fix="")
    why = f"Amazon's pages do not name {base_model} among the models that are hosted without an hourly price"
    fix = "deploy it in Amazon's console, and put its address into the gateway yourself"
    return Hosting(usd_per_hour=None, source=why, kind=_KIND, fix=fix)


class Deployments:
    """What `abilities.Deployable` is, for one account and region. Safe for threads."""

    def __init__(self, wire: Wire, environ: Mapping[str, str]) -> None:
        """Sends nothing."""
        self._wire, self._region = wire, region(environ)

    def deploy(self, name: str, model: str) -> Upstream | None:
        """Have the model (an ARN) deployed; None: it is under way. Raises ProviderError."""
        there = self._look(_as_named(name))
        if there is None:
            self._create(name, model)
            return None
        if not _is_of(there, name) or there.get("modelArn") != model:
            raise ProviderError(
                Problem(
                    code="E407",
                    what=f"a deployment {_as_named(name)} is there already, and is not the one that ft makes",
                    why="ft never changes what it has not made",
                    fix="delete or rename it in Amazon's console",
                )
            )
        if there.get("status") == _FAILED:
            words = self._wire.clean(str(there.get("failureMessage") or "nothing"))
            what = f"Amazon Bedrock has not deployed {model}: its deployment {_as_named(name)} has failed"
            fix = f"see the deployment in Amazon's console; {_REGIONS}"
            raise ProviderError(Problem(code="E407", what=what, why=f"it says: {words}", fix=fix))
        return self._upstream(there) if there.get("status") == _READY else None

    def hosted_at(self, name: str) -> Upstream:
        """Where it answers: at an ARN that the service has chosen, so it is asked. Raises ProviderError."""
        there = self._look(_as_named(name))
        if there is None or not _is_of(there, name):
            what = f"Amazon Bedrock has no deployment {_as_named(name)}"
            fix = "promote the version again, which deploys it"
            raise ProviderError(Problem(code="E402", what=what, why="it was deleted there", fix=fix))
        return self._upstream(there)

    def deployed(self) -> list[Hosted]:
        """See `Deployable.deployed`. Only a look at each tells whether it is ours."""
        found = []
        for row in self._rows():
            there = self._look(str(row.get("customModelDeploymentArn") or ""))
            if there is not None and (name := _mark(there)):
                found.append(Hosted(name=name, state=str(there.get("status") or "unknown")))
        return found

    def undeploy(self, name: str) -> None:
        """See `Deployable.undeploy`."""
        there = self._look(_as_named(name))
        if there is None or not _is_of(there, name):
            return
        arn = there["customModelDeploymentArn"]
        self._ask(
            "undo the deployment",
            lambda: self._wire.jobs.delete_custom_model_deployment(customModelDeploymentIdentifier=arn),
        )

    def _create(self, name: str, model: str) -> None:
        # No token of ours: one that was used for a deployment which has been deleted since would be ignored. That no
        # second one is made is held by the name, of which an account has one.
        self._wire.ask(
            "deploy the model",
            lambda: self._wire.jobs.create_custom_model_deployment(
                modelDeploymentName=_as_named(name), modelArn=model, description=f"{_MARK}{name}"
            ),
        )

    def _look(self, known: str) -> Json | None:
        """The deployment of this name or ARN; None: it is not there. Raises ProviderError."""
        doing = "look at the deployment"
        there: Json | None = self._ask(
            doing, lambda: self._wire.jobs.get_custom_model_deployment(customModelDeploymentIdentifier=known)
        )
        if there is not None and not there.get("customModelDeploymentArn"):
            raise self._wire.nonsense(doing, "the answer is no deployment")
        return there

    def _rows(self) -> Iterator[Json]:
        rows = self._wire.rows(
            "list the deployments",
            self._wire.jobs.list_custom_model_deployments,
            "modelDeploymentSummaries",
            nameContains=_PREFIX,
        )
        for row in rows:
            if str(row.get("customModelDeploymentName") or "").startswith(_PREFIX):
                yield row

    def _ask(self, doing: str, call: Any) -> Any:
        """As `Wire.ask`; None when it is not there."""
        try:
            return self._wire.ask(doing, call)
        except ProviderError as error:
            if code_of(error) != "E402":
                raise
            return None

    def _upstream(self, there: Json) -> Upstream:
        base = str(there.get("modelArn") or "").partition(":custom-model/")[2]
        speaks = next((word for start, word in _SPEAKS.items() if base.startswith(start)), _OTHERWISE)
        where = {"aws_region_name": self._region} if self._region else {}
        return Upstream(kind="bedrock", model=f"{speaks}/{there['customModelDeploymentArn']}", params=where)


def _as_named(name: str) -> str:
    if _NAME.fullmatch(name) and len(_PREFIX + name) <= _LONGEST:
        return _PREFIX + name
    words = re.sub(r"[^0-9a-zA-Z]+", "-", name).strip("-")[: _LONGEST - len(_PREFIX) - 13].rstrip("-")
    return f"{_PREFIX}{words}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _mark(one: Json) -> str:
    said = str(one.get("description") or "")
    return said.removeprefix(_MARK) if said.startswith(_MARK) else ""


def _is_of(one: Json, name: str) -> bool:
    return _mark(one) == name
