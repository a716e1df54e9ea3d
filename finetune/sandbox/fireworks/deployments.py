"""Fireworks' deployments: a model on GPUs of its own, made for some looks, then asked by its name until it is deleted.

Strict as the vendor's newest pages are: a deployment has a shape or says that it has none, `default` finds one for the
GPUs that are asked for or refuses, and an id stays taken until the deployment is deleted for good.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from finetune.sandbox.fireworks.bodies import ID_PATTERN, Page
from finetune.sandbox.fireworks.times import moment
from finetune.sandbox.fireworks.words import checked, no_such, refuse
from finetune.sandbox.service import Reply, Request

#: GPUs, and how many of them there is a shape for, whatever the model.
_SHAPES: Final = {
    "NVIDIA_H100_80GB": (1, 2, 4, 8),
    "NVIDIA_H200_141GB": (1, 2, 4, 8),
    "NVIDIA_B200_180GB": (1, 2, 4, 8),
}
_YES_NO: Final = ("true", "false")


class CreateDeployment(BaseModel):
    """POST deployments."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    baseModel: str
    displayName: str = Field(default="", max_length=63)
    description: str = ""
    deploymentShape: str | None = None
    acceleratorType: str | None = None
    acceleratorCount: int | None = Field(default=None, ge=1)
    minReplicaCount: int = Field(default=0, ge=0)
    maxReplicaCount: int = Field(default=1, ge=0)


class _Made(BaseModel):
    """The query of a create."""

    model_config = ConfigDict(extra="forbid")

    deploymentId: str = Field(pattern=ID_PATTERN)
    acceptShapelessRisk: Literal["true", "false"] = "false"


@dataclass(kw_only=True)
class Deployed:
    """One deployment, there or gone."""

    name: str
    asked: CreateDeployment
    gpu: str
    gpus: int
    #: Seconds since 1970.
    since: float
    #: When it was deleted; None: it is there, and costs.
    until: float | None = None
    #: Deleted for good: at the end of that nobody sees it any more, and its id is free.
    hard: bool = False
    #: Looks that it is still being made for.
    looks: int = 0
    fails: bool = False
    #: Looks that its one replica is still loading for, though it is READY.
    loading: int = 0
    #: Looks that its deletion takes.
    dying: int = 0

    @property
    def purged(self) -> bool:
        """It is as if it had never been."""
        return self.hard and self.state == "DELETED"

    @property
    def state(self) -> str:
        """The vendor's word."""
        if self.until is not None:
            return "DELETING" if self.dying > 0 else "DELETED"
        return "CREATING" if self.looks > 0 else "FAILED" if self.fails else "READY"

    def json(self) -> dict[str, Any]:
        """As the API shows it."""
        ready = 1 if self.state == "READY" and self.loading == 0 else 0
        failed = {"code": "RESOURCE_EXHAUSTED", "message": "no quota for these GPUs"}
        return {
            "name": self.name,
            **self.asked.model_dump(exclude_none=True, exclude={"deploymentShape"}),
            "deploymentShape": f"accounts/fireworks/deploymentShapes/{self.gpu.lower().replace('_', '-')}/versions/1",
            "acceleratorType": self.gpu,
            "acceleratorCount": self.gpus,
            "createTime": moment(self.since),
            "state": self.state,
            "status": failed if self.state == "FAILED" else {"code": "OK", "message": ""},
            "replicaStats": {"readyReplicaCount": ready, "initializingReplicaCount": 1 - ready},
        }


class Deployments:
    """Of one account. The caller holds the lock."""

    def __init__(self, account: str, is_model: Callable[[str], bool], now: Callable[[], float]) -> None:
        """`is_model` says whether there is a model of this whole name; `now` is seconds since 1970."""
        self._collection, self._is_model, self._now = f"accounts/{account}/deployments", is_model, now
        #: All that ever were, oldest first.
        self.book: list[Deployed] = []
        #: Looks that a new one is being made for.
        self.looks = 2

    def there(self) -> list[Deployed]:
        """Those that cost now."""
        return [one for one in self.book if one.until is None]

    def hours(self) -> float:
        """For how many hours GPUs were held, all together: what is billed."""
        return sum(((one.until or self._now()) - one.since) / 3600 * one.gpus for one in self.book)

    def answering(self, asked: str) -> str | None:
        """The model that answers under this name, with its own before it or without; None: none does."""
        model, _, deployment = asked.rpartition("#")
        for one in self.there():
            if one.name == deployment and one.state == "READY" and model in ("", one.asked.baseModel):
                return one.asked.baseModel
        return None

    def create(self, request: Request, body: Any, now: float) -> Reply:
        """POST deployments."""
        wanted = checked(_Made, {name: values[-1] for name, values in request.query.items()})
        asked = checked(CreateDeployment, body)
        name = f"{self._collection}/{wanted.deploymentId}"
        if any(one.name == name and not one.purged for one in self.book):
            raise refuse("ALREADY_EXISTS", f"deployment {name} already exists")
        if not self._is_model(asked.baseModel):
            raise refuse("INVALID_ARGUMENT", f"model {asked.baseModel} not found")
        if asked.maxReplicaCount < asked.minReplicaCount:
            raise refuse("INVALID_ARGUMENT", "max_replica_count is less than min_replica_count")
        gpu, gpus = _hardware(asked, shapeless=wanted.acceptShapelessRisk == "true")
        made = Deployed(name=name, asked=asked, gpu=gpu, gpus=gpus, since=now, looks=self.looks)
        self.book.append(made)
        return Reply(body=made.json())

    def list(self, request: Request, page: Page, now: float) -> Reply:
        """GET deployments: without those that are deleted."""
        rows = [one.json() for one in self.book if not one.purged and one.state != "DELETED"]
        return Reply(body=page.of(rows, "deployments"))

    def retrieve(self, request: Request, body: Any, now: float) -> Reply:
        """GET deployments/ID."""
        one = self._named(request)
        one.looks, one.dying = max(0, one.looks - 1), max(0, one.dying - 1)
        if one.state == "READY":
            one.loading = max(0, one.loading - 1)
        return Reply(body=one.json())

    def delete(self, request: Request, body: Any, now: float) -> Reply:
        """DELETE deployments/ID."""
        one, said = self._named(request), _flags(request.query, ("hard", "ignoreChecks"))
        if not said["ignoreChecks"] and one.state == "READY":
            raise refuse("FAILED_PRECONDITION", f"deployment {one.name} has been asked within the last hour")
        one.until = one.until or now
        one.hard = one.hard or said["hard"]
        return Reply(body={})

    def _named(self, request: Request) -> Deployed:
        name = f"{self._collection}/{request.parts['deployment']}"
        for one in self.book:
            if one.name == name and not one.purged:
                return one
        raise no_such(name)


def _hardware(asked: CreateDeployment, *, shapeless: bool) -> tuple[str, int]:
    """What it will run on. Raises Refusal."""
    if shapeless == (asked.deploymentShape is not None):
        raise refuse("INVALID_ARGUMENT", "exactly one of deployment_shape and accept_shapeless_risk must be given")
    gpu, gpus = asked.acceleratorType or "NVIDIA_B200_180GB", asked.acceleratorCount or 1
    if shapeless:
        return gpu, gpus
    if asked.deploymentShape != "default":
        raise refuse("INVALID_ARGUMENT", f"deployment shape {asked.deploymentShape} not found")
    if gpus not in _SHAPES.get(gpu, ()):
        known = ", ".join(f"{count} x {name}" for name, counts in _SHAPES.items() for count in counts)
        raise refuse("INVALID_ARGUMENT", f"no shape has {gpus} x {gpu} (acceleratorType, acceleratorCount): {known}")
    return gpu, gpus


def _flags(query: Mapping[str, list[str]], names: tuple[str, ...]) -> dict[str, bool]:
    for name, values in query.items():
        if name not in names or values[-1] not in _YES_NO:
            raise refuse("INVALID_ARGUMENT", f"unknown query parameter {name}, or no truth value")
    return {name: query.get(name, ["false"])[-1] == "true" for name in names}
