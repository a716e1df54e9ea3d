"""A version at its gateways: told, given its share, forgotten. Every call may be repeated."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from finetune.deployments import Deployment, FollowsBooks, Gateway, Hosts, Registered, Shares
from finetune.errors import GatewayError, Problem
from finetune.names import public_name
from finetune.ports import Clock
from finetune.releases import ModelStore, PromotionStore
from finetune.versions import ModelStatus, ModelVersion, Placed, Promotion, Traffic, way_back

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
        *,
        host: Callable[[ModelVersion], str | None] = lambda model: None,
    ) -> None:
        """`gateway` finds one by its name; raises GatewayError.

        `host` names the gateway that has to hold a version before any other can serve it; None: there is none.
        """
        self.gateway, self.host_of = gateway, host
        self._models, self._promotions = models, promotions
        self._describe, self._clock = describe, clock

    def against(self, model: ModelVersion, alias: str, gateways: Sequence[str]) -> list[Problem]:
        """All that stands against serving it at these gateways. Changes nothing."""
        if not gateways and "path" not in model.artifact:
            # Where a hosted version answers concerns gateways only; what lies here the embedded server has to load.
            return []
        deployment = self._describe(model, alias)
        return [problem for name in self._fit(model, gateways) for problem in self.gateway(name).preflight(deployment)]

    def register(self, model: ModelVersion, alias: str, gateways: Sequence[str]) -> dict[str, Deployment]:
        """Tell each gateway of it, without calls; what is there stays as it is.

        Those that hold weights come before those that pass calls on, else in the order given. Noted in our books before
        a gateway is told: a crash leaves nothing at a gateway that `sync` does not know.
        """
        if not gateways:
            return {}
        deployment, told = self._describe(model, alias), {}
        for name in sorted(self._fit(model, gateways), key=self.passes_on):
            gateway = self.gateway(name)
            listed_as = deployment.id if self.passes_on(name) else deployment.model
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

    def divide(self, traffic: Traffic, gateways: Sequence[str], *, new: int | None = None) -> None:
        """Have the calls divided so at each gateway that divides calls; versions with a share are registered first.

        `new` is the version that gains: what stands in its way stops all of it. Without one as much is done as can be,
        a gateway that fails keeps no other from it, and the first failure is raised in the end. A version that is not
        new and cannot be registered again is taken as the gateways have it. Books that have changed meanwhile are
        followed: whoever told gateways last has told them what the books say. Raises GatewayError.
        """
        while gateways:
            self._divide(traffic, gateways, new)
            now = self._models.traffic(traffic.name, traffic.alias)
            if now is None or now.shares == traffic.shares:
                return
            traffic = now

    def _divide(self, traffic: Traffic, gateways: Sequence[str], new: int | None) -> None:
        shares, failed = self._shares(traffic, gateways, new)
        for name in gateways if shares else ():
            try:
                gateway = self.gateway(name)
                if isinstance(gateway, Shares):
                    mine = {each.id: share for each, share in shares if each.gateway == name}
                    gateway.set_traffic(public_name(traffic.name, traffic.alias), mine)
            except GatewayError as error:
                if new is not None:
                    raise
                failed.append(error)
        if failed:
            raise failed[0]

    def _shares(
        self, traffic: Traffic, gateways: Sequence[str], new: int | None
    ) -> tuple[list[tuple[Placed, float]], list[GatewayError]]:
        """What is placed and has a share, and what failed on the way to it."""
        versions, failed = {model.version: model for model in self._models.models(traffic.name)}, []
        wanted = {version: share for version, share in traffic.shares.items() if share > 0}
        for version in wanted:
            try:
                self.register(versions[version], traffic.alias, gateways)
            except GatewayError as error:
                there = {each.gateway for each in self.of(traffic.name, traffic.alias) if each.version == version}
                everywhere = there >= set(self._fit(versions[version], gateways))
                if new is not None and (version == new or not everywhere):
                    raise
                if not everywhere:
                    failed.append(error)
        placed = [each for each in self.of(traffic.name, traffic.alias) if each.version in wanted]
        return [(each, wanted[each.version]) for each in placed], failed

    def forget(self, placed: Sequence[Placed]) -> list[str]:
        """Have each gateway forget them, the last told first. Silent about what is not there.

        Returns in sentences what could not be forgotten; it stays in our books.
        """
        kept, left = self._promotions.placed(), []
        for each in sorted(placed, key=lambda one: one.at, reverse=True):
            same = [one for one in kept if (one.gateway, one.listed_as) == (each.gateway, each.listed_as)]
            try:
                # Another alias may need the same weights.
                if len(same) <= 1:
                    self.gateway(each.gateway).unregister(each.listed_as)
            except GatewayError as error:
                why = error.problems[0].what
                left.append(f"{each.name}@v{each.version} could not be forgotten at {each.gateway}: {why}")
                continue
            self._promotions.unplace(each.gateway, each.id)
            kept = [one for one in kept if (one.gateway, one.id) != (each.gateway, each.id)]
        return left

    def of(self, name: str, alias: str) -> list[Placed]:
        """What is placed for this alias."""
        return [each for each in self._promotions.placed() if (each.name, each.alias) == (name, alias)]

    def gateways(self, name: str, alias: str) -> tuple[str, ...]:
        """Where this alias is served, in the order in which they were told."""
        return tuple(dict.fromkeys(each.gateway for each in self.of(name, alias)))

    def usable(self, gateways: Sequence[str]) -> tuple[str, ...]:
        """Those that are set up here; one may have been removed since it was told."""
        return tuple(name for name in gateways if self.why_not(name) is None)

    def why_not(self, name: str) -> Problem | None:
        """What keeps this gateway from being used here; None: it is set up. Sends nothing."""
        try:
            self.gateway(name)
        except GatewayError as error:
            return error.problems[0]
        return None

    def hosts(self, name: str) -> bool:
        """Whether it is a provider's own hosting. Raises GatewayError."""
        return isinstance(self.gateway(name), Hosts)

    def _fit(self, model: ModelVersion, gateways: Sequence[str]) -> list[str]:
        """Without the hosting of other providers: it holds what was trained there, and nothing else."""
        host = self.host_of(model)
        return [name for name in gateways if name == host or self.why_not(name) or not self.hosts(name)]

    def passes_on(self, name: str) -> bool:
        """Whether it knows public names, and passes their calls on to where the weights are."""
        gateway = self.gateway(name)
        return isinstance(gateway, Shares) and not isinstance(gateway, FollowsBooks)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One difference between our books and a gateway."""

    gateway: str
    id: str
    #: `missing`, `unknown` (ours by its name, in none of our books), `foreign` (the same, with calls, or at a hosting
    #: that others may use), `share`, `idle` (nobody needs it any more: what was undone could not be forgotten then, or
    #: another promotion overtook it), `unreachable`, `forgotten` (somebody asked to have it taken out of our books)
    kind: str
    #: In a sentence.
    what: str
    #: Whether it was mended, or will be when asked to.
    mended: bool = False


class Sync:
    """Compares what gateways have with what they should have, and mends it. Deletes only what carries our marks."""

    def __init__(self, models: ModelStore, promotions: PromotionStore, places: Places, clock: Clock) -> None:
        self._models, self._promotions, self._places, self._clock = models, promotions, places, clock

    def look(self, gateways: Sequence[str] = ()) -> list[Drift]:
        """All differences, at the gateways of our books and those named. Changes nothing."""
        placed = self._promotions.placed()
        names = dict.fromkeys([*(each.gateway for each in placed), *gateways])
        traffic = {(each.name, each.alias): each for each in self._models.all_traffic()}
        return [drift for name in names for drift in self._at(name, placed, traffic)]

    def mend(self, drifts: Sequence[Drift]) -> list[Drift]:
        """Register what is missing, divide calls as they should be, forget what is unknown; what was done.

        Raises GatewayError with all that could not be mended, after the rest was.
        """
        away = {drift.gateway for drift in drifts if drift.kind == "unreachable"}
        done: list[Drift] = []
        failed: dict[str, list[Problem]] = {}
        # Whoever has to have the calls has them before the one goes that may have them now.
        for drift in sorted(drifts, key=lambda one: one.kind == "idle"):
            if drift.kind == "idle" and drift.gateway in failed:
                continue
            try:
                if self._mended(drift, away):
                    done.append(replace(drift, mended=True))
            except GatewayError as error:
                failed.setdefault(drift.gateway, []).extend(error.problems)
        if failed:
            raise GatewayError(*dict.fromkeys(problem for each in failed.values() for problem in each))
        return done

    def lost(self) -> dict[str, str]:
        """Gateways of our books that are not set up here, and why. Sends nothing."""
        names = dict.fromkeys(each.gateway for each in self._promotions.placed())
        return {name: problem.what for name in names if (problem := self._places.why_not(name))}

    def drop(self, gateway: str, *, dry_run: bool = False) -> list[Drift]:
        """Take all that this gateway has out of our books, or only say what that is. Idempotent. Sends nothing.

        What is there stays there. A version that no other gateway has, and that has no calls, has retired.
        """
        dropped = []
        for each in self._promotions.placed():
            if each.gateway == gateway:
                what = f"{each.name}@v{each.version} is taken out of our books, and stays there if it is there"
                found = Drift(gateway=gateway, id=each.id, kind="forgotten", what=what, mended=not dry_run)
                dropped.append(found)
                if not dry_run:
                    self._promotions.unplace(each.gateway, each.id)
        return dropped

    def _mended(self, drift: Drift, away: Collection[str]) -> bool:
        """False: there is nothing to mend. A promotion may have placed or forgotten it since we looked."""
        placed = [each for each in self._promotions.placed() if each.gateway == drift.gateway]
        if drift.kind == "unknown":
            if any(each.listed_as == drift.id for each in placed):
                return False
            self._places.gateway(drift.gateway).unregister(drift.id)
            return True
        mine = [each for each in placed if each.id == drift.id and not self._in_hand(each)]
        # A promotion takes out of our books what it forgets before it ends: this one would have been in hand.
        mine = [each for each in mine if each in self._promotions.placed()]
        if drift.kind == "idle":
            return any([self._ended(each) for each in mine])
        for each in mine:
            self._restore(each, away)
        return bool(mine)

    def _ended(self, each: Placed) -> bool:
        """Have all gateways of the alias forget it, those that pass calls on first. False: somebody needs it again."""
        if self._needed(each):
            return False
        there = self._places.of(each.name, each.alias)
        if left := self._places.forget([one for one in there if one.version == each.version]):
            raise GatewayError(Problem(code="E820", what=left[0], fix="`ft models sync` tries again"))
        return True

    def _needed(self, each: Placed) -> bool:
        """Whether it has calls, is the way back, or is on its way."""
        moves = self._models.moves(each.name, each.alias)
        back = way_back(moves)
        if (moves and moves[0].shares.get(each.version)) or (back is not None and back.version == each.version):
            return True
        return self._begun(each) is not None

    def _in_hand(self, each: Placed) -> bool:
        """Whether a promotion tells gateways of it now, or forgets it there: restoring it would undo that."""
        begun = self._begun(each)
        return begun is not None and begun.due_at is not None and begun.due_at <= self._clock.now()

    def _begun(self, each: Placed) -> Promotion | None:
        """The promotion that it is on its way with."""
        found = self._promotions.recent(each.name, version=each.version)
        return next((one for one in found if one.alias == each.alias and not one.final), None)

    def _restore(self, each: Placed, away: Collection[str]) -> None:
        gateways = [name for name in self._places.gateways(each.name, each.alias) if name not in away]
        model = next(model for model in self._models.models(each.name) if model.version == each.version)
        self._places.register(model, each.alias, gateways)
        if traffic := self._models.traffic(each.name, each.alias):
            self._places.divide(traffic, gateways)

    def _at(self, name: str, placed: Sequence[Placed], traffic: Mapping[tuple[str, str], Traffic]) -> list[Drift]:
        mine = [each for each in placed if each.gateway == name]
        if mine and (problem := self._places.why_not(name)):
            return [Drift(gateway=name, id="", kind="unreachable", what=f"{problem.what}; {_set_up(name)}")]
        try:
            gateway = self._places.gateway(name)
            there = {each.id: each for each in gateway.registered()}
        except GatewayError as error:
            return [Drift(gateway=name, id="", kind="unreachable", what=error.problems[0].what)]
        found, hosted = [], isinstance(gateway, Hosts)
        for each in mine:
            if self._in_hand(each):
                continue
            seen = there.get(each.listed_as)
            if not self._needed(each):
                costs = "deployed there, costs by the hour, and nobody needs it" if hosted else "needed by nobody there"
                what = f"{each.name}@v{each.version} is {costs}"
                found.append(Drift(gateway=name, id=each.id, kind="idle", what=what))
            elif seen is None or seen.stopped:
                what = f"{each.name}@v{each.version} {'is not there' if seen is None else 'has been stopped there'}"
                found.append(Drift(gateway=name, id=each.id, kind="missing", what=what))
            elif drift := _share(each, seen, traffic.get((each.name, each.alias))):
                found.append(drift)
        if isinstance(gateway, FollowsBooks):
            return found
        known = {each.listed_as for each in mine}
        return found + [_stranger(name, each, hosted) for each in there.values() if each.id not in known]


def _set_up(gateway: str) -> str:
    """What mends that a gateway of our books is not set up here."""
    return f"set it up here too, or, if it is no more, `ft models sync --forget {gateway}`"


def _stranger(gateway: str, seen: Registered, hosted: bool) -> Drift:
    """Of a deployment that our books don't have. With calls it may be that of another home of ft: it is left alone."""
    what = "it carries our marks, and nothing of ours should be there under this name"
    if hosted:
        what = f"{what}; it costs by the hour, and may be another installation's: undo it there if it is not"
        return Drift(gateway=gateway, id=seen.id, kind="foreign", what=what)
    if seen.share:
        what = f"{what}; it has {seen.share:.0%} of its name's calls, so it is left alone"
    return Drift(gateway=gateway, id=seen.id, kind="foreign" if seen.share else "unknown", what=what)


def _share(each: Placed, seen: Registered, traffic: Traffic | None) -> Drift | None:
    """Of a deployment that is there: whether it gets the calls that it should."""
    if seen.share is None:
        return None
    wanted = traffic.shares.get(each.version, 0.0) if traffic else 0.0
    if abs(wanted - seen.share) < 0.005:
        return None
    what = f"{each.name}@v{each.version} gets {seen.share:.0%} of the calls, not {wanted:.0%}"
    return Drift(gateway=each.gateway, id=each.id, kind="share", what=what)
