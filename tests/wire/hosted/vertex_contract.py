"""What goes over the wire to Vertex AI and Cloud Storage, as JSON schemas, after Google's published descriptions.

`TUNING_JOB` is the resource of v1beta1 as far as supervised and preference tuning use it; `CREATE` is what may be
sent of it. `tests/support/compare_contracts_vertex.py` holds its field names against the published ones.
"""

from typing import Any, Final

from jsonschema import Draft202012Validator

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}
#: Answers give numbers of 64 bits as text, requests may give either.
_INT64: Final[Schema] = {"anyOf": [{"type": "string", "pattern": r"^-?\d+$"}, {"type": "integer"}]}
_INT64_TOLD: Final[Schema] = {"type": "string", "pattern": r"^-?\d+$"}
_TIME: Final[Schema] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6}|\.\d{9})?Z$"}
_URI: Final[Schema] = {"type": "string", "pattern": r"^gs://[^/]+/.+"}


def _object(required: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": fields}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _name(kind: str, end: str = r"\d+") -> Schema:
    return {"type": "string", "pattern": rf"^projects/\d+/locations/[a-z0-9-]+/{kind}/{end}$"}


_ADAPTERS: Final = [f"ADAPTER_SIZE_{size}" for size in ("ONE", "TWO", "FOUR", "EIGHT", "SIXTEEN", "THIRTY_TWO")]
_MODES: Final = ["TUNING_MODE_FULL", "TUNING_MODE_PEFT_ADAPTER"]
STATES: Final = [
    f"JOB_STATE_{word}"
    for word in (
        *("QUEUED", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLING", "CANCELLED", "PAUSED", "EXPIRED"),
        *("UPDATING", "PARTIALLY_SUCCEEDED"),
    )
]
DETAILS: Final = [
    f"TUNING_JOB_STATE_{word}"
    for word in ("WAITING_FOR_QUOTA", "PROCESSING_DATASET", "WAITING_FOR_CAPACITY", "TUNING", "POST_PROCESSING")
]
_SUPERVISED: Final = _object(
    ("trainingDatasetUri",),
    trainingDatasetUri=_URI,
    validationDatasetUri=_URI,
    hyperParameters=_object(
        epochCount=_INT64,
        batchSize=_INT64,
        learningRate=_NUMBER,
        learningRateMultiplier=_NUMBER,
        adapterSize={"enum": _ADAPTERS},
    ),
    exportLastCheckpointOnly=_FLAG,
    tuningMode={"enum": _MODES},
)
_PREFERENCE: Final = _object(
    ("trainingDatasetUri",),
    trainingDatasetUri=_URI,
    validationDatasetUri=_URI,
    hyperParameters=_object(
        epochCount=_INT64, learningRateMultiplier=_NUMBER, adapterSize={"enum": _ADAPTERS}, beta=_NUMBER
    ),
    exportLastCheckpointOnly=_FLAG,
)
_LABELS: Final[Schema] = {
    "type": "object",
    "maxProperties": 64,
    "propertyNames": {"pattern": r"^(?!.*[A-Z])[^\W\d_][\w-]{0,63}$"},
    "additionalProperties": {"type": "string", "pattern": r"^(?!.*[A-Z])[\w-]{0,64}$"},
}
_SAID: Final[Schema] = {
    "baseModel": _TEXT,
    "preTunedModel": _object(tunedModelName=_TEXT, checkpointId=_TEXT),
    "customBaseModel": _URI,
    "description": _TEXT,
    "tunedModelDisplayName": {"type": "string", "maxLength": 128},
    "labels": _LABELS,
    "encryptionSpec": _object(kmsKeyName=_TEXT),
    "outputUri": _URI,
    "serviceAccount": _TEXT,
    "supervisedTuningSpec": _SUPERVISED,
    "preferenceOptimizationSpec": _PREFERENCE,
}
_ONE_KIND: Final = [{"required": ["supervisedTuningSpec"]}, {"required": ["preferenceOptimizationSpec"]}]

#: Google takes both spellings of a name, and its own package mixes them.
_KEY: Final = _object(kmsKeyName=_TEXT, kms_key_name=_TEXT)
CREATE: Final[Schema] = {**_object(("baseModel",), **{**_SAID, "encryptionSpec": _KEY}), "oneOf": _ONE_KIND}

_SPREAD: Final = {"min": _NUMBER, "max": _NUMBER, "mean": _NUMBER, "median": _NUMBER}
_STATS: Final = _object(
    supervisedTuningDataStats=_object(
        tuningDatasetExampleCount=_INT64_TOLD,
        totalBillableTokenCount=_INT64_TOLD,
        tuningStepCount=_INT64_TOLD,
        userInputTokenDistribution=_object(**_SPREAD, sum=_INT64_TOLD, billableSum=_INT64_TOLD),
    ),
    preferenceOptimizationDataStats=_object(
        tuningDatasetExampleCount=_INT64_TOLD,
        totalBillableTokenCount=_INT64_TOLD,
        tuningStepCount=_INT64_TOLD,
        userInputTokenDistribution=_object(**_SPREAD),
    ),
)
_CHECKPOINT: Final = _object(
    ("checkpointId", "epoch", "step", "endpoint"),
    checkpointId=_TEXT,
    epoch=_INT64_TOLD,
    step=_INT64_TOLD,
    endpoint=_name("endpoints"),
)
TUNING_JOB: Final[Schema] = {
    **_object(
        ("name", "state", "createTime", "updateTime"),
        **_SAID,
        name=_name("tuningJobs"),
        state={"enum": STATES},
        tuningJobState={"enum": DETAILS},
        tuningJobMetadata=_object(completedEpochCount=_INT64_TOLD, completedStepCount=_INT64_TOLD),
        createTime=_TIME,
        startTime=_TIME,
        endTime=_TIME,
        updateTime=_TIME,
        error=_object(("code", "message"), code={"type": "integer"}, message=_TEXT, details=_list({"type": "object"})),
        experiment=_name("metadataStores", "default/contexts/.+"),
        tunedModel=_object(
            ("model", "endpoint"),
            model=_name("models", r"\d+@\d+"),
            endpoint=_name("endpoints"),
            checkpoints=_list(_CHECKPOINT),
        ),
        tuningDataStats=_STATS,
    ),
    "allOf": [
        # What belongs to the end, and what does not.
        {
            "if": {"properties": {"state": {"enum": ["JOB_STATE_SUCCEEDED"]}}},
            "then": {"required": ["endTime", "tunedModel"]},
            "else": {"not": {"required": ["tunedModel"]}},
        },
        {
            "if": {"properties": {"state": {"enum": ["JOB_STATE_FAILED", "JOB_STATE_CANCELLED"]}}},
            "then": {"required": ["endTime", "error"]},
            "else": {"not": {"required": ["error"]}},
        },
        {
            "if": {"required": ["tuningJobState"]},
            "then": {"properties": {"state": {"enum": ["JOB_STATE_RUNNING"]}}, "required": ["startTime"]},
        },
    ],
}
LIST: Final = _object(tuningJobs=_list(TUNING_JOB), nextPageToken={"type": "string", "minLength": 1})
ERROR: Final = _object(
    ("error",),
    error=_object(
        ("code", "message", "status"),
        code={"type": "integer", "minimum": 400},
        message={"type": "string", "minLength": 1},
        status={"type": "string", "pattern": "^[A-Z_]+$"},
        details=_list({"type": "object", "required": ["@type"]}),
    ),
)
_MD5: Final[Schema] = {"type": "string", "pattern": r"^[A-Za-z0-9+/]{22}==$"}
OBJECT: Final = _object(
    ("kind", "id", "name", "bucket", "generation", "size", "md5Hash", "crc32c", "timeCreated", "updated"),
    kind={"const": "storage#object"},
    id=_TEXT,
    selfLink=_TEXT,
    name=_TEXT,
    bucket=_TEXT,
    generation=_INT64_TOLD,
    metageneration=_INT64_TOLD,
    contentType=_TEXT,
    storageClass=_TEXT,
    size=_INT64_TOLD,
    md5Hash=_MD5,
    crc32c={"type": "string", "pattern": r"^[A-Za-z0-9+/]{6}==$"},
    timeCreated=_TIME,
    updated=_TIME,
    metadata={"type": "object", "additionalProperties": _TEXT},
)
OBJECTS: Final = _object(
    ("kind",),
    kind={"const": "storage#objects"},
    items=_list(OBJECT),
    prefixes=_list(_TEXT),
    nextPageToken={"type": "string", "minLength": 1},
)
STORAGE_ERROR: Final = _object(
    ("error",),
    error=_object(
        ("code", "message", "errors"),
        code={"type": "integer", "minimum": 400},
        message={"type": "string", "minLength": 1},
        errors=_list(_object(("message", "domain", "reason"), message=_TEXT, domain=_TEXT, reason=_TEXT)),
    ),
)
#: What an operation answers when it goes well; None: nothing that is JSON.
ANSWERS: Final[dict[str, Schema | None]] = {
    "create": TUNING_JOB,
    "retrieve": TUNING_JOB,
    "list": LIST,
    "cancel": _object(),
    "file": OBJECT,
    "files": OBJECTS,
    "upload": OBJECT,
    "upload_part": OBJECT,
    "delete_file": None,
    "download": None,
    "bucket": {"type": "object", "required": ["kind", "name", "location"]},
}


def faults(value: Any, schema: Schema) -> list[str]:
    """Where the value is not as the schema has it, each with its place."""
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(value)]


def names(schema: Schema, path: str = "") -> set[str]:
    """The dotted names of all fields of a schema of ours."""
    out: set[str] = set()
    for field, inner in schema.get("properties", {}).items():
        out |= {path + field, *names(inner.get("items", inner), f"{path}{field}.")}
    return out
