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
from typing import Any, Protocol

from finetune import proof
from finetune.deployments import Deployment, Shares
from finetune.errors import (
    EvaluationError,
    FtError,
    GateClosed,
    GatewayError,
    LeaseLost,
    NotFound,
    NotProved,
    Problem,
    UsageError,
)
from finetune.jobs import Json
from finetune.placing import Places
from finetune.ports import Clock
from finetune.releases import ModelStore, PromotionStore
from finetune.versions import Grip, ModelStatus, ModelVersion, Promotion, PromotionState, Traffic

LEASE = timedelta(seconds=30)
#: Tries of a step that meets a gateway which cannot be reached, before the promotion is undone.
MAX_TRIES = 10
_LONGEST_WAIT_S = 60.0
#: Of a canary: our own test calls to the public name before each further step, and the share of them that may fail.
CHECKS = 20
_MAY_FAIL = 0.05


class Verdict(Protocol):
    """What a gate says (`evaluation.gates.Verdict`)."""

    @property
    def passed(self) -> bool:
        """Whether the version may go on."""
        ...

    @property
    def reasons(self) -> Sequence[str]:
        """In sentences, what stands in the way first."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What should be known all the same."""
        ...


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How versions are measured."""

    #: Measure a version for this gate (None: for its proof only) and keep the reports. Blocks for minutes.
    measure: Callable[[ModelVersion, Json | None], list[Json]]
    #: What the gate says to these reports.
    decide: Callable[[Json, Sequence[Json]], Verdict]


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
        self._steps: dict[PromotionState, Callable[[Promotion], Json]] = {
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
                    fields = self._step(grip.promotion)
                    due_at, final = fields.get("due_at"), fields.get("finished_at") is not None
                    keep = not final and due_at is not None and due_at <= self._clock.now() and more()
                    promotion = self._promotions.write(grip, fields, keep=keep)
                    if not keep:
                        return promotion
                    grip = replace(grip, promotion=promotion)
        except LeaseLost:
            return promotion

    def _step(self, promotion: Promotion) -> Json:
        try:
            return self._steps[promotion.state](promotion)
        except GateClosed as error:
            return self._end(promotion, PromotionState.REFUSED, error.problems[0], error.problems[0].what)
        except (GatewayError, NotProved, EvaluationError, NotFound, UsageError) as error:
            if error.retry and promotion.failures + 1 < MAX_TRIES:
                return self._again(promotion, error)
            return self._undone(promotion, error)

    def _evaluate(self, promotion: Promotion) -> Json:
        model = self._model(promotion)
        if promotion.gate is None:
            return self._go(promotion, PromotionState.REGISTERING, *self._known(promotion, model))
        verdict = self._bench.decide(promotion.gate, self._bench.measure(model, promotion.gate))
        if not verdict.passed:
            why = "; ".join(verdict.reasons)
            fix = f"train again, or measure on more rows; `ft models show {promotion.ref}` has all figures"
            raise GateClosed(Problem(code="E840", what=f"{promotion.ref} does not pass its gate", why=why, fix=fix))
        told = [f"gate passed: {reason}" for reason in verdict.reasons]
        return self._go(promotion, PromotionState.REGISTERING, *told, *(f"but {one}" for one in verdict.warnings))

    def _known(self, promotion: Promotion, model: ModelVersion) -> list[str]:
        """Measure a version that nobody has measured: a proof needs questions. What cannot be measured is told."""
        reports = self._models.reports(model.name, model.version)
        if not promotion.gateways or any(report.get("golden") for report in reports):
            return []
        try:
            self._bench.measure(model, None)
        except EvaluationError as error:
            return [f"not measured: {error.problems[0].what}"]
        return ["measured, for questions that tell it from its base"]

    def _register(self, promotion: Promotion) -> Json:
        model = self._model(promotion)
        against = self._places.against(model, promotion.alias, promotion.gateways)
        if errors := [problem for problem in against if problem.level == "error"]:
            raise GatewayError(*errors)
        self._places.register(model, promotion.alias, promotion.gateways)
        if model.status is not ModelStatus.LIVE and promotion.gateways:
            self._models.set_status(model.name, model.version, ModelStatus.REGISTERED)
        told = [problem.what for problem in against]
        told += [f"registered at {', '.join(promotion.gateways)}, without calls"] if promotion.gateways else []
        return self._go(promotion, PromotionState.PROVING, *told)

    def _prove(self, promotion: Promotion) -> Json:
        model = self._model(promotion)
        evidence = self._proved(promotion, model)
        if model.status is not ModelStatus.LIVE and promotion.gateways:
            self._models.set_status(model.name, model.version, ModelStatus.VERIFIED)
        told = [f"proved at {name}: {each['answered_by']} answered" for name, each in evidence.items()]
        return {**self._go(promotion, PromotionState.SHIFTING, *told), "evidence": evidence}

    def _proved(self, promotion: Promotion, model: ModelVersion) -> dict[str, Json]:
        """Ask each gateway. Registers anew what a server has forgotten since."""
        asked = proof.questions(self._models.reports(model.name, model.version))
        there = self._places.register(model, promotion.alias, promotion.gateways)
        return {name: self._evidence(name, deployment, asked) for name, deployment in there.items()}

    def _evidence(self, name: str, deployment: Deployment, asked: Sequence[proof.Question]) -> Json:
        return proof.prove(self._places.gateway(name), deployment, asked, self._clock.now()).to_json()

    def _shift(self, promotion: Promotion) -> Json:
        """Check the share in force, then give the next one. Our books first: every gateway follows them."""
        before = self._before(promotion)
        if promotion.step and before is not None:
            self._check(promotion)
        share = promotion.steps[promotion.step] if before is not None else 1.0
        shares = {promotion.version: share}
        if before is not None and share < 1:
            shares[before] = round(1 - share, 6)
        traffic = self._moved(promotion, shares, _reason(promotion, share))
        self._places.divide(traffic, promotion.gateways)
        if share >= 1:
            self._retire(promotion, before)
            return self._end(
                promotion, PromotionState.LIVE, None, f"{promotion.ref} has all calls of {promotion.alias}"
            )
        now = self._clock.now()
        note = f"{share:.0%} of the calls of {promotion.alias} go to {promotion.ref}"
        later = now + timedelta(seconds=promotion.pause_s)
        return {"step": promotion.step + 1, "due_at": later, "failures": 0, "notes": self._noted(promotion, note)}

    def _moved(self, promotion: Promotion, shares: dict[int, float], reason: str) -> Traffic:
        now = self._models.traffic(promotion.name, promotion.alias)
        if now is not None and now.shares == shares:
            return now
        moved = Traffic(
            name=promotion.name,
            alias=promotion.alias,
            shares=shares,
            reason=reason,
            by=promotion.by,
            at=self._clock.now(),
        )
        self._models.shift(moved)
        return moved

    def _before(self, promotion: Promotion) -> int | None:
        """The version that had the calls before this promotion; None: nobody had them."""
        for move in self._models.moves(promotion.name, promotion.alias):
            if move.at < promotion.created_at or promotion.version not in move.shares:
                return None if move.version == promotion.version else move.version
        return None

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

    def _retire(self, promotion: Promotion, before: int | None) -> None:
        """Have gateways forget what is neither live nor the way back."""
        kept = {promotion.version, before}
        there = self._places.of(promotion.name, promotion.alias)
        self._places.forget([each for each in there if each.version not in kept])

    def _undone(self, promotion: Promotion, error: FtError) -> Json:
        """Give the calls back, and have gateways forget the version, the last told first."""
        notes = [error.problems[0].what]
        now, before = self._models.traffic(promotion.name, promotion.alias), self._before(promotion)
        try:
            if promotion.state is PromotionState.SHIFTING and now and now.shares.get(promotion.version):
                back = self._moved(promotion, {before: 1.0} if before else {}, f"back: {error.problems[0].code}")
                self._places.divide(back, promotion.gateways)
                to = f"given back to {promotion.name}@v{before}" if before else "taken from it"
                notes.append(f"all calls of {promotion.alias} were {to}")
            now = self._models.traffic(promotion.name, promotion.alias)
            if now is None or not now.shares.get(promotion.version):
                mine = self._places.of(promotion.name, promotion.alias)
                self._places.forget([each for each in mine if each.version == promotion.version])
        except GatewayError as more:
            notes.append(f"not all of it could be undone: {more.problems[0].what}; `ft models sync` goes on")
        if not any(each.shares.get(promotion.version) for each in self._of(promotion)):
            self._models.set_status(promotion.name, promotion.version, ModelStatus.FAILED)
        return self._end(promotion, PromotionState.FAILED, error.problems[0], *notes)

    def _of(self, promotion: Promotion) -> list[Traffic]:
        """Who has the calls of each of the model's aliases."""
        return [each for each in self._models.all_traffic() if each.name == promotion.name]

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
    return f"promote v{promotion.version}" if share >= 1 else f"canary {share:.0%} v{promotion.version}"


def _failure(gateway: Shares, public: str, messages: Sequence[Any]) -> str | None:
    """Why a call of the public name failed; None: it did not."""
    try:
        gateway.ask(public, messages, max_tokens=16)
    except GatewayError as error:
        return error.problems[0].what
    return None
