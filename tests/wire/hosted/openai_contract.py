"""OpenAI's published contract, written down by hand: what may be sent and what comes back, as JSON Schemas.

After OpenAI's description 2.3.0 of 2026-08-21; `tests/support/compare_contracts_openai.py` holds it against the
published file. Stricter in one way: objects have no further fields. `Watched` lays it over a sandbox.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from http.client import HTTPConnection
from typing import Any, Final
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from finetune.sandbox.azure import AzureSandbox
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.service import Refusal, Reply, Request, Route
from tests.support.hosted import ROWS

Schema = Mapping[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_WHOLE: Final[Schema] = {"type": "integer"}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}
_TIME: Final[Schema] = {"type": "integer", "minimum": 1_000_000_000}


def _only(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def _object(needed: Mapping[str, Schema], further: Mapping[str, Schema] | None = None) -> Schema:
    properties = {**needed, **(further or {})}
    return {"type": "object", "properties": properties, "required": list(needed), "additionalProperties": False}


def _auto(schema: Schema) -> Schema:
    return {"oneOf": [_only("auto"), schema]}


_HYPERPARAMETERS: Final[Mapping[str, Schema]] = {
    "batch_size": _auto({"type": "integer", "minimum": 1, "maximum": 256}),
    "learning_rate_multiplier": _auto({"type": "number", "exclusiveMinimum": 0}),
    "n_epochs": _auto({"type": "integer", "minimum": 1, "maximum": 50}),
}
_BETA: Final[Mapping[str, Schema]] = {"beta": _auto({"type": "number", "exclusiveMinimum": 0, "maximum": 2})}
_SUPERVISED: Final = _object({}, {"hyperparameters": _object({}, _HYPERPARAMETERS)})
_DPO: Final = _object({}, {"hyperparameters": _object({}, {**_HYPERPARAMETERS, **_BETA})})
#: Of reinforcement only the name: ft and its sandboxes do not train by it.
_METHOD: Final = _object(
    {"type": _only("supervised", "dpo", "reinforcement")},
    {"supervised": _SUPERVISED, "dpo": _DPO, "reinforcement": {"type": "object"}},
)
_METADATA: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": "string", "maxLength": 512},
    "propertyNames": {"maxLength": 64},
    "maxProperties": 16,
}
_WANDB: Final = _object({"project": _TEXT}, {"name": _or_null(_TEXT), "entity": _or_null(_TEXT), "tags": _list(_TEXT)})
_INTEGRATION: Final = _object({"type": _only("wandb"), "wandb": _WANDB})
_EXPIRY: Final = _object(
    {"anchor": _only("created_at"), "seconds": {"type": "integer", "minimum": 3600, "maximum": 2_592_000}}
)
_FILE: Final = _object(
    {
        "id": _TEXT,
        "object": _only("file"),
        "bytes": _WHOLE,
        "created_at": _TIME,
        "filename": _TEXT,
        "purpose": _only(
            *("assistants", "assistants_output", "batch", "batch_output", "fine-tune", "fine-tune-results"),
            *("vision", "user_data"),
        ),
        "status": _only("uploaded", "processed", "error"),
    },
    # null is what the SDK's own type allows, and what is sent.
    {"expires_at": _or_null(_TIME), "status_details": _or_null(_TEXT)},
)
_ERROR: Final = _object({"code": _TEXT, "message": _TEXT, "param": _or_null(_TEXT)})
_JOB: Final = _object(
    {
        "id": _TEXT,
        "object": _only("fine_tuning.job"),
        "created_at": _TIME,
        "error": _or_null(_ERROR),
        "fine_tuned_model": _or_null(_TEXT),
        "finished_at": _or_null(_TIME),
        "hyperparameters": _object({}, _HYPERPARAMETERS),
        "model": _TEXT,
        "organization_id": _TEXT,
        "result_files": _list(_TEXT),
        # The description names six; pausing and paused are in the guides only.
        "status": _only(
            *("validating_files", "queued", "running", "succeeded", "failed", "cancelled"), *("pausing", "paused")
        ),
        "trained_tokens": _or_null(_WHOLE),
        "training_file": _TEXT,
        "validation_file": _or_null(_TEXT),
        "seed": _WHOLE,
    },
    {
        "integrations": _or_null(_list(_INTEGRATION, maxItems=5)),
        "estimated_finish": _or_null(_TIME),
        "method": _METHOD,
        "metadata": _or_null(_METADATA),
    },
)
_EVENT: Final = _object(
    {
        "id": _TEXT,
        "object": _only("fine_tuning.job.event"),
        "created_at": _TIME,
        "level": _only("info", "warn", "error"),
        "message": _TEXT,
    },
    {"type": _only("message", "metrics"), "data": {"type": "object"}},
)
_VALUES: Final = (
    *("step", "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy"),
    *("full_valid_loss", "full_valid_mean_token_accuracy"),
)
_CHECKPOINT: Final = _object(
    {
        "id": _TEXT,
        "object": _only("fine_tuning.job.checkpoint"),
        "created_at": _TIME,
        "fine_tuned_model_checkpoint": _TEXT,
        "fine_tuning_job_id": _TEXT,
        "metrics": _object({}, dict.fromkeys(_VALUES, _NUMBER)),
        "step_number": _WHOLE,
    }
)
_UPLOAD: Final = _object(
    {
        "id": _TEXT,
        "bytes": _WHOLE,
        "created_at": _TIME,
        "expires_at": _TIME,
        "filename": _TEXT,
        "purpose": _TEXT,
        "status": _only("pending", "completed", "cancelled", "expired"),
    },
    {"object": _only("upload"), "file": _FILE},
)


def _page(item: Schema, ends: Schema | None = None) -> Schema:
    more = {"first_id": ends, "last_id": ends} if ends else {}
    return _object({"object": _only("list"), "data": _list(item), "has_more": _FLAG}, more)


def _changed(schema: Schema, **properties: Schema) -> Schema:
    """The same object with other or further properties."""
    return {**schema, "properties": {**schema["properties"], **properties}}


_CREATE: Final = _object(
    {"model": _TEXT, "training_file": _TEXT},
    {
        "hyperparameters": _object({}, _HYPERPARAMETERS),
        "suffix": _or_null({"type": "string", "minLength": 1, "maxLength": 64}),
        "validation_file": _or_null(_TEXT),
        "integrations": _or_null(_list(_INTEGRATION)),
        "seed": _or_null({"type": "integer", "minimum": 0, "maximum": 2_147_483_647}),
        "method": _METHOD,
        "metadata": _or_null(_METADATA),
    },
)


def _schemas(job: Schema, file: Schema, create: Schema) -> Mapping[str, Schema]:
    files = _page(file, _or_null(_TEXT))
    purposes = ("assistants", "batch", "fine-tune", "vision")
    upload = _object({"filename": _TEXT, "purpose": _only(*purposes), "bytes": _WHOLE, "mime_type": _TEXT})
    return {
        "OpenAIFile": file,
        # null: the first and last of nothing.
        "ListFilesResponse": {**files, "required": ["object", "data", "first_id", "last_id", "has_more"]},
        "DeleteFileResponse": _object({"id": _TEXT, "object": _only("file"), "deleted": _FLAG}),
        "CreateFileRequest": _object(
            {"file": _TEXT, "purpose": _only(*purposes, "user_data", "evals")}, {"expires_after": _EXPIRY}
        ),
        "CreateUploadRequest": _changed(upload, expires_after=_EXPIRY),
        "AddUploadPartRequest": _object({"data": _TEXT}),
        "CompleteUploadRequest": _object({"part_ids": _list(_TEXT)}, {"md5": _TEXT}),
        "Upload": _changed(_UPLOAD, file=file),
        "UploadPart": _object({"id": _TEXT, "object": _only("upload.part"), "created_at": _TIME, "upload_id": _TEXT}),
        "CreateFineTuningJobRequest": create,
        "FineTuningJob": job,
        "ListPaginatedFineTuningJobsResponse": _page(job),
        "FineTuningJobEvent": _EVENT,
        "ListFineTuningJobEventsResponse": _page(_EVENT),
        "FineTuningJobCheckpoint": _CHECKPOINT,
        "ListFineTuningJobCheckpointsResponse": _page(_CHECKPOINT, _or_null(_TEXT)),
    }


#: Under the names that the published description gives them.
SCHEMAS: Final = _schemas(_JOB, _FILE, _CREATE)
_STATES: Final = _JOB["properties"]["status"]["enum"]
#: Where Azure differs, as its documentation and what people met there say; no description of it is at hand.
AZURE_SCHEMAS: Final = _schemas(
    _changed(
        _JOB,
        organization_id=_or_null(_TEXT),
        result_files=_or_null(_list(_TEXT)),
        status=_only("pending", *_STATES),
    ),
    _changed(_FILE, status=_only("pending", "uploaded", "processed", "error")),
    _changed(_CREATE, trainingType=_only("Standard", "GlobalStandard", "Developer")),
)
_MODEL: Final = _object({"id": _TEXT, "object": _only("model"), "created": _TIME, "owned_by": _TEXT})
_NO_MODEL: Final = _object({"id": _TEXT, "object": _only("model"), "deleted": _FLAG})
_REFUSAL: Final = _object(
    {"error": _object({"message": _TEXT, "type": _TEXT, "param": _or_null(_TEXT), "code": _or_null(_TEXT)})}
)
_AZURE_REFUSAL: Final = _object({"error": _object({"code": _TEXT, "message": _TEXT})})
#: Of chats what ft and its sandboxes use; the published schemas have more.
_TURN: Final = _object(
    {"role": _only("developer", "system", "user", "assistant", "tool")},
    {
        "content": _or_null({"anyOf": [_TEXT, _list(_object({"type": _only("text"), "text": _TEXT}))]}),
        "name": _TEXT,
        "tool_call_id": _TEXT,
        "tool_calls": _list({"type": "object"}),
    },
)
_CHAT: Final = _object(
    {"model": _TEXT, "messages": _list(_TURN, minItems=1)},
    {
        "max_tokens": _or_null(_WHOLE),
        "max_completion_tokens": _or_null(_WHOLE),
        "temperature": _or_null({"type": "number", "minimum": 0, "maximum": 2}),
        "n": _or_null({"type": "integer", "minimum": 1, "maximum": 128}),
        "seed": _or_null(_WHOLE),
        "stream": _or_null(_FLAG),
        "tools": _list({"type": "object"}),
    },
)
_CHOICE: Final = _object(
    {
        "index": _WHOLE,
        "message": _object({"role": _only("assistant"), "content": _or_null(_TEXT), "refusal": _or_null(_TEXT)}),
        "logprobs": {"type": "null"},
        "finish_reason": _only("stop", "length", "tool_calls", "content_filter", "function_call"),
    }
)
_USAGE: Final = _object(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _WHOLE))
_COMPLETION: Final = _object(
    {
        "id": _TEXT,
        "object": _only("chat.completion"),
        "created": _TIME,
        "model": _TEXT,
        "choices": _list(_CHOICE, minItems=1),
        "usage": _USAGE,
    }
)
#: What each operation takes as JSON and answers with, by method and operation: names of schemas, or a schema.
OPERATIONS: Final[Mapping[tuple[str, str], tuple[str | Schema | None, str | Schema | None]]] = {
    ("POST", "upload"): (None, "OpenAIFile"),
    ("GET", "files"): (None, "ListFilesResponse"),
    ("GET", "file"): (None, "OpenAIFile"),
    ("DELETE", "file_delete"): (None, "DeleteFileResponse"),
    ("GET", "content"): (None, None),
    ("POST", "upload_create"): ("CreateUploadRequest", "Upload"),
    ("POST", "upload_part"): (None, "UploadPart"),
    ("POST", "upload_complete"): ("CompleteUploadRequest", "Upload"),
    ("POST", "upload_cancel"): (None, "Upload"),
    ("POST", "create"): ("CreateFineTuningJobRequest", "FineTuningJob"),
    ("GET", "list"): (None, "ListPaginatedFineTuningJobsResponse"),
    ("GET", "retrieve"): (None, "FineTuningJob"),
    ("POST", "cancel"): (None, "FineTuningJob"),
    ("POST", "pause"): (None, "FineTuningJob"),
    ("POST", "resume"): (None, "FineTuningJob"),
    ("GET", "events"): (None, "ListFineTuningJobEventsResponse"),
    ("GET", "checkpoints"): (None, "ListFineTuningJobCheckpointsResponse"),
    ("GET", "models"): (None, {"anyOf": [_MODEL, _page(_MODEL)]}),
    ("DELETE", "models"): (None, _NO_MODEL),
    ("POST", "chat"): (_CHAT, _COMPLETION),
}


def faults(value: Any, schema: Schema) -> list[str]:
    """What the schema refuses about a value, in words; empty for a good one."""
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(json.dumps(schema)).iter_errors(value)]


def _is_whole(checker: object, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


#: 1.0 is no integer.
_Strict: Final = extend(
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole)
)


@cache
def _validator(text: str) -> Validator:
    return _Strict(json.loads(text))


class _Watch:
    """Lays a contract over routes; what breaks it is written down."""

    def __init__(self, schemas: Mapping[str, Schema], refusal: Schema) -> None:
        self._schemas, self._refusal = schemas, refusal
        self.breaches: list[str] = []

    def over(self, route: Route) -> Route:
        """The same route, watched."""

        def answer(request: Request) -> Reply:
            try:
                reply = route.answer(request)
            except Refusal as refusal:
                self._write(route, request, "refusal", faults(refusal.reply.body, self._refusal))
                raise
            asked, answered = OPERATIONS[route.method, route.operation]
            if asked is not None:
                self._write(route, request, "request", faults(json.loads(request.body), self._schema(asked)))
            if answered is None:
                self._write(route, request, "answer", [] if isinstance(reply.body, bytes) else ["is no file"])
            else:
                self._write(route, request, "answer", faults(reply.body, self._schema(answered)))
            return reply

        return Route(method=route.method, path=route.path, operation=route.operation, answer=answer)

    def _schema(self, named: str | Schema) -> Schema:
        return self._schemas[named] if isinstance(named, str) else named

    def _write(self, route: Route, request: Request, what: str, found: list[str]) -> None:
        self.breaches.extend(f"{route.method} {request.path}: {what} {each}" for each in found)


class Watched(OpenAiSandbox):
    """OpenAI's sandbox; `breaches` has what broke the contract."""

    def routes(self) -> Sequence[Route]:
        watch = _Watch(SCHEMAS, _REFUSAL)
        self.breaches = watch.breaches
        return [watch.over(route) for route in super().routes()]


class WatchedAzure(AzureSandbox):
    """Azure's sandbox; `breaches` has what broke the contract."""

    def routes(self) -> Sequence[Route]:
        watch = _Watch(AZURE_SCHEMAS, _AZURE_REFUSAL)
        self.breaches = watch.breaches
        # The Resource Manager's have another form.
        return [watch.over(each) if each.path.startswith(self.root) else each for each in super().routes()]


def ask(
    url: str, method: str, path: str, body: Any = None, *, key: str | None = "sandbox-key", **headers: str
) -> tuple[int, Any, Mapping[str, str]]:
    """One request as no SDK would send it: status, body (JSON where it is some), headers in lower case.

    `body` is sent as JSON, bytes as they are; an underscore in a header's name is a dash.
    """
    address = urlsplit(url)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent.setdefault("Authorization", f"Bearer {key}")
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    connection = HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        raw = answer.read()
        got = {name.lower(): value for name, value in answer.getheaders()}
        told = json.loads(raw) if raw and got.get("content-type", "").startswith("application/json") else raw
        return answer.status, told, got
    finally:
        connection.close()


def lines(count: int, layout: str = "openai") -> bytes:
    """A training file of so many good rows."""
    return "".join(ROWS[layout].replace("%d", str(number)) + "\n" for number in range(count)).encode()
