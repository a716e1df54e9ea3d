"""Promotions: gate, register, prove, shift. And the way back.

    evaluating -> registering -> proving -> shifting -> live
        \\____________\\_____________\\__________\\____-> failed (undone), superseded
         \\___________________________________________-> refused (the gate; nothing was changed)

Like the lifecycle: it looks at a promotion, does the next step, and says when to look again. Every step can be
repeated, so a crash costs a repetition; a lease lets one worker write.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from finetune import hosting, proof, seats, setbacks
from finetune.bench import Bench
from finetune.deployments import Bases, Shares
from finetune.errors import (
    EvaluationError,
    FtError,
    GateClosed,
    GatewayError,
    GatewayUnavailable,
    InternalError,
    LeaseLost,
    NotFound,
    NotProved,
    Problem,
    StateError,
)
from finetune.jobs import Json
from finetune.placing import Places
from finetune.ports import Clock
from finetune.releases import ModelStore, PromotionStore
from finetune.versions import BACK, Grip, ModelStatus, ModelVersion, Promotion, PromotionState, Traffic, way_back

LEASE = timedelta(seconds=30)
#: Tries of a step that meets a gateway which cannot be reached, before the promotion is undone.
MAX_TRIES = 10
_LONGEST_WAIT_S = 60.0
#: The code of a problem that may pass by itself: a gateway cannot be reached.
_AWAY = "E820"
#: Of a canary: our own test calls to the public name before each further step, and the share of them that may fail.
CHECKS = 20
_MAY_FAIL = 0.05
#: Promotions of a model that are looked through for the gateways of an alias.
_LOOKED_BACK = 100
_NOT_ALL = "not all of it could be undone"


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Who moves promotions, and who hears of it."""

    #: This worker's name in leases.
    owner: str
    #: Renews a lease while a step takes long.
    hold: Callable[[Grip], AbstractContextManager[None]] = lambda grip: nullcontext()
    #: Hears each note.
    say: Callable[[str], None] = lambda line: None


class Promoter:
    """Moves promotions. Holds no state of its own; any number of processes may run one."""

    def __init__(
        self,
        models: ModelStore,
        promotions: PromotionStore,
        places: Places,
        clock: Clock,
        *,
        bench: Bench,
        ways: "Ways",
    ) -> None:
        self._models, self._promotions, self._places = models, promotions, places
        self._clock, self._bench, self._ways = clock, bench, ways
        self._steps: dict[PromotionState, Callable[[Grip], Json]] = {
            PromotionState.EVALUATING: self._evaluate,
            PromotionState.REGISTERING: self._register,
            PromotionState.PROVING: self._prove,
            PromotionState.SHIFTING: self._shift,
        }

    def advance(self, promotion_id: str, *, more: Callable[[], bool] = lambda: True) -> Promotion | None:
        """Do all steps that are due now, while `more()`. None if nothing was written: it is not due, or held.

        Blocks: an evaluation takes minutes. Raises StateError; every other failure becomes part of the promotion.
        """
        grip = self._promotions.hold(promotion_id, self._ways.owner, self._clock.now(), LEASE)
        if grip is None:
            return None
        promotion = None
        try:
            with self._ways.hold(grip):
                while True:
                    fields = self._step(grip)
                    due_at, final = fields.get("due_at"), fields.get("finished_at") is not None
                    keep = not final and due_at is not None and due_at <= self._clock.now() and more()
                    promotion = self._promotions.write(grip, fields, keep=keep)
                    if not keep:
                        return promotion
                    grip = replace(grip, promotion=promotion)
        except LeaseLost:
            return promotion

    def _step(self, grip: Grip) -> Json:
        try:
            return self._steps[grip.promotion.state](grip)
        except GateClosed as error:
            notes = [error.problems[0].what, *self._given_back(grip, error), *self._forgotten(grip.promotion)]
            return self._end(grip.promotion, PromotionState.REFUSED, error.problems[0], *notes)
        except StateError:
            # Our own store, or another's lease: the promotion stays as it is, and the sweep comes back to it.
            raise
        except FtError as error:
            return self._trouble(grip, error)
        except Exception as error:  # noqa: BLE001 -- a fault in a gateway's code must not leave a canary as it is
            return self._trouble(grip, InternalError(setbacks.fault(error)))

    def _trouble(self, grip: Grip, error: FtError) -> Json:
        if isinstance(error, seats.AllTaken):
            return seats.waits(grip.promotion, error, self._clock.now())
        if isinstance(error, hosting.UnderWay):
            waits = hosting.waits(grip.promotion, error, self._clock.now())
            return self._undone(grip, error) if waits is None else waits
        patient = error.retry or isinstance(error, InternalError)
        if patient and grip.promotion.failures + 1 < MAX_TRIES:
            return self._again(grip.promotion, error)
        return self._undone(grip, error)

    def _evaluate(self, grip: Grip) -> Json:
        if back := self._given_back(grip):
            # Nobody checks a canary that this promotion has ended, and measuring may take hours.
            return self._go(grip.promotion, PromotionState.EVALUATING, *back)
        # One name has one division of calls: a gateway that was left out would give them to another version.
        served = self._places.gateways(grip.promotion.name, grip.promotion.alias)
        usable = self._places.usable(served)
        gateways = tuple(dict.fromkeys((*grip.promotion.gateways, *usable)))
        promotion = replace(grip.promotion, gateways=gateways)
        model, told = self._model(promotion), []
        golden = bool(proof.golden_of(self._models.reports(model.name, model.version)))
        foreseen = partial(self._bench.foreseen, self._places, model, promotion, golden=golden)
        # It answers nobody, an evaluation neither, before it is deployed.
        if there := hosting.deployed(self._places, model, promotion, foreseen):
            gateways, told = tuple(dict.fromkeys((there[0], *gateways))), there[1]
        told += self._passed(promotion, model) if promotion.gate is not None else []
        told += [f"{name} is not set up here, and is left as it is" for name in served if name not in usable]
        if promotion.gate is None or promotion.gate.get("over", "base") != "base":
            told += self._known(promotion, model)
        return {**self._go(promotion, PromotionState.REGISTERING, *told), "gateways": gateways}

    def _passed(self, promotion: Promotion, model: ModelVersion) -> list[str]:
        """What the gate says of it. Raises GateClosed."""
        assert promotion.gate is not None
        verdict = self._bench.decide(promotion.gate, self._bench.measure(model, promotion.gate))
        if not verdict.passed:
            why = "; ".join(verdict.reasons)
            fix = f"train again, or measure on more rows; `ft models show {promotion.ref}` has all figures"
            raise GateClosed(Problem(code="E840", what=f"{promotion.ref} does not pass its gate", why=why, fix=fix))
        return [*(f"gate passed: {reason}" for reason in verdict.reasons), *(f"but {one}" for one in verdict.warnings)]

    def _known(self, promotion: Promotion, model: ModelVersion) -> list[str]:
        """Measure a version that nobody has measured: a proof needs questions. What cannot be measured is told."""
        reports = self._models.reports(model.name, model.version)
        if not promotion.gateways or proof.golden_of(reports):
            return []
        try:
            self._bench.measure(model, None)
        except EvaluationError as error:
            if error.retry:
                raise
            return [f"not measured: {error.problems[0].what}"]
        return ["measured, for questions that tell it from its base"]

    def _register(self, grip: Grip) -> Json:
        promotion = grip.promotion
        model = self._model(promotion)
        against = self._places.against(model, promotion.alias, promotion.gateways)
        if errors := [problem for problem in against if problem.level == "error"]:
            away = all(problem.code == _AWAY for problem in errors)
            raise GatewayUnavailable(*errors) if away else GatewayError(*errors)
        self._places.register(model, promotion.alias, promotion.gateways)
        if promotion.gateways:
            self._models.set_status(model.name, model.version, ModelStatus.REGISTERED)
        told = [problem.what for problem in against]
        told += [f"registered at {', '.join(promotion.gateways)}, without calls"] if promotion.gateways else []
        return self._go(promotion, PromotionState.PROVING, *told)

    def _prove(self, grip: Grip) -> Json:
        promotion = grip.promotion
        model = self._model(promotion)
        evidence = self._proved(promotion, model)
        if promotion.gateways:
            self._models.set_status(model.name, model.version, ModelStatus.VERIFIED)
        told = [f"proved at {name}: {each['answered_by']} answered" for name, each in evidence.items()]
        return {**self._go(promotion, PromotionState.SHIFTING, *told), "evidence": evidence}

    def _proved(self, promotion: Promotion, model: ModelVersion) -> dict[str, Json]:
        """Ask each gateway. Registers anew what a server has forgotten since."""
        others = {each.version for each in self._places.of(promotion.name, promotion.alias)} - {model.version}
        siblings = [self._models.reports(model.name, version) for version in sorted(others)]
        reports = self._models.reports(model.name, model.version)
        there = self._places.register(model, promotion.alias, promotion.gateways)

        def evidence(name: str) -> Json:
            gateway = self._places.gateway(name)
            asked = proof.questions(reports, siblings, based=isinstance(gateway, Bases))
            return proof.prove(gateway, there[name], asked, self._clock.now()).to_json()

        return {name: evidence(name) for name in there if not self._places.hosts(name)}

    def _shift(self, grip: Grip) -> Json:
        """Check the share in force, then give the next one. Our books first: every gateway follows them."""
        promotion = grip.promotion
        before = promotion.before if promotion.before != promotion.version else None
        if promotion.step and before is not None:
            self._check(promotion)
        share = promotion.steps[promotion.step] if before is not None else 1.0
        shares = {promotion.version: share}
        if before is not None and share < 1:
            shares[before] = round(1 - share, 6)
        self._divide(promotion, self._moved(grip, shares, _reason(promotion, share)))
        if share >= 1:
            left = self._retire(promotion)
            all_calls = f"{promotion.ref} has all calls of {promotion.alias}"
            return self._end(promotion, PromotionState.LIVE, None, *left, all_calls)
        now = self._clock.now()
        note = f"{share:.0%} of the calls of {promotion.alias} go to {promotion.ref}"
        later = now + timedelta(seconds=promotion.pause_s)
        return {"step": promotion.step + 1, "due_at": later, "failures": 0, "notes": self._noted(promotion, note)}

    def _divide(self, promotion: Promotion, traffic: Traffic) -> None:
        try:
            self._places.divide(traffic, promotion.gateways, new=promotion.version)
        except GatewayUnavailable:
            if promotion.rollback:
                # It is wanted now: those that can be reached do not wait for those that can't.
                self._places.divide(traffic, promotion.gateways)
            raise

    def _moved(self, grip: Grip, shares: dict[int, float], reason: str) -> Traffic:
        """Our books, moved so under the lease. Raises LeaseLost."""
        promotion = grip.promotion
        now = self._models.traffic(promotion.name, promotion.alias)
        if now is not None and now.shares == shares:
            return now
        name, alias, at = promotion.name, promotion.alias, self._clock.now()
        moved = Traffic(name=name, alias=alias, shares=shares, reason=reason, by=promotion.by, at=at)
        self._models.shift(moved, grip)
        return moved

    def _check(self, promotion: Promotion) -> None:
        """Raises NotProved when the share in force does not do well: the proof again, and calls as users make them."""
        model = self._model(promotion)
        self._proved(promotion, model)
        messages = proof.questions(self._models.reports(model.name, model.version))[0].messages
        for name, there in self._places.register(model, promotion.alias, promotion.gateways).items():
            gateway = self._places.gateway(name)
            if not isinstance(gateway, Shares):
                continue
            failed = [why for _ in range(CHECKS) if (why := _failure(gateway, there.public, messages))]
            if len(failed) > CHECKS * _MAY_FAIL:
                what = f"{len(failed)} of {CHECKS} calls to {there.public} at {name} failed"
                raise NotProved(Problem(code="E834", what=what, why=failed[0], fix="see the gateway's own log"))

    def _retire(self, promotion: Promotion) -> list[str]:
        """Have gateways forget what is neither live nor the way back. Returns what stays, for the next promotion."""
        kept = {promotion.version, self._way_back(promotion)}
        there = self._places.of(promotion.name, promotion.alias)
        return self._places.forget([each for each in there if each.version not in kept])

    def _way_back(self, promotion: Promotion) -> int | None:
        move = way_back(self._models.moves(promotion.name, promotion.alias))
        return move.version if move else None

    def _undone(self, grip: Grip, error: FtError) -> Json:
        """Give the calls back, and have gateways forget the version, the last told first."""
        # Whoever has taken over since may be about to tell gateways of the same version.
        self._promotions.renew(grip, self._clock.now() + LEASE)
        promotion, notes = grip.promotion, [error.problems[0].what]
        if promotion.rollback and error.retry:
            # What it was called away from is not wanted, whoever can be reached.
            notes.append(f"{promotion.ref} has all calls in our books; `ft models sync` goes on telling gateways")
            return self._end(promotion, PromotionState.FAILED, error.problems[0], *notes)
        told = self._given_back(grip, error)
        if not any(note.startswith(_NOT_ALL) for note in told):
            told += self._forgotten(promotion)
        notes += told
        # One that has calls of this or another alias stays live.
        self._models.set_status(promotion.name, promotion.version, ModelStatus.FAILED)
        return self._end(promotion, PromotionState.FAILED, error.problems[0], *notes)

    def _given_back(self, grip: Grip, error: FtError | None = None) -> list[str]:
        """Give back what it had moved, and what a canary had that it has ended; what was done, in sentences."""
        promotion, before = grip.promotion, grip.promotion.before
        now = self._models.traffic(promotion.name, promotion.alias)
        shifted = promotion.state is PromotionState.SHIFTING and now and now.shares.get(promotion.version)
        if now is None or not (shifted or len(now.shares) > 1):
            return []
        why = error.problems[0].code if error else f"for {promotion.ref}"
        back = self._moved(grip, {before: 1.0} if before else {}, f"{BACK}{why}")
        to = f"given back to {promotion.name}@v{before}" if before else "taken from it"
        told = [f"all calls of {promotion.alias} were {to}"] if back.shares != now.shares else []
        there = self._places.usable(self._places.gateways(promotion.name, promotion.alias))
        try:
            self._places.divide(back, there)
        except StateError:
            raise
        except Exception as more:  # noqa: BLE001 -- a fault in a gateway's code must not keep a promotion from its end
            told.append(f"{_NOT_ALL}: {setbacks.summary(more)}; `ft models sync` goes on")
        return told

    def _forgotten(self, promotion: Promotion) -> list[str]:
        """Have gateways forget the version; what could not be, in sentences.

        One that has calls, or is the way back, stays where promotions of the alias have ended well: what another
        gateway has refused should not be asked of it for ever.
        """
        now = self._models.traffic(promotion.name, promotion.alias)
        there = self._places.of(promotion.name, promotion.alias)
        mine = [each for each in there if each.version == promotion.version]
        if promotion.version == self._way_back(promotion) or (now is not None and now.shares.get(promotion.version)):
            known = self._ended_well_at(promotion)
            mine = [each for each in mine if known and each.gateway not in known]
        return self._places.forget(mine)

    def _ended_well_at(self, promotion: Promotion) -> set[str]:
        last = self._promotions.recent(promotion.name, limit=_LOOKED_BACK)
        well = [one for one in last if one.alias == promotion.alias and one.state is PromotionState.LIVE]
        return {name for one in well for name in one.gateways}

    def _again(self, promotion: Promotion, error: FtError) -> Json:
        wait_s = min(_LONGEST_WAIT_S, 2.0**promotion.failures)
        note = f"{error.problems[0].what}; trying again in {wait_s:.0f} s"
        later = self._clock.now() + timedelta(seconds=wait_s)
        return {"failures": promotion.failures + 1, "due_at": later, "notes": self._noted(promotion, note)}

    def _go(self, promotion: Promotion, state: PromotionState, *notes: str) -> Json:
        return {"state": state, "due_at": self._clock.now(), "failures": 0, "notes": self._noted(promotion, *notes)}

    def _end(self, promotion: Promotion, state: PromotionState, problem: Problem | None, *notes: str) -> Json:
        ended: Json = {"state": state, "due_at": None, "finished_at": self._clock.now()}
        return {**ended, "error": problem.brief if problem else None, "notes": self._noted(promotion, *notes)}

    def _noted(self, promotion: Promotion, *notes: str) -> tuple[Json, ...]:
        at = self._clock.now().isoformat()
        for note in notes:
            self._ways.say(note)
        return (*promotion.notes, *({"at": at, "text": note} for note in notes))

    def _model(self, promotion: Promotion) -> ModelVersion:
        found = [one for one in self._models.models(promotion.name) if one.version == promotion.version]
        if not found:
            raise NotFound(Problem(code="E702", what=f"there is no model {promotion.ref}"))
        return found[0]


def _reason(promotion: Promotion, share: float) -> str:
    if promotion.rollback:
        return f"roll back to v{promotion.version}"
    return f"promote v{promotion.version}" if share >= 1 else f"canary {share:.0%} v{promotion.version}"


def _failure(gateway: Shares, public: str, messages: Sequence[Any]) -> str | None:
    """Why a call of the public name failed; None: it did not."""
    try:
        gateway.ask(public, messages, max_tokens=16)
    except GatewayError as error:
        return error.problems[0].what
    return None
