"""Fireworks' published contract in our own words, as JSON schemas, and a stand-in that is held to it.

Closed: a field that is not named here is a violation. Written from the types of fireworks-ai 1.2.30, as of 2026-11; the
form of a refusal is what users of the API were seen to get, and what gRPC's gateways make.
`tests/support/compare_contracts_fireworks.py` holds it against them.
"""

import json
from typing import Any

from finetune.sandbox.fireworks.sandbox import FireworksSandbox
from finetune.sandbox.service import Reply, Request, Route
from tests.support.watched import Held, against, closed, many

STATES = [
    "JOB_STATE_" + word
    for word in (
        *("UNSPECIFIED", "CREATING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "DELETING", "WRITING_RESULTS"),
        *("VALIDATING", "DELETING_CLEANING_UP", "PENDING", "EXPIRED", "RE_QUEUEING", "CREATING_INPUT_DATASET"),
        *("IDLE", "CANCELLING", "EARLY_STOPPED", "PAUSED"),
    )
]
CODES = [
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
]
FORMATS = ["FORMAT_UNSPECIFIED", "CHAT", "COMPLETION", "RL"]

TEXT: dict[str, Any] = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}
YES_NO = {"type": "boolean"}
#: A whole number of 64 bits, which JSON's numbers do not hold.
BIG = {"type": "string", "pattern": "^[0-9]+$"}
MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
EMPTY = {"type": "object", "maxProperties": 0}

STATUS = closed({"code": {"enum": CODES}, "message": TEXT})
URLS = closed({"filenameToSignedUrls": {"type": "object", "additionalProperties": TEXT}})

CREATE_DATASET = closed(
    {
        "datasetId": TEXT,
        "dataset": closed(
            {}, {"displayName": TEXT, "exampleCount": BIG, "userUploaded": EMPTY, "format": {"enum": FORMATS}}
        ),
    },
    {"sourceDatasetId": TEXT},
)
UPLOAD_ENDPOINT = closed({"filenameToSize": {"type": "object", "additionalProperties": BIG}}, {"readMask": TEXT})
DATASET = closed(
    {"name": TEXT},
    {
        "averageTurnCount": NUMBER,
        "createdBy": TEXT,
        "createTime": MOMENT,
        "displayName": TEXT,
        # Not among its fields; the package's own upload reads it.
        "encryptionState": TEXT,
        "estimatedTokenCount": BIG,
        "exampleCount": BIG,
        "format": {"enum": FORMATS},
        "state": {"enum": ["STATE_UNSPECIFIED", "UPLOADING", "READY"]},
        "status": STATUS,
        "updateTime": MOMENT,
        "userUploaded": EMPTY,
    },
)
WANDB_OUT = closed({}, {"enabled": YES_NO, "entity": TEXT, "project": TEXT, "runId": TEXT, "url": TEXT})
WANDB_IN = closed({}, {**WANDB_OUT["properties"], "apiKey": TEXT})
_TRAINING = {
    "baseModel": TEXT,
    "batchSize": WHOLE,
    "batchSizeSamples": WHOLE,
    "samplerCheckpointSaveIntervalSteps": WHOLE,
    "epochs": WHOLE,
    "gradientAccumulationSteps": WHOLE,
    "jinjaTemplate": TEXT,
    "learningRate": NUMBER,
    "learningRateWarmupSteps": WHOLE,
    "loraRank": WHOLE,
    "maxContextLength": WHOLE,
    "optimizerWeightDecay": NUMBER,
    "outputModel": TEXT,
    "warmStartFrom": TEXT,
}
LOSS = closed(
    {},
    {
        "method": {"enum": ["METHOD_UNSPECIFIED", "GRPO", "DAPO", "DPO", "ORPO", "GSPO_TOKEN"]},
        "klBeta": NUMBER,
        "dpo": closed(
            {},
            {
                "beta": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
                "refCacheConcurrency": WHOLE,
                "refCacheBatchSize": WHOLE,
            },
        ),
    },
)
_SFT_MORE = {
    "displayName": TEXT,
    "earlyStop": YES_NO,
    "evalAutoCarveout": YES_NO,
    "evaluationDataset": TEXT,
    "isTurbo": YES_NO,
    "metricsFileSignedUrl": TEXT,
    "nodes": WHOLE,
}
_DPO_MORE = {"displayName": TEXT, "lossConfig": LOSS, "trainingConfig": closed({}, _TRAINING)}
CREATE_SFT = closed({"dataset": TEXT}, {**_TRAINING, **_SFT_MORE, "wandbConfig": WANDB_IN})
CREATE_DPO = closed({"dataset": TEXT}, {**_DPO_MORE, "wandbConfig": WANDB_IN})

COST = closed(
    {}, {"currencyCode": TEXT, "units": BIG, "nanos": {"type": "integer", "minimum": 0, "maximum": 999_999_999}}
)
PROGRESS = closed({}, {"percent": {"type": "integer", "minimum": 0, "maximum": 100}, "epoch": WHOLE})
_TOLD = {
    "completedTime": MOMENT,
    "createdBy": TEXT,
    "createTime": MOMENT,
    "state": {"enum": STATES},
    "status": STATUS,
    "trainerLogsSignedUrl": TEXT,
    "wandbConfig": WANDB_OUT,
}
SFT_JOB = closed(
    {"name": TEXT, "dataset": TEXT},
    {**_TRAINING, **_SFT_MORE, **_TOLD, "updateTime": MOMENT, "estimatedCost": COST, "jobProgress": PROGRESS},
)
DPO_JOB = closed({"name": TEXT, "dataset": TEXT}, {**_DPO_MORE, **_TOLD})
JOB = {"anyOf": [SFT_JOB, DPO_JOB]}


def page(key: str, row: dict[str, Any]) -> dict[str, Any]:
    return closed({}, {key: many(row), "nextPageToken": TEXT, "totalSize": WHOLE})


MODEL = closed(
    {"name": TEXT},
    {
        "createTime": MOMENT,
        "fineTuningJob": TEXT,
        "huggingFaceUrl": TEXT,
        "kind": {"enum": ["HF_BASE_MODEL", "HF_PEFT_ADDON"]},
        "peftDetails": closed({"baseModel": TEXT, "r": WHOLE, "targetModules": many(TEXT)}),
        "public": YES_NO,
        "state": {"enum": ["STATE_UNSPECIFIED", "UPLOADING", "READY"]},
        "status": STATUS,
        "supportsLora": YES_NO,
        "supportsServerless": YES_NO,
    },
)
SUSPENDED = [
    "UNSUSPENDED",
    "FAILED_PAYMENTS",
    "CREDIT_DEPLETED",
    "MONTHLY_SPEND_LIMIT_EXCEEDED",
    "BLOCKED_BY_ABUSE_RULE",
]
ACCOUNT = closed(
    {"email": TEXT},
    {
        "name": TEXT,
        "displayName": TEXT,
        "state": {"enum": ["STATE_UNSPECIFIED", "CREATING", "READY", "UPDATING", "DELETING"]},
        "status": STATUS,
        "suspendState": {"enum": SUSPENDED},
    },
)
ERROR = closed({"code": WHOLE, "message": TEXT}, {"details": {"type": "array"}})
GPUS = [
    *("ACCELERATOR_TYPE_UNSPECIFIED", "NVIDIA_A100_80GB", "NVIDIA_H100_80GB", "AMD_MI300X_192GB", "NVIDIA_A10G_24GB"),
    *("NVIDIA_A100_40GB", "NVIDIA_L4_24GB", "NVIDIA_H200_141GB", "NVIDIA_B200_180GB", "AMD_MI325X_256GB"),
    "AMD_MI350X_288GB",
]
DEPLOYMENT_STATES = ["STATE_UNSPECIFIED", "CREATING", "READY", "DELETING", "FAILED", "UPDATING", "DELETED"]
_DEPLOYMENT = {
    "acceleratorCount": WHOLE,
    "acceleratorType": {"enum": GPUS},
    "deploymentShape": TEXT,
    "description": TEXT,
    "displayName": {"type": "string", "maxLength": 63},
    "maxReplicaCount": WHOLE,
    "minReplicaCount": WHOLE,
}
CREATE_DEPLOYMENT = closed({"baseModel": TEXT}, _DEPLOYMENT)
REPLICAS = closed(
    {},
    dict.fromkeys(
        (
            *("downloadingModelReplicaCount", "initializingReplicaCount"),
            *("pendingSchedulingReplicaCount", "readyReplicaCount"),
        ),
        WHOLE,
    ),
)
DEPLOYMENT = closed(
    {"baseModel": TEXT},
    {
        **_DEPLOYMENT,
        "createTime": MOMENT,
        "name": TEXT,
        "replicaStats": REPLICAS,
        "state": {"enum": DEPLOYMENT_STATES},
        "status": STATUS,
    },
)
#: Not among the package's control plane: OpenAI's protocol, as its pages have it.
CHAT_ERROR = closed({"error": closed({"message": TEXT}, {"object": TEXT, "type": TEXT, "code": TEXT})})

_PAGING = ["filter", "orderBy", "pageSize", "pageToken", "readMask"]
#: Parameters of each operation's query.
QUERIES = {
    "create": ["supervisedFineTuningJobId", "dpoJobId"],
    "list": _PAGING,
    "list_datasets": _PAGING,
    "models": _PAGING,
    "deploy": ["deploymentId", "acceptShapelessRisk", "validateOnly"],
    "deployments": [*_PAGING, "showDeleted"],
    "undeploy": ["hard", "ignoreChecks"],
    "upload": ["X-Goog-Signature"],
    "content": ["X-Goog-Signature"],
}
BODIES = {
    "create_dataset": CREATE_DATASET,
    "upload_endpoint": UPLOAD_ENDPOINT,
    "validate": EMPTY,
    "cancel": EMPTY,
    "deploy": CREATE_DEPLOYMENT,
}
ANSWERS = {
    "account": ACCOUNT,
    "create_dataset": DATASET,
    "retrieve_dataset": DATASET,
    "list_datasets": page("datasets", DATASET),
    "delete_dataset": EMPTY,
    "upload_endpoint": URLS,
    "validate": EMPTY,
    "create": JOB,
    "retrieve": JOB,
    "list": {"anyOf": [page("supervisedFineTuningJobs", SFT_JOB), page("dpoJobs", DPO_JOB)]},
    "cancel": EMPTY,
    "metrics_endpoint": closed({"signedUrl": TEXT}),
    "retrieve_model": MODEL,
    "models": page("models", MODEL),
    "download_endpoint": URLS,
    "deploy": DEPLOYMENT,
    "deployment": DEPLOYMENT,
    "deployments": page("deployments", DEPLOYMENT),
    "undeploy": EMPTY,
}


def violations(operation: str, request: Request, reply: Reply, *, refused: bool) -> list[str]:
    """What of a request that was taken, and of its answer, is not as the contract has it."""
    if refused:
        # The storage behind the API speaks XML.
        form = CHAT_ERROR if operation == "chat" else ERROR
        return [] if isinstance(reply.body, bytes) else against(form, reply.body, f"{operation} refuses")
    found = [f"{operation}: {name} in the query" for name in request.query if name not in QUERIES.get(operation, [])]
    body = BODIES.get(operation)
    if operation == "create":
        body = CREATE_DPO if "/dpoJobs" in request.path else CREATE_SFT
    if body:
        found += against(body, json.loads(request.body), f"{operation} sends")
    if operation in ANSWERS:
        found += against(ANSWERS[operation], reply.body, f"{operation} answers")
    return found


class Watched(Held, FireworksSandbox):
    """The stand-in, held to the contract."""

    def routes(self) -> list[Route]:
        return self.held(super().routes())

    def broken(self, operation: str, request: Request, reply: Reply, *, refused: bool) -> list[str]:
        return violations(operation, request, reply, refused=refused)

    def odd(self, reply: Reply) -> bool:
        return isinstance(reply.body, dict) and reply.body.get("state") == "JOB_STATE_REBALANCING"
