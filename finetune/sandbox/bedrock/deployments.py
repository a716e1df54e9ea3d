"""Deployments of tuned models for inference on demand: made for some looks, then active, until they are deleted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

from finetune.sandbox.bedrock import bodies
from finetune.sandbox.bedrock.paging import paged
from finetune.sandbox.bedrock.words import arn, number_id, refusal, region_of, stamp
from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.service import Reply, Request, Route

_PATH: Final = "/model-customization/custom-model-deployments"
#: Bases whose tuned models can be deployed so, after deploy-custom-model-on-demand.html of Amazon's guide, read
#: 2026-11-29. Which refusal others get is not published.
_BASES: Final = (
    "amazon.nova-micro-",
    "amazon.nova-lite-",
    "amazon.nova-pro-",
    "amazon.nova-2-lite-",
    "meta.llama3-3-70b-",
)


@dataclass
class Deployed:
    """One deployment, there or gone."""

    number: int
    region: str
    body: bodies.CreateDeployment
    created_at: datetime
    #: Looks that it is still being made for.
    looks: int
    gone: bool = False
    fails: bool = field(default=False)

    @property
    def arn(self) -> str:
        """Its name, which the service chooses."""
        return arn(self.region, "custom-model-deployment", number_id("deployment", self.number))

    @property
    def name(self) -> str:
        """The name that the request chose."""
        return self.body.modelDeploymentName

    @property
    def status(self) -> str:
        """Its word now."""
        return "Creating" if self.looks > 0 else "Failed" if self.fails else "Active"


class Deployments:
    """The deployments of one account. Handlers run under the stand-in's lock."""

    def __init__(self, clock: SandboxClock, model_name: Callable[[str], str | None]) -> None:
        """`model_name` is that of a tuned model by its ARN; None: there is none."""
        self._clock, self._model_name = clock, model_name
        #: All that ever were, oldest first.
        self.book: list[Deployed] = []
        #: Looks that a new one is being made for.
        self.looks = 2

    def routes(self) -> list[Route]:
        """All operations."""
        one = _PATH + "/{name}"
        return [
            Route(method="POST", path=_PATH, operation="deploy", answer=self._create),
            Route(method="GET", path=_PATH, operation="deployments", answer=self._list),
            Route(method="GET", path=one, operation="deployment", answer=self._get),
            Route(method="DELETE", path=one, operation="undeploy", answer=self._delete),
        ]

    def there(self) -> list[Deployed]:
        """Those that are there now."""
        return [one for one in self.book if not one.gone]

    def _create(self, request: Request) -> Reply:
        body, region = bodies.read(request.body, bodies.CreateDeployment), region_of(request)
        token = body.clientRequestToken
        for one in self.book:
            if token is not None and one.body.clientRequestToken == token:
                # Also of one that is gone: the request is ignored.
                return Reply(status=202, body={"customModelDeploymentArn": one.arn})
        model = self._model_name(body.modelArn)
        if model is None:
            raise refusal("ResourceNotFoundException", f"The model {body.modelArn} does not exist.", 404)
        if not body.modelArn.partition(":custom-model/")[2].startswith(_BASES):
            raise refusal("ValidationException", f"The model {body.modelArn} does not support on-demand deployment.")
        if any(one.name == body.modelDeploymentName and one.region == region for one in self.there()):
            raise refusal("ValidationException", "The provided deployment name is currently in use.")
        made = Deployed(len(self.book), region, body, self._clock.now(), self.looks, fails="fail-deploy" in model)
        self.book.append(made)
        return Reply(status=202, body={"customModelDeploymentArn": made.arn})

    def _list(self, request: Request) -> Reply:
        known = {"nameContains", "statusEquals", "modelArnEquals"}
        wanted, status, model = (request.one(name) for name in ("nameContains", "statusEquals", "modelArnEquals"))
        rows = [
            one
            for one in reversed(self.there())
            if one.region == region_of(request)
            and (wanted is None or wanted in one.name)
            and (status is None or status == one.status)
            and (model is None or model == one.body.modelArn)
        ]
        page, more = paged(request, rows, known)
        return Reply(body={"modelDeploymentSummaries": [_summary(one) for one in page], **more})

    def _get(self, request: Request) -> Reply:
        one = self._found(request)
        one.looks = max(0, one.looks - 1)
        summary = _summary(one)
        told: dict[str, Any] = {**summary, "modelDeploymentName": summary.pop("customModelDeploymentName")}
        told.pop("customModelDeploymentName", None)
        return Reply(body={**told, **({"description": one.body.description} if one.body.description else {})})

    def _delete(self, request: Request) -> Reply:
        one = self._found(request)
        if one.status == "Creating":
            raise refusal("ConflictException", "The deployment is being created.")
        one.gone = True
        return Reply(body={})

    def _found(self, request: Request) -> Deployed:
        known = unquote(request.parts["name"])
        for one in self.there():
            if known in (one.name, one.arn) and one.region == region_of(request):
                return one
        raise refusal("ResourceNotFoundException", f"The custom model deployment {known} was not found.", 404)


def _summary(one: Deployed) -> dict[str, Any]:
    told = {
        "customModelDeploymentArn": one.arn,
        "customModelDeploymentName": one.name,
        "modelArn": one.body.modelArn,
        "createdAt": stamp(one.created_at),
        "status": one.status,
    }
    return {**told, "failureMessage": "The model could not be loaded."} if one.status == "Failed" else told
