"""A version at its gateways: told, given its share, forgotten. Every call may be repeated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from finetune.deployments import Deployment, FollowsBooks, Gateway, Registered, Shares
from finetune.errors import GatewayError, Problem
from finetune.ports import Clock
from finetune.releases import ModelStore, PromotionStore
from finetune.versions import ModelStatus, ModelVersion, Placed, Traffic

#: The version as a deployment behind an alias. Raises GatewayError: its files have changed, or it cannot be served.
Describe = Callable[[ModelVersion, str], Deployment]


class Places:
    """What gateways have of our versions, in our books and there."""

    def __init__(
        self,
        models: ModelStore,
        promotions: PromotionStore,
        gateway: Callable[[str], Gateway],
        describe: Describe,
        clock: Clock,
    ) -> None:
        """`gateway` finds one by its name; raises GatewayError."""
        self.gateway = gateway
        self._models, self._promotions = models, promotions
        self._describe, self._clock = describe, clock

    def against(self, model: ModelVersion, alias: str, gateways: Sequence[str]) -> list[Problem]:
        """All that stands against serving it at these gateways. Changes nothing."""
        if not gateways:
            # Of a version that no gateway shall have nothing needs to be known.
            return []
        deployment = self._describe(model, alias)
        return [problem for name in gateways for problem in self.gateway(name).preflight(deployment)]

    def register(self, model: ModelVersion, alias: str, gateways: Sequence[str]) -> dict[str, Deployment]:
        """Tell each gateway of it, in order, without calls; what is there stays as it is.

        Those that come first hold the weights for those after them. Noted in our books before a gateway is told: a
        crash leaves nothing at a gateway that `sync` does not know.
        """
        if not gateways:
            return {}
        deployment, told = self._describe(model, alias), {}
        for name in gateways:
            gateway = self.gateway(name)
            knows_aliases = isinstance(gateway, Shares) and not isinstance(gateway, FollowsBooks)
            listed_as = deployment.id if knows_aliases else deployment.model
            self._promotions.place(
                Placed(
                    gateway=name,
                    id=deployment.id,
                    name=model.name,
                    version=model.version,
                    alias=alias,
                    listed_as=listed_as,
                    at=self._clock.now(),
                )
            )
            upstream = gateway.register(deployment)
            if upstream is not None and deployment.upstream is None:
                deployment = replace(deployment, upstream=upstream)
                if model.status is ModelStatus.TRAINED:
                    self._models.set_status(model.name, model.version, ModelStatus.LOADED)
            told[name] = deployment
        return told

    def divide(self, traffic: Traffic, gateways: Sequence[str]) -> None:
        """Have the calls divided so at each gateway that divides calls; versions with a share are registered first."""
        versions = {model.version: model for model in self._models.models(traffic.name)}
        ids: dict[str, dict[str, float]] = {name: {} for name in gateways}
        for version, share in traffic.shares.items():
            if share > 0 and gateways:
                for name, deployment in self.register(versions[version], traffic.alias, gateways).items():
                    ids[name][deployment.id] = share
                    public = deployment.public
        for name in gateways if any(ids.values()) else ():
            gateway = self.gateway(name)
            if isinstance(gateway, Shares):
                gateway.set_traffic(public, ids[name])

    def forget(self, placed: Sequence[Placed]) -> None:
        """Have each gateway forget them, the last told first. Silent about what is not there."""
        kept = self._promotions.placed()
        for each in sorted(placed, key=lambda one: one.at, reverse=True):
            same = [one for one in kept if (one.gateway, one.listed_as) == (each.gateway, each.listed_as)]
            if len(same) <= 1:
                self.gateway(each.gateway).unregister(each.listed_as)
            # Another alias may need the same weights.
            self._promotions.unplace(each.gateway, each.id)
            kept = [one for one in kept if one is not each and (one.gateway, one.id) != (each.gateway, each.id)]

    def of(self, name: str, alias: str) -> list[Placed]:
        """What is placed for this alias."""
        return [each for each in self._promotions.placed() if (each.name, each.alias) == (name, alias)]

    def gateways(self, name: str, alias: str) -> tuple[str, ...]:
        """Where this alias is served, in the order in which they were told."""
        return tuple(dict.fromkeys(each.gateway for each in self.of(name, alias)))


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One difference between our books and a gateway."""

    gateway: str
    id: str
    #: `missing`, `unknown` (ours by its name, in none of our books), `share`, `unreachable`
    kind: str
    #: In a sentence.
    what: str
    #: Whether it was mended, or will be when asked to.
    mended: bool = False


class Sync:
    """Compares what gateways have with what they should have, and mends it. Deletes only what carries our marks."""

    def __init__(self, models: ModelStore, promotions: PromotionStore, places: Places) -> None:
        self._models, self._promotions, self._places = models, promotions, places

    def look(self, gateways: Sequence[str] = ()) -> list[Drift]:
        """All differences, at the gateways of our books and those named. Changes nothing."""
        placed = self._promotions.placed()
        names = dict.fromkeys([*(each.gateway for each in placed), *gateways])
        traffic = {(each.name, each.alias): each for each in self._models.all_traffic()}
        return [drift for name in names for drift in self._at(name, placed, traffic)]

    def mend(self, drifts: Sequence[Drift]) -> list[Drift]:
        """Register what is missing, divide calls as they should be, forget what is unknown; what was done.

        Raises GatewayError at the first that cannot be mended.
        """
        done, placed = [], {(each.gateway, each.id): each for each in self._promotions.placed()}
        for drift in drifts:
            each = placed.get((drift.gateway, drift.id))
            if drift.kind == "unknown":
                self._places.gateway(drift.gateway).unregister(drift.id)
            elif each is not None:
                self._restore(each)
            else:
                continue
            done.append(replace(drift, mended=True))
        return done

    def _restore(self, each: Placed) -> None:
        gateways = self._places.gateways(each.name, each.alias)
        model = next(model for model in self._models.models(each.name) if model.version == each.version)
        self._places.register(model, each.alias, gateways)
        if traffic := self._models.traffic(each.name, each.alias):
            self._places.divide(traffic, gateways)

    def _at(self, name: str, placed: Sequence[Placed], traffic: Mapping[tuple[str, str], Traffic]) -> list[Drift]:
        mine = [each for each in placed if each.gateway == name]
        try:
            gateway = self._places.gateway(name)
            there = {each.id: each for each in gateway.registered()}
        except GatewayError as error:
            return [Drift(gateway=name, id="", kind="unreachable", what=error.problems[0].what)]
        found = []
        for each in mine:
            seen = there.get(each.listed_as)
            if seen is None:
                what = f"{each.name}@v{each.version} is not there"
                found.append(Drift(gateway=name, id=each.id, kind="missing", what=what))
            elif drift := _share(each, seen, traffic.get((each.name, each.alias))):
                found.append(drift)
        if isinstance(gateway, FollowsBooks):
            return found
        known = {each.listed_as for each in mine}
        what = "it carries our marks, and nothing of ours should be there under this name"
        found += [Drift(gateway=name, id=one, kind="unknown", what=what) for one in there if one not in known]
        return found


def _share(each: Placed, seen: Registered, traffic: Traffic | None) -> Drift | None:
    """Of a deployment that is there: whether it gets the calls that it should."""
    if seen.share is None:
        return None
    wanted = traffic.shares.get(each.version, 0.0) if traffic else 0.0
    if abs(wanted - seen.share) < 0.005:
        return None
    what = f"{each.name}@v{each.version} gets {seen.share:.0%} of the calls, not {wanted:.0%}"
    return Drift(gateway=each.gateway, id=each.id, kind="share", what=what)
