"""Deployments of tuned models at Amazon Bedrock for inference on demand: one request makes each, calls are paid by the
token.

Sources, read 2026-11-29: the package's own description of Bedrock (2023-04-20) for names, states and requests; "Deploy
a custom model for on-demand inference" in Amazon's guide for which models, where, and that only use is paid.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from finetune.abilities import BaseAt, Hosted, Hosting
from finetune.deployments import Upstream
from finetune.errors import Problem, ProviderError
from finetune.jobs import Json
from finetune.providers.bedrock_wire import REGIONS, Wire, code_of, everywhere, region_of

if TYPE_CHECKING:
    from finetune.catalogue import ProviderSheet

T = TypeVar("T")

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
    fix = "buy Provisioned Throughput for it in Amazon's console, and put its address into the gateway yourself"
    return Hosting(usd_per_hour=None, source=why, kind=_KIND, fix=fix)


def base_at(base_model: str) -> BaseAt:
    """See `Deployable.base_at`: on demand, by its id without the length of context that stands behind it for tuning."""
    model = f"{_OTHERWISE}/{re.sub(r':[0-9]+k$', '', base_model)}"
    return BaseAt(at=Upstream(kind="bedrock", model=model), why="most of Amazon's bases answer on demand", known=False)


class Deployments:
    """What `abilities.Deployable` is, for one account. A model is deployed in its own region. Safe for threads."""

    def __init__(self, wire: Callable[[str], Wire], own: str) -> None:
        """`wire` gives what speaks to a region; `own` is looked at first. Sends nothing."""
        self._wire, self._own = wire, own

    def deploy(self, name: str, model: str) -> Upstream | None:
        """Have the model (an ARN) deployed; None: it is under way. Raises ProviderError."""
        where = region_of(model) or self._own
        there = self._look(where, _as_named(name))
        if there is None:
            self._create(where, name, model)
            return None
        if _mark(there) != name or there.get("modelArn") != model:
            raise ProviderError(
                Problem(
                    code="E407",
                    what=f"a deployment {_as_named(name)} is there already, and is not the one that ft makes",
                    why="ft never changes what it has not made",
                    fix="delete or rename it in Amazon's console",
                )
            )
        if there.get("status") == _FAILED:
            words = self._wire(where).clean(str(there.get("failureMessage") or "nothing"))
            what = f"Amazon Bedrock has not deployed {model}: its deployment {_as_named(name)} has failed"
            can = f"by Amazon's guide {' and '.join(REGIONS)} can host it"
            fix = f"delete it in Amazon's console and promote again; {can}"
            raise ProviderError(Problem(code="E407", what=what, why=f"it says: {words}", fix=fix))
        return _upstream(there) if there.get("status") == _READY else None

    def hosted_at(self, name: str) -> Upstream:
        """Where it answers: at an ARN that the service has chosen, so it is asked. Raises ProviderError."""
        _, there = self._found(name)
        if there is None:
            what = f"Amazon Bedrock has no deployment {_as_named(name)}"
            fix = "promote the version again, which deploys it"
            raise ProviderError(Problem(code="E402", what=what, why="it was deleted there", fix=fix))
        return _upstream(there)

    def deployed(self) -> list[Hosted]:
        """See `Deployable.deployed`. Only a look at each tells whether it is ours."""
        return list(everywhere(self._own, self._ours))

    def undeploy(self, name: str) -> None:
        """See `Deployable.undeploy`."""
        where, there = self._found(name)
        if there is None:
            return
        arn, wire = there["customModelDeploymentArn"], self._wire(where)
        _absent(
            wire,
            "undo the deployment",
            lambda: wire.jobs.delete_custom_model_deployment(customModelDeploymentIdentifier=arn),
        )

    def _create(self, where: str, name: str, model: str) -> None:
        # No token of ours: one that was used for a deployment which has been deleted since would be ignored. That no
        # second one is made is held by the name, of which an account has one.
        wire = self._wire(where)
        wire.ask(
            "deploy the model",
            lambda: wire.jobs.create_custom_model_deployment(
                modelDeploymentName=_as_named(name), modelArn=model, description=f"{_MARK}{name}"
            ),
        )

    def _found(self, name: str) -> tuple[str, Json | None]:
        """Where our deployment of this name is, and what it is; None: it is nowhere. Raises ProviderError."""

        def ask(where: str) -> list[tuple[str, Json | None]]:
            there = self._look(where, _as_named(name))
            return [(where, there)] if there is not None and _mark(there) == name else []

        return next(everywhere(self._own, ask), (self._own, None))

    def _look(self, where: str, known: str) -> Json | None:
        """The deployment of this name or ARN; None: it is not there. Raises ProviderError."""
        doing, wire = "look at the deployment", self._wire(where)
        there: Json | None = _absent(
            wire, doing, lambda: wire.jobs.get_custom_model_deployment(customModelDeploymentIdentifier=known)
        )
        if there is not None and not there.get("customModelDeploymentArn"):
            raise wire.nonsense(doing, "the answer is no deployment")
        return there

    def _ours(self, where: str) -> list[Hosted]:
        found = []
        for row in self._rows(where):
            there = self._look(where, str(row.get("customModelDeploymentArn") or ""))
            if there is not None and (name := _mark(there)):
                found.append(Hosted(name=name, state=str(there.get("status") or "unknown")))
        return found

    def _rows(self, where: str) -> Iterator[Json]:
        wire = self._wire(where)
        rows = wire.rows(
            "list the deployments",
            wire.jobs.list_custom_model_deployments,
            "modelDeploymentSummaries",
            nameContains=_PREFIX,
        )
        for row in rows:
            if str(row.get("customModelDeploymentName") or "").startswith(_PREFIX):
                yield row


def _absent(wire: Wire, doing: str, call: Callable[[], T]) -> T | None:
    """As `Wire.ask`; None when it is not there."""
    try:
        return wire.ask(doing, call)
    except ProviderError as error:
        if code_of(error) != "E402":
            raise
        return None


def _upstream(there: Json) -> Upstream:
    base = str(there.get("modelArn") or "").partition(":custom-model/")[2]
    speaks = next((word for start, word in _SPEAKS.items() if base.startswith(start)), _OTHERWISE)
    arn = str(there["customModelDeploymentArn"])
    where = region_of(arn)
    return Upstream(kind="bedrock", model=f"{speaks}/{arn}", params={"aws_region_name": where} if where else {})


def _as_named(name: str) -> str:
    if _NAME.fullmatch(name) and len(_PREFIX + name) <= _LONGEST:
        return _PREFIX + name
    words = re.sub(r"[^0-9a-zA-Z]+", "-", name).strip("-")[: _LONGEST - len(_PREFIX) - 13].rstrip("-")
    return f"{_PREFIX}{words}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _mark(one: Json) -> str:
    said = str(one.get("description") or "")
    return said.removeprefix(_MARK) if said.startswith(_MARK) else ""
