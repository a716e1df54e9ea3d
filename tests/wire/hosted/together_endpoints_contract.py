"""Together's dedicated model inference in our own words, as JSON schemas: from the types of the vendor's package 3.1.1.

Closed, as `together_contract`: a field that is not named here is a violation.
"""

from typing import Any

from tests.support.watched import closed, many, maybe

TEXT: dict[str, Any] = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
#: `PROJECT/ENDPOINT`, and with the deployment.
ENDPOINT_NAME = {"type": "string", "pattern": "^[^/]+/[^/]+$"}
DEPLOYMENT_NAME = {"type": "string", "pattern": "^[^/]+/[^/]+/[^/]+$"}
MODEL = {"type": "string", "pattern": "^projects/[^/]+/models/ml_[^/]+$"}
PINNED = {"type": "string", "pattern": "^projects/[^/]+/models/ml_[^/]+/revisions/rv_[^/]+$"}
CONFIG = {"type": "string", "pattern": "^projects/[^/]+/configs/cr_[^/]+$"}
STATE = {
    "enum": [
        f"DEPLOYMENT_STATE_{word}"
        for word in ("PROVISIONING", "READY", "SCALING", "DEGRADED", "FAILED", "STOPPED", "STOPPING")
    ]
}
AUTOSCALING = closed(
    {},
    {
        "minReplicas": WHOLE,
        "maxReplicas": WHOLE,
        **dict.fromkeys(("scaleUpWindow", "scaleDownWindow", "scaleToZeroWindow"), TEXT),
    },
)
SPLIT = many(closed({"deploymentId": TEXT, "weight": {"type": "number", "minimum": 0}}))
MODE = {"enum": ["TRAFFIC_MODE_LIVE", "TRAFFIC_MODE_SHADOW"]}
VISIBILITY = {"enum": ["VISIBILITY_PRIVATE", "VISIBILITY_INTERNAL"]}
_BOTH = {
    "id": TEXT,
    "autoscaling": AUTOSCALING,
    "createdAt": TIME,
    "hardware": TEXT,
    "model": PINNED,
    "modelId": TEXT,
    "name": DEPLOYMENT_NAME,
    "trafficMode": MODE,
}
_MAYBE = {"desiredReplicas": WHOLE, "estimatedEffectiveTrafficShare": NUMBER, "readyReplicas": WHOLE}
SUMMARY = closed({**_BOTH, "state": STATE}, _MAYBE)
STATUS = closed({"message": TEXT, "state": STATE}, {"readyReplicas": WHOLE, "scheduledReplicas": WHOLE})
DEPLOYMENT = closed(
    {
        **_BOTH,
        "status": STATUS,
        "config": CONFIG,
        **dict.fromkeys(("configId", "endpointId", "etag", "modelRevisionId", "projectId"), TEXT),
        "updatedAt": TIME,
    },
    {"desiredReplicas": WHOLE, "estimatedEffectiveTrafficShare": NUMBER, "enableLora": {"type": "boolean"}},
)
ENDPOINT = closed(
    {
        "id": TEXT,
        "name": ENDPOINT_NAME,
        "projectId": TEXT,
        "etag": TEXT,
        "createdAt": TIME,
        "updatedAt": TIME,
        "deployments": many(SUMMARY),
        "endpointType": {"enum": [f"ENDPOINT_TYPE_{word}" for word in ("DEDICATED", "SERVERLESS", "RESERVED")]},
        "trafficSplit": SPLIT,
        "visibility": VISIBILITY,
    },
    {"activeRolloutId": TEXT},
)
CONFIG_ROW = closed(
    {
        **dict.fromkeys(("id", "projectId", "referenceModelId"), TEXT),
        "referenceModel": MODEL,
        "certifications": {"type": "array"},
        "selectors": many(closed({"key": TEXT, "value": TEXT})),
    },
    {"draftModel": TEXT},
)
REGION = closed({"name": TEXT}, {"headroom": closed({"relation": TEXT}, {"value": WHOLE})})
HARDWARE = closed(
    {
        **dict.fromkeys(("id", "description", "gpuType", "name"), TEXT),
        **dict.fromkeys(("gpuCount", "gpuMemoryGib", "priceCentsPerHour"), WHOLE),
        "regions": many(REGION),
    }
)
WHO = closed(
    dict.fromkeys(
        ("api_key_id", "organization_id", "organization_name", "project_id", "project_name", "project_slug"), TEXT
    )
)


#: The old list, by the vendor's OpenAPI description: `dedicated` or `serverless`.
V1 = closed(
    {
        "object": {"const": "list"},
        "data": many(
            closed(
                {
                    "object": {"const": "endpoint"},
                    "type": {"enum": ["serverless", "dedicated"]},
                    "state": {"enum": ["PENDING", "STARTING", "STARTED", "STOPPING", "STOPPED", "ERROR"]},
                    **dict.fromkeys(("id", "name", "model", "owner"), TEXT),
                    "created_at": TIME,
                }
            )
        ),
    }
)


def page(row: dict[str, Any]) -> dict[str, Any]:
    """One page of these."""
    return closed({"data": many(row)}, {"next_cursor": maybe(TEXT)})


_USAGE = closed(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), WHOLE))
_MESSAGE = closed({"role": {"const": "assistant"}, "content": maybe(TEXT)}, {"tool_calls": {"type": "array"}})
_CHOICE = closed({"index": WHOLE, "message": _MESSAGE, "finish_reason": TEXT})
CHAT = closed(
    {
        "id": TEXT,
        "object": {"const": "chat.completion"},
        "created": WHOLE,
        "model": TEXT,
        "choices": many(_CHOICE),
        "usage": _USAGE,
    }
)
SENT = {
    "make_endpoint": closed({"name": TEXT}, {"visibility": VISIBILITY}),
    "route": closed({}, {"trafficSplit": SPLIT, "etag": TEXT, "name": TEXT, "visibility": VISIBILITY}),
    "deploy": closed(
        {"name": TEXT, "autoscaling": AUTOSCALING, "model": MODEL, "config": CONFIG}, {"inactiveTimeout": WHOLE}
    ),
    "scale": closed({}, {"autoscaling": AUTOSCALING, "etag": TEXT, "name": TEXT, "inactiveTimeout": WHOLE}),
}
QUERIES = {
    "serverless": ["type", "usage_type", "mine"],
    "configs": ["referenceModel", "after", "limit"],
    "endpoints": ["after", "filter", "limit", "orderBy"],
    "route": ["updateMask"],
    "scale": ["updateMask"],
}
ANSWERS = {
    "whoami": WHO,
    "serverless": V1,
    "hardware": page(HARDWARE),
    "configs": page(CONFIG_ROW),
    "endpoints": page(ENDPOINT),
    "make_endpoint": ENDPOINT,
    "endpoint": ENDPOINT,
    "route": ENDPOINT,
    "delete_endpoint": closed({"id": TEXT}),
    "deploy": DEPLOYMENT,
    "deployment": DEPLOYMENT,
    "scale": DEPLOYMENT,
    "undeploy": closed({"id": TEXT}),
    "chat": CHAT,
}
