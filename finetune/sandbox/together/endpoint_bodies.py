"""What requests to Together's dedicated model inference may hold, and chats. Names as together 3.1.1 sends them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from finetune.sandbox.together.bodies import Body, NoQuery

#: Of an endpoint and of a deployment. Ours: the vendor publishes no rule.
NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_Name = Annotated[str, Field(pattern=NAME)]
_Visibility = Literal["VISIBILITY_PRIVATE", "VISIBILITY_INTERNAL"]
_Replicas = Annotated[int, Field(ge=0)]


class Entry(Body):
    """How much of an endpoint's calls a deployment has."""

    deploymentId: str
    weight: Annotated[float, Field(ge=0)]


class EndpointsV1Query(NoQuery):
    """Of the old list of endpoints."""

    type: Literal["dedicated", "serverless"] | None = None
    usage_type: Literal["on-demand", "reserved"] | None = None
    mine: Literal["true", "false"] | None = None


class EndpointIn(Body):
    """A new endpoint."""

    name: _Name
    visibility: _Visibility | None = None


class EndpointPatch(Body):
    """What of an endpoint is changed."""

    trafficSplit: list[Entry] | None = None
    visibility: _Visibility | None = None
    etag: str | None = None


class Autoscaling(Body):
    """How many replicas there are."""

    minReplicas: _Replicas = 1
    maxReplicas: _Replicas = 1


class DeploymentIn(Body):
    """A new deployment."""

    name: _Name
    model: str
    config: str
    autoscaling: Autoscaling
    inactiveTimeout: Annotated[int, Field(ge=0, le=1440)] | None = None


class DeploymentPatch(Body):
    """What of a deployment is changed."""

    autoscaling: Autoscaling
    etag: str | None = None


class ChatIn(Body):
    """A chat. Most of it changes no answer here."""

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | int | None = None
    top_p: float | int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class PageQuery(NoQuery):
    """Which part of a list."""

    after: str | None = None
    limit: int | None = Field(default=None, ge=1, le=500)


class ConfigsQuery(PageQuery):
    """Whose configurations."""

    referenceModel: str


class MaskQuery(NoQuery):
    """Which fields are changed."""

    updateMask: str | None = None
