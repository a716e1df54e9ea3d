"""Versions that their provider has to deploy before they answer, and bills by the hour until that is undone.

A provider's hosting stands among the gateways as one that holds weights (`Host`): it is noted in our books before it is
told, undone when a promotion fails or a version retires, and compared by `sync`. What is added here is consent to the
running cost, and patience while a deployment is under way.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from finetune.abilities import Deployable, Hosting
from finetune.deployments import Deployment, Registered, Said, Upstream
from finetune.errors import GatewayError, GatewayUnavailable, Problem, ProviderError
from finetune.jobs import Json
from finetune.spec.types import dollars
from finetune.versions import ModelVersion, Promotion

if TYPE_CHECKING:
    from finetune.placing import Places

#: A promotion waits so long for its deployment, counted from its beginning; then it is undone.
LONGEST: Final = timedelta(hours=2)
#: Between two looks at one that is under way.
LOOK: Final = timedelta(seconds=15)
_HOURS_A_MONTH: Final = 730


class UnderWay(GatewayUnavailable):
    """A deployment is being made. No failure: the same call finds it done, minutes later."""


class Host:
    """`deployments.Gateway` and `deployments.Hosts` of a provider that is `abilities.Deployable`."""

    def __init__(self, name: str, provider: Deployable) -> None:
        """`name` is the provider's. Sends nothing."""
        self.name = self.hosts = name
        self._provider = provider

    def hosting(self, base_model: str) -> Hosting:
        """See `Deployable.hosting`."""
        return self._provider.hosting(base_model)

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """See `Gateway.preflight`. Sends nothing."""
        if deployment.artifact is None:
            what = f"{deployment.ref} was not trained at {self.name}, so it cannot be deployed there"
            return [Problem(code="E837", what=what, fix="name a gateway that takes adapters")]
        return self._provider.undeployable()

    def register(self, deployment: Deployment) -> Upstream | None:
        """See `Gateway.register`. Raises UnderWay until it answers."""
        if problems := self.preflight(deployment):
            raise GatewayError(*problems)
        assert deployment.artifact is not None
        try:
            upstream = self._provider.deploy(deployment.model, deployment.artifact)
        except ProviderError as error:
            raise _as_gateway(error) from error
        if upstream is None:
            what = f"{deployment.ref} is being deployed at {self.name}"
            raise UnderWay(Problem(code="E844", what=what, why="that takes minutes", fix="ft looks again by itself"))
        return upstream

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        try:
            return [
                Registered(id=each.name, stopped=each.stopped, says={"state": each.state})
                for each in self._provider.deployed()
            ]
        except ProviderError as error:
            raise _as_gateway(error) from error

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """Refused: callers ask through a gateway, and that is where a version is proved."""
        what = f"{deployment.ref} is not asked at {self.name} itself"
        raise GatewayError(Problem(code="E837", what=what, fix="register it at a gateway that passes calls on"))

    def unregister(self, name: str) -> None:
        """See `Gateway.unregister`. From here on it costs nothing."""
        try:
            self._provider.undeploy(name)
        except ProviderError as error:
            raise _as_gateway(error) from error


def price(hosting: Hosting) -> str:
    """`1.70 USD an hour, about 1241 USD a month`; or that nobody knows."""
    if hosting.usd_per_hour is None:
        return "nobody knows what an hour"
    return f"{hosting.usd_per_hour} USD an hour, about {hosting.usd_per_hour * _HOURS_A_MONTH:.0f} USD a month"


def against(what: str, hosting: Hosting, accepted: Decimal | None) -> Problem | None:
    """What stands against deploying it (E843); None: the running cost is known and agreed to.

    `accepted` is US dollars an hour, None: nobody has said anything. A price that is not known is never agreed to.
    """
    usd = hosting.usd_per_hour
    if usd is None:
        what = f"{what} has to be deployed, and what an hour of that costs is not known"
        return Problem(code="E843", what=what, why=hosting.source, fix=hosting.fix)
    if usd == 0 or (accepted is not None and usd <= accepted):
        # Where only use is paid there is nothing to agree to.
        return None
    said = "nobody has agreed to that" if accepted is None else f"agreed to are {accepted} USD an hour"
    return Problem(
        code="E843",
        what=f"{what} has to be deployed ({hosting.kind}), and that costs {price(hosting)}, used or not",
        why=f"{said}; the price is that of {hosting.source}",
        fix=f'agree by `register: {{max_hosting: {_up(usd)} USD}}`, or `ft promote --max-hosting "{_up(usd)} USD"`',
    )


def notice(what: str, hosting: Hosting) -> Problem | None:
    """What is told of a running cost that is agreed to, before anything is paid for; None: only use is paid."""
    if hosting.usd_per_hour == 0:
        return None
    why = f"the price is that of {hosting.source}; it ends when the version retires"
    return Problem(
        code="E843", level="warning", what=f"{what} will be deployed, at {price(hosting)}, used or not", why=why
    )


def agreed(places: "Places", model: ModelVersion, promotion: Promotion) -> str | None:
    """The name of the hosting that the promotion goes through first; None: it needs none.

    Raises GatewayError E843 without consent, and what stands against deploying at all. Sends nothing.
    """
    name = places.host_of(model) if promotion.gateways else None
    if name is None:
        return None
    host = places.gateway(name)
    assert isinstance(host, Host)
    accepted = dollars(promotion.max_hosting) if promotion.max_hosting else None
    if problem := against(model.ref, host.hosting(model.base_model), accepted):
        raise GatewayError(problem)
    if problems := places.against(model, promotion.alias, (name,)):
        raise GatewayError(*problems)
    return name


def deployed(
    places: "Places", model: ModelVersion, promotion: Promotion, foreseen: Callable[[], None]
) -> tuple[str, list[str]] | None:
    """Have the version deployed, noted in our books first: the hosting's name, and what is to be told.

    `foreseen` raises what would stand against it once it is deployed; it is asked before it is. None: it needs none.
    Raises UnderWay, and what `agreed` and `foreseen` raise.
    """
    name = agreed(places, model, promotion)
    if name is None:
        return None
    mine = places.of(promotion.name, promotion.alias)
    if not any((each.gateway, each.version) == (name, model.version) for each in mine):
        foreseen()
    there = places.register(model, promotion.alias, (name,))[name]
    host = places.gateway(name)
    assert isinstance(host, Host)
    at = there.upstream.model if there.upstream else there.model
    return name, [f"deployed at {name} as {at}: {price(host.hosting(model.base_model))}, until the version retires"]


def waits(promotion: Promotion, error: UnderWay, now: datetime) -> Json | None:
    """What becomes of a promotion that waits for a deployment: looked at again later, noted once; None: too long."""
    if now >= promotion.created_at + LONGEST:
        return None
    note = error.problems[0].what
    known = bool(promotion.notes) and promotion.notes[-1]["text"] == note
    noted = () if known else ({"at": now.isoformat(), "text": note},)
    return {"due_at": now + LOOK, "notes": (*promotion.notes, *noted)}


def _up(usd: Decimal) -> Decimal:
    """As a recipe writes money: with at most two digits, not below it."""
    return usd.quantize(Decimal("0.01"), rounding="ROUND_CEILING")


def _as_gateway(error: ProviderError) -> GatewayError:
    return (GatewayUnavailable if error.retry else GatewayError)(*error.problems)
