"""Versions, gateways and a promoter for tests."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from finetune.bench import Bench
from finetune.deployments import Deployment
from finetune.errors import EvaluationError, GatewayError, Problem
from finetune.placing import Describe, Places, Sync
from finetune.promoter import Promoter, Ways
from finetune.registry import Registry
from finetune.releasing import Releasing
from finetune.seats import AllTaken
from finetune.store import SqlPromotions
from finetune.testing import FakeGateway, FakeServer
from finetune.versions import ModelVersion, Promotion, PromotionState, Traffic
from tests.support.jobs import World


def digest(model: ModelVersion) -> str:
    return hashlib.sha256(model.ref.encode()).hexdigest()


def describe(model: ModelVersion, alias: str) -> Deployment:
    public = model.name if alias == "production" else f"{model.name}@{alias}"
    return Deployment(ref=model.ref, public=public, digest=digest(model), base_model=model.base_model)


@dataclass(frozen=True)
class Said:
    passed: bool
    reasons: tuple[str, ...] = ("exact_match 0.62, base 0.41",)
    warnings: tuple[str, ...] = ()


class Crash(BaseException):
    """What nothing of ours catches: the process is gone."""


def crash_at(owner: Any, method: str, nth: int, when: str) -> list[int]:
    """Have the nth call of the method die, before or after it has done its work. Returns [calls until then]."""
    real, left = getattr(owner, method), [nth]

    def crashing(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and when == "before":
            raise Crash
        done = real(*args, **more)
        if left[0] == 0:
            raise Crash
        return done

    setattr(owner, method, crashing)
    return left


class Stage:
    """A registry with versions of `bot`, gateways, and a promoter.

    Of gateways there are two where none are given: `vllm` holds weights, `litellm` passes on.
    """

    def __init__(
        self,
        url: str,
        versions: int = 3,
        *,
        gateways: dict[str, Any] | None = None,
        describe: Describe = describe,
        host: Callable[[ModelVersion], str | None] = lambda model: None,
    ) -> None:
        self.world = World(url)
        self.models, self.clock = self.world.models, self.world.clock
        self.promotions = SqlPromotions(self.world.database)
        self.gateways = gateways or {"vllm": FakeServer("vllm"), "litellm": FakeGateway("litellm")}
        self.places = Places(self.models, self.promotions, self.gateway, describe, self.clock, host=host)
        self.sync = Sync(self.models, self.promotions, self.places, self.clock)
        self.verdict, self.reports, self.measured = Said(True), [], []
        #: What is asked before a deployment, and what the next looks find to stand against it (None: nothing).
        self.foreseen, self.against = [], []
        #: Whether trainings have all cards.
        self.taken = False
        self.promoter = self.another("w1")
        self.registry = Registry(self.models)
        ids = (f"pr_u{number}" for number in count())
        self.releasing = Releasing(
            self.models,
            self.promotions,
            self.places,
            self.clock,
            version=self.registry.version,
            job=self.world.jobs.get,
            new_id=lambda: next(ids),
        )
        for number in range(versions):
            self.trained(f"ft_{number + 1}", artifact={"path": f"/a/{number}", "digest": str(number)})

    def trained(self, job_id: str, **fields: Any) -> None:
        """One more version, of a job with these fields."""
        self.models.add_model(self.world.submit(job_id, **fields), self.clock.now())
        self.clock.sleep(1)

    def another(self, owner: str) -> Promoter:
        bench = Bench(measure=self._measure, decide=lambda gate, reports: self.verdict, foresee=self._foresee)
        ways = Ways(owner=owner)
        return Promoter(self.models, self.promotions, self.places, self.clock, bench=bench, ways=ways)

    def gateway(self, name: str) -> FakeServer:
        if name not in self.gateways:
            raise GatewayError(Problem(code="E836", what=f"no gateway {name}"))
        return self.gateways[name]

    def _measure(self, model: ModelVersion, gate: Any) -> list[dict[str, Any]]:
        self.measured.append((model.ref, gate))
        if self.taken:
            raise AllTaken(Problem(code="E860", what=f"{model.ref} waits for a card"))
        if self.reports is None:
            raise EvaluationError(Problem(code="E852", what="no rows were held out"))
        for report in self.reports:
            self.models.add_report(model.name, model.version, report, self.clock.now())
        return self.reports

    def _foresee(self, model: ModelVersion, gate: Any) -> None:
        self.foreseen.append((model.ref, gate))
        error = self.against.pop(0) if self.against else None
        if error is not None:
            raise error

    def begin(self, version: int, **more: Any) -> Promotion:
        now = self.clock.now()
        return self.promotions.begin(
            Promotion(
                **{
                    "id": f"pr_{version}_{now.timestamp():.0f}",
                    "name": "bot",
                    "version": version,
                    "alias": "production",
                    "gateways": ("vllm", "litellm"),
                    "due_at": now,
                    "by": "me",
                    "created_at": now,
                    **more,
                }
            )
        )

    def run(self, promotion: Promotion, until: PromotionState | None = None, steps: int = 40) -> Promotion:
        """Advance it, turning the clock to when it is due, until it has ended or come to that state."""
        for _ in range(steps):
            promotion = self.promotions.get(promotion.id)
            if promotion.final or promotion.state is until:
                return promotion
            if promotion.due_at and promotion.due_at > self.clock.now():
                self.clock.sleep((promotion.due_at - self.clock.now()).total_seconds())
            self.promoter.advance(promotion.id, more=lambda: until is None)
        raise AssertionError(f"it is {promotion.state} after {steps} steps: {promotion.notes}")

    def promote(self, version: int, **more: Any) -> Promotion:
        self.clock.sleep(1)
        return self.run(self.begin(version, **more))

    @property
    def traffic(self) -> Traffic | None:
        return self.models.traffic("bot", "production")

    @property
    def shares(self) -> dict[str, float]:
        """What each version gets at litellm, by `vN`."""
        there = self.gateways["litellm"]
        return {there.entries[one].ref.partition("@")[2]: share for one, share in there.shares.items()}

    def status(self, version: int) -> str:
        return str(self.models.models("bot")[version - 1].status)

    def close(self) -> None:
        self.world.database.close()
