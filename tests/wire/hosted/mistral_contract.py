"""Mistral's published contract in our own words, as JSON schemas, and a stand-in that is held to it.

Closed: a field that is not named here is a violation. Written from the description of July 2026, the last with jobs.
"""

import json
import re
from typing import Any

from finetune.sandbox.mistral.sandbox import MistralSandbox
from finetune.sandbox.service import Reply, Request, Route
from tests.support.watched import Held, against, closed, many, maybe

UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
STATUSES = [
    *("QUEUED", "STARTED", "VALIDATING", "VALIDATED", "RUNNING", "FAILED_VALIDATION", "FAILED", "SUCCESS"),
    *("CANCELLED", "CANCELLATION_REQUESTED"),
]
PURPOSES = ["fine-tune", "batch", "ocr"]

TEXT: dict[str, Any] = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}
YES_NO = {"type": "boolean"}
ID = {"type": "string", "pattern": UUID}

SHARE = maybe({"type": "number", "minimum": 0, "maximum": 1})

CLASSIFIER_PARAMETERS = closed(
    {},
    {
        "training_steps": maybe({"type": "integer", "minimum": 1}),
        "learning_rate": {"type": "number", "minimum": 1e-8, "maximum": 1},
        "weight_decay": SHARE,
        "warmup_fraction": SHARE,
        "epochs": maybe({"type": "number", "exclusiveMinimum": 0}),
        "seq_len": maybe({"type": "integer", "minimum": 100}),
    },
)
PARAMETERS = closed({}, {**CLASSIFIER_PARAMETERS["properties"], "fim_ratio": SHARE})
WEIGHT = {"type": "number", "exclusiveMinimum": 0}
TRAINING_FILE = closed({"file_id": ID}, {"weight": WEIGHT})
WANDB_IN = closed(
    {"project": TEXT, "api_key": {"type": "string", "minLength": 40, "maxLength": 40}},
    {"type": {"const": "wandb"}, "name": maybe(TEXT), "run_name": maybe(TEXT)},
)
WANDB_OUT = closed(
    {"project": TEXT},
    {"type": {"const": "wandb"}, "name": maybe(TEXT), "run_name": maybe(TEXT), "url": maybe(TEXT)},
)
REPOSITORY_IN = closed(
    {"name": TEXT, "owner": TEXT, "token": TEXT}, {"type": {"const": "github"}, "ref": maybe(TEXT), "weight": WEIGHT}
)
TARGET_IN = closed(
    {"name": TEXT, "labels": many(TEXT)},
    {"weight": {"type": "number", "minimum": 0}, "loss_function": maybe({"enum": ["single_class", "multi_class"]})},
)
JOB_IN = closed(
    {"model": TEXT, "hyperparameters": {"anyOf": [PARAMETERS, CLASSIFIER_PARAMETERS]}},
    {
        "training_files": many(TRAINING_FILE),
        "validation_files": maybe(many(ID)),
        "suffix": maybe({"type": "string", "maxLength": 18}),
        "integrations": maybe(many(WANDB_IN)),
        "auto_start": YES_NO,
        "invalid_sample_skip_percentage": {"type": "number", "minimum": 0, "maximum": 0.5},
        "job_type": maybe({"enum": ["completion", "classifier"]}),
        "repositories": maybe(many(REPOSITORY_IN)),
        "classifier_targets": maybe(many(TARGET_IN)),
    },
)

METADATA = closed(
    {},
    {
        "expected_duration_seconds": maybe(WHOLE),
        "cost": maybe(NUMBER),
        "cost_currency": maybe(TEXT),
        "train_tokens_per_step": maybe(WHOLE),
        "train_tokens": maybe(WHOLE),
        "data_tokens": maybe(WHOLE),
        "estimated_start_time": maybe(WHOLE),
    },
)
LEGACY = closed(
    {"details": TEXT},
    {
        **METADATA["properties"],
        "deprecated": YES_NO,
        "epochs": maybe(NUMBER),
        "training_steps": maybe(WHOLE),
        "object": {"const": "job.metadata"},
    },
)
_JOB = {
    "id": ID,
    "auto_start": YES_NO,
    "model": TEXT,
    "status": {"enum": STATUSES},
    "created_at": WHOLE,
    "modified_at": WHOLE,
    "training_files": many(ID),
    "hyperparameters": PARAMETERS,
}
_JOB_MORE = {
    "validation_files": maybe(many(ID)),
    "object": {"const": "job"},
    "fine_tuned_model": maybe(TEXT),
    "suffix": maybe(TEXT),
    "integrations": maybe(many(WANDB_OUT)),
    "trained_tokens": maybe(WHOLE),
    "metadata": maybe(METADATA),
    "job_type": {"const": "completion"},
    # No job here trains on one.
    "repositories": {"type": "array", "maxItems": 0},
}
EVENT = closed({"name": TEXT, "created_at": WHOLE}, {"data": maybe({"type": "object"})})
METRICS = closed(
    {},
    {"train_loss": maybe(NUMBER), "valid_loss": maybe(NUMBER), "valid_mean_token_accuracy": maybe(NUMBER)},
)
CHECKPOINT = closed({"metrics": METRICS, "step_number": WHOLE, "created_at": WHOLE})
JOB = closed(_JOB, _JOB_MORE)
DETAILED_JOB = closed(_JOB, {**_JOB_MORE, "events": many(EVENT), "checkpoints": many(CHECKPOINT)})
JOBS = closed({"total": WHOLE}, {"data": many(JOB), "object": {"const": "list"}})

_FILE = {
    "id": ID,
    "object": {"const": "file"},
    "bytes": WHOLE,
    "created_at": WHOLE,
    "filename": TEXT,
    "purpose": {"enum": PURPOSES},
    "sample_type": {"enum": ["pretrain", "instruct", "batch_request", "batch_result", "batch_error"]},
    "source": {"enum": ["upload", "repository", "mistral"]},
}
_FILE_MORE = {
    "num_lines": maybe(WHOLE),
    "mimetype": maybe(TEXT),
    "signature": maybe(TEXT),
    "expires_at": maybe(WHOLE),
    "visibility": maybe({"enum": ["workspace", "user"]}),
}
FILE = closed(_FILE, _FILE_MORE)
RETRIEVED_FILE = closed({**_FILE, "deleted": YES_NO}, _FILE_MORE)
FILES = closed({"data": many(FILE), "object": TEXT}, {"total": maybe(WHOLE)})
DELETED_FILE = closed({"id": ID, "object": {"const": "file"}, "deleted": YES_NO})
#: Of chats what ft and its sandbox use; the description has more.
TURN = closed(
    {"role": {"enum": ["system", "user", "assistant", "tool"]}},
    {"content": maybe(TEXT), "name": maybe(TEXT), "tool_calls": maybe(many({"type": "object"})), "tool_call_id": TEXT},
)
CHAT = closed(
    {"model": TEXT, "messages": {**many(TURN), "minItems": 1}},
    {
        "temperature": maybe({"type": "number", "minimum": 0, "maximum": 1.5}),
        "max_tokens": maybe({"type": "integer", "minimum": 0}),
        "random_seed": maybe(WHOLE),
        "stream": YES_NO,
        "tools": maybe(many({"type": "object"})),
    },
)
ASSISTANT = closed(
    {"role": {"const": "assistant"}, "content": maybe(TEXT)},
    {"tool_calls": maybe(many({"type": "object"})), "prefix": YES_NO},
)
COMPLETION = closed(
    {
        "id": TEXT,
        "object": {"const": "chat.completion"},
        "model": TEXT,
        "created": WHOLE,
        "usage": closed(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), WHOLE)),
        "choices": many(
            closed(
                {
                    "index": WHOLE,
                    "message": ASSISTANT,
                    "finish_reason": {"enum": ["stop", "length", "model_length", "error", "tool_calls"]},
                }
            )
        ),
    }
)
#: The description has none; this is what the API was seen to answer.
ERROR = {"anyOf": [{"type": "object", "required": ["detail"]}, {"type": "object", "required": ["message", "code"]}]}

#: Parameters of each operation's query.
QUERIES = {
    "create": ["dry_run"],
    "list": [
        *("page", "page_size", "model", "created_after", "created_before", "created_by_me", "status"),
        *("wandb_project", "wandb_name", "suffix"),
    ],
    "list_files": ["page", "page_size", "include_total", "sample_type", "source", "search", "purpose", "mimetypes"],
}
#: Fields of the form of an upload.
UPLOAD = ["file", "purpose", "expiry", "visibility"]
ANSWERS = {
    "upload": FILE,
    "list_files": FILES,
    "retrieve_file": RETRIEVED_FILE,
    "delete_file": DELETED_FILE,
    "create": {"anyOf": [JOB, LEGACY]},
    "list": JOBS,
    "retrieve": DETAILED_JOB,
    "cancel": DETAILED_JOB,
    "start": DETAILED_JOB,
    "chat": COMPLETION,
}
#: What is sent as JSON.
BODIES = {"create": (JOB_IN, "create sends"), "chat": (CHAT, "chat sends")}
_NAMES = re.compile(rb'name="([^"]*)"(?:; filename=|\r\n)')


def violations(operation: str, request: Request, reply: Reply, *, refused: bool) -> list[str]:
    """What of a request that was taken, and of its answer, is not as the contract has it."""
    found = []
    if refused:
        return against(ERROR, reply.body, f"{operation} refuses")
    found += [f"{operation}: {name} in the query" for name in request.query if name not in QUERIES.get(operation, [])]
    if operation in BODIES:
        schema, what = BODIES[operation]
        found += against(schema, json.loads(request.body), what)
    if operation == "upload":
        found += [f"upload: {name} in the form" for name in form_names(request.body) if name not in UPLOAD]
    if operation in ANSWERS:
        found += against(ANSWERS[operation], reply.body, f"{operation} answers")
    return found


def form_names(body: bytes) -> list[str]:
    return [name.decode() for name in _NAMES.findall(body)]


class Watched(Held, MistralSandbox):
    """The stand-in, held to the contract."""

    def routes(self) -> list[Route]:
        return self.held(super().routes())

    def broken(self, operation: str, request: Request, reply: Reply, *, refused: bool) -> list[str]:
        return violations(operation, request, reply, refused=refused)

    def odd(self, reply: Reply) -> bool:
        return not reply.body or (isinstance(reply.body, dict) and reply.body.get("status") == "REBALANCING")
