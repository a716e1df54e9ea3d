"""A stand-in for Together's dedicated model inference (`/v2`) and its answers, as together 3.1.1 and the docs have it.

A deployment starts for a while, answers once calls are routed to it, and is billed while its replica is ready. It can
be deleted when it has stopped and has no share of the calls. Bases answer by their own names, which is more than the
vendor's do: many of those want an endpoint too (`serverless` says which are asked without, here and in the old list of
endpoints, which is what is left of it).
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from finetune.sandbox.chats import said, used
from finetune.sandbox.service import Reply, Request
from finetune.sandbox.together import endpoint_bodies as bodies
from finetune.sandbox.together.bodies import NoQuery
from finetune.sandbox.together.words import body, checked, no_such, refuse

PROJECT: Final = "proj_sandbox"
SLUG: Final = "sandbox-project"
#: Whose the configurations are.
PLATFORM: Final = "proj_platform"
#: What an hour costs, US cents. docs.together.ai, dedicated-endpoints/pricing, read 2026-11-29.
CENTS: Final = {"1xnvidia-h100-80gb": 549, "4xnvidia-h100-80gb": 2196, "1xnvidia-b200-180gb": 899}
_MODELS: Final = f"projects/{PROJECT}/models/"
_ENDPOINTS: Final = "/v2/projects/{project}/endpoints"
_IDLE: Final = ("STOPPED", "FAILED")

Row = dict[str, Any]
#: Method, path, operation, handler, what its query may have.
Line = tuple[str, str, str, Callable[[Request], Reply], type[Any]]


@dataclass(kw_only=True)
class Deployed:
    """One deployment."""

    id: str
    name: str
    asked: bodies.DeploymentIn
    #: The tuned model's name.
    model: str
    created: float
    #: It never gets ready.
    fails: bool = False
    #: From when to when it had a replica, or was to have one; the last end is None while it has.
    runs: list[list[float | None]] = field(default_factory=list)


@dataclass(kw_only=True)
class Endpoint:
    """One endpoint, there or gone."""

    id: str
    #: Without the project.
    name: str
    created: float
    deployments: list[Deployed] = field(default_factory=list)
    #: Weights by the deployment's id.
    split: dict[str, float] = field(default_factory=dict)
    gone: bool = False

    @property
    def whole(self) -> str:
        """The name that answers."""
        return f"{SLUG}/{self.name}"


class Endpoints:
    """All of one project. Not safe for threads: the sandbox holds its lock."""

    def __init__(self, tuned: Callable[[str], str | None], now: Callable[[], float], bases: frozenset[str]) -> None:
        """`tuned` leads from a model's id in the registry to its name, `now` is seconds since 1970."""
        self._tuned, self._now = tuned, now
        #: All that ever were, oldest first.
        self.book: list[Endpoint] = []
        #: All deployments that ever were.
        self.deployments: list[Deployed] = []
        #: Bases that answer without an endpoint.
        self.serverless = set(bases)
        #: Of a replica, seconds.
        self.starting_s, self.stopping_s = 1.0, 1.0
        #: New deployments fail.
        self.failing = False
        #: Rows of a page.
        self.page = 50
        #: For every tuned model: what it can run on.
        self.configs = [
            _config("cr_sandbox1", "1", "nvidia-h100-80gb", "balanced"),
            _config("cr_sandbox2", "4", "nvidia-h100-80gb", "throughput"),
        ]
        self.cents = dict(CENTS)

    def table(self) -> list[Line]:
        """All operations."""
        one, all_of = _ENDPOINTS + "/{endpoint}", _ENDPOINTS + "/{endpoint}/deployments"
        return [
            ("GET", "/v1/whoami", "whoami", self._whoami, NoQuery),
            ("POST", "/v1/endpoints", "endpoints_v1", self._retired, NoQuery),
            ("GET", "/v1/endpoints", "serverless", self._served, bodies.EndpointsV1Query),
            ("POST", "/v1/chat/completions", "chat", self._chat, NoQuery),
            ("GET", "/v2/public/inference-instance-types", "hardware", self._hardware, bodies.PageQuery),
            ("GET", "/v2/projects/{project}/configs", "configs", self._configs, bodies.ConfigsQuery),
            ("GET", _ENDPOINTS, "endpoints", self._list, bodies.PageQuery),
            ("POST", _ENDPOINTS, "make_endpoint", self._make, NoQuery),
            ("GET", one, "endpoint", lambda asked: Reply(body=self._shown(self._found(asked))), NoQuery),
            ("PATCH", one, "route", self._route, bodies.MaskQuery),
            ("DELETE", one, "delete_endpoint", self._delete, NoQuery),
            ("POST", all_of, "deploy", self._deploy, NoQuery),
            ("GET", all_of + "/{deployment}", "deployment", self._look, NoQuery),
            ("PATCH", all_of + "/{deployment}", "scale", self._scale, bodies.MaskQuery),
            ("DELETE", all_of + "/{deployment}", "undeploy", self._undeploy, NoQuery),
        ]

    def there(self) -> list[Endpoint]:
        """Endpoints that are not deleted."""
        return [one for one in self.book if not one.gone]

    def costing(self) -> list[str]:
        """The names of the deployments that have a replica now, or are to have one."""
        return [each.name for each in self.deployments if self.state(each) not in _IDLE]

    def hours(self) -> float:
        """For how many hours replicas have been ready, all together: what is billed."""
        now, total = self._now(), 0.0
        for each in self.deployments:
            for since, until in each.runs if not each.fails else ():
                ready = (since or 0) + self.starting_s
                total += max(0.0, min(now, now if until is None else until + self.stopping_s) - ready)
        return total / 3600

    def state(self, one: Deployed) -> str:
        """The vendor's word, without what all of them begin with."""
        since, until = one.runs[-1] if one.runs else (None, 0.0)
        now = self._now()
        if until is not None:
            return "STOPPING" if now < until + self.stopping_s else "STOPPED"
        if now < (since or 0) + self.starting_s:
            return "PROVISIONING"
        return "FAILED" if one.fails else "READY"

    # Operations.

    def _whoami(self, request: Request) -> Reply:
        told = {"api_key_id": "key_sandbox", "organization_id": "org_sandbox", "organization_name": "Sandbox"}
        return Reply(body={**told, "project_id": PROJECT, "project_name": "Sandbox", "project_slug": SLUG})

    def _retired(self, request: Request) -> Reply:
        raise refuse(403, "Creating v1 endpoints is no longer available.", code="endpoints_v1_create_access_disabled")

    def _served(self, request: Request) -> Reply:
        """The old list: nobody has an endpoint of that kind, and what is served to all counts as one."""
        names = () if request.one("type") == "dedicated" or request.one("mine") == "true" else sorted(self.serverless)
        told = {"object": "endpoint", "type": "serverless", "owner": "together", "state": "STARTED"}
        made = {**told, "created_at": _iso(0.0)}
        return Reply(
            body={
                "object": "list",
                "data": [{**made, "id": f"endpoint-{name}", "name": name, "model": name} for name in names],
            }
        )

    def _hardware(self, request: Request) -> Reply:
        return Reply(body={"data": [_instance(name, cents) for name, cents in self.cents.items()]})

    def _configs(self, request: Request) -> Reply:
        _in_project(request)
        model = request.one("referenceModel") or ""
        self._model(model)
        return self._paged(request, [{**each, "referenceModel": model} for each in self.configs])

    def _list(self, request: Request) -> Reply:
        _in_project(request)
        return self._paged(request, [self._shown(one) for one in self.there()])

    def _paged(self, request: Request, rows: Sequence[Row]) -> Reply:
        start = int(request.one("after") or 0)
        end = start + int(request.one("limit") or self.page)
        return Reply(body={"data": list(rows[start:end]), **({"next_cursor": str(end)} if end < len(rows) else {})})

    def _make(self, request: Request) -> Reply:
        _in_project(request)
        asked = checked(bodies.EndpointIn, body(request.body))
        if any(one.name == asked.name for one in self.there()):
            raise refuse(409, f"An endpoint named {asked.name} already exists.", code="already_exists")
        made = Endpoint(id=f"ep_{uuid.uuid4().hex[:20]}", name=asked.name, created=self._now())
        self.book.append(made)
        return Reply(body=self._shown(made))

    def _route(self, request: Request) -> Reply:
        one, asked = self._found(request), checked(bodies.EndpointPatch, body(request.body))
        if request.one("updateMask") not in (None, "trafficSplit") or asked.trafficSplit is None:
            raise refuse(400, "updateMask: the sandbox changes trafficSplit only", param="updateMask")
        known = {each.id for each in one.deployments}
        if unknown := [each.deploymentId for each in asked.trafficSplit if each.deploymentId not in known]:
            raise refuse(400, f"trafficSplit: no deployment {unknown[0]}", param="trafficSplit")
        one.split = {each.deploymentId: each.weight for each in asked.trafficSplit if each.weight}
        return Reply(body=self._shown(one))

    def _delete(self, request: Request) -> Reply:
        one = self._found(request)
        if one.deployments:
            raise refuse(400, "the endpoint still has deployments and cannot be deleted")
        one.gone = True
        return Reply(body={"id": one.id})

    def _deploy(self, request: Request) -> Reply:
        endpoint, asked = self._found(request), checked(bodies.DeploymentIn, body(request.body))
        if any(each.name == asked.name for each in endpoint.deployments):
            raise refuse(409, f"A deployment named {asked.name} already exists.", code="already_exists")
        model = self._model(asked.model)
        if asked.config not in {f"projects/{PLATFORM}/configs/{each['id']}" for each in self.configs}:
            raise refuse(400, f"config: {asked.config} is not compatible with the model", param="config")
        made = Deployed(
            id=f"dep_{uuid.uuid4().hex[:20]}", name=asked.name, asked=asked, model=model, created=self._now()
        )
        made.fails = self.failing
        if asked.autoscaling.minReplicas:
            made.runs.append([self._now(), None])
        endpoint.deployments.append(made)
        self.deployments.append(made)
        return Reply(body=self._detailed(endpoint, made))

    def _look(self, request: Request) -> Reply:
        endpoint = self._found(request)
        return Reply(body=self._detailed(endpoint, _of(endpoint, request)))

    def _scale(self, request: Request) -> Reply:
        endpoint, asked = self._found(request), checked(bodies.DeploymentPatch, body(request.body))
        one, replicas = _of(endpoint, request), asked.autoscaling.minReplicas
        if request.one("updateMask") not in (None, "autoscaling"):
            raise refuse(400, "updateMask: the sandbox changes autoscaling only", param="updateMask")
        state = self.state(one)
        if replicas and state == "FAILED":
            raise refuse(400, "the deployment is in a terminal FAILED state and cannot be restarted")
        if replicas and state == "STOPPING":
            raise refuse(400, "the deployment must be stopped before it can be restarted")
        if replicas and state == "STOPPED":
            one.runs.append([self._now(), None])
        elif not replicas and one.runs and one.runs[-1][1] is None:
            one.runs[-1][1] = self._now()
        one.asked = one.asked.model_copy(update={"autoscaling": asked.autoscaling})
        return Reply(body=self._detailed(endpoint, one))

    def _undeploy(self, request: Request) -> Reply:
        endpoint = self._found(request)
        one = _of(endpoint, request)
        if self.state(one) not in _IDLE:
            raise refuse(400, "the deployment must be stopped before it can be deleted")
        if one.id in endpoint.split:
            what = "the deployment is referenced by an endpoint's traffic split and cannot be deleted"
            raise refuse(400, f"{what}; please drop traffic split weight to 0 before deleting the deployment")
        endpoint.deployments.remove(one)
        return Reply(body={"id": one.id})

    def _chat(self, request: Request) -> Reply:
        asked = checked(bodies.ChatIn, body(request.body))
        name = asked.model if asked.model in self.serverless else self._answering(asked.model)
        answer = said(name, asked.messages)
        message = {"role": "assistant", "content": answer, "tool_calls": []}
        made = {"id": uuid.uuid4().hex, "object": "chat.completion", "created": int(self._now()), "model": asked.model}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return Reply(body={**made, "choices": choices, "usage": used(asked.messages, answer)})

    def _answering(self, name: str) -> str:
        """The tuned model behind an endpoint's name, or behind a deployment's. Raises Refusal."""
        project, _, rest = name.partition("/")
        wanted, _, deployment = rest.partition("/")
        endpoint = next((one for one in self.there() if project == SLUG and one.name == wanted), None)
        if endpoint is None:
            raise refuse(400, f"Unable to access non-serverless model {name}.", code="model_not_available")
        live = [each for each in endpoint.deployments if each.name == deployment or each.id in endpoint.split]
        if not live:
            raise refuse(400, "The endpoint has no deployment in its traffic split.", code="endpoint_not_configured")
        if ready := [each for each in live if self.state(each) == "READY"]:
            return ready[0].model
        raise refuse(503, "No replica is ready.", code="service_unavailable")

    # Inside.

    def _model(self, resource: str) -> str:
        """The name of a tuned model in the registry. Raises Refusal."""
        name = self._tuned(resource.removeprefix(_MODELS).partition("/revisions/")[0])
        if not resource.startswith(_MODELS) or name is None:
            raise refuse(400, f"model: {resource} is not there", param="model")
        return name

    def _found(self, request: Request) -> Endpoint:
        _in_project(request)
        wanted = request.parts["endpoint"]
        found = next((one for one in self.there() if one.id == wanted), None)
        if found is None:
            raise no_such("Endpoint")
        return found

    def _shown(self, one: Endpoint) -> Row:
        return {
            "id": one.id,
            "name": one.whole,
            "projectId": PROJECT,
            "createdAt": _iso(one.created),
            "updatedAt": _iso(one.created),
            "etag": "1",
            "endpointType": "ENDPOINT_TYPE_DEDICATED",
            "visibility": "VISIBILITY_PRIVATE",
            "deployments": [self._summary(one, each) for each in one.deployments[-10:]],
            "trafficSplit": [{"deploymentId": known, "weight": weight} for known, weight in one.split.items()],
        }

    def _summary(self, endpoint: Endpoint, one: Deployed) -> Row:
        return {
            "id": one.id,
            "name": f"{endpoint.whole}/{one.name}",
            "createdAt": _iso(one.created),
            "autoscaling": one.asked.autoscaling.model_dump(),
            "hardware": _hardware_of(self.configs, one.asked.config),
            "model": _pinned(one.asked.model),
            "modelId": one.asked.model.removeprefix(_MODELS),
            "state": f"DEPLOYMENT_STATE_{self.state(one)}",
            "trafficMode": "TRAFFIC_MODE_LIVE",
        }

    def _detailed(self, endpoint: Endpoint, one: Deployed) -> Row:
        told = self._summary(endpoint, one)
        state, revision = told.pop("state"), told["model"].rpartition("/")[2]
        message = "Cannot place replicas: sandbox" if one.fails else "All replicas ready"
        more = {"endpointId": endpoint.id, "projectId": PROJECT, "updatedAt": _iso(one.created), "etag": "1"}
        config = {"config": one.asked.config, "configId": one.asked.config.rpartition("/")[2]}
        return {**told, **more, **config, "modelRevisionId": revision, "status": {"state": state, "message": message}}


def _of(endpoint: Endpoint, request: Request) -> Deployed:
    found = next((each for each in endpoint.deployments if each.id == request.parts["deployment"]), None)
    if found is None:
        raise no_such("Deployment")
    return found


def _in_project(request: Request) -> None:
    if request.parts["project"] != PROJECT:
        raise no_such("Project")


def _pinned(model: str) -> str:
    return model if "/revisions/" in model else f"{model}/revisions/rv_{model.rpartition('_')[2]}"


def _config(name: str, count: str, kind: str, optimization: str) -> Row:
    told = {"accelerator_count": count, "accelerator_type": kind, "optimization": optimization}
    selectors = [{"key": key, "value": value} for key, value in {**told, "topology": "aggregated"}.items()]
    return {"id": name, "projectId": PLATFORM, "selectors": selectors, "certifications": [], "referenceModelId": ""}


def _hardware_of(configs: Sequence[Row], resource: str) -> str:
    found = next((each for each in configs if each["id"] == resource.rpartition("/")[2]), None)
    known = {each["key"]: each["value"] for each in found["selectors"]} if found else {}
    return f"{known.get('accelerator_count')}x{known.get('accelerator_type')}"


def _instance(name: str, cents: int) -> Row:
    count, _, kind = name.partition("x")
    gpu, memory = kind.removeprefix("nvidia-").rsplit("-", 1)
    region = {"name": "us-east-1", "headroom": {"relation": "RELATION_GTE", "value": 4}}
    told = {"id": f"it_{kind}_{count}", "name": name, "description": name, "gpuCount": int(count)}
    return {
        **told,
        "gpuMemoryGib": int(memory.removesuffix("gb")),
        "gpuType": gpu.upper(),
        "priceCentsPerHour": cents,
        "regions": [region],
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
