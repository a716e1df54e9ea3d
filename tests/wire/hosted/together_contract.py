"""Together's published contract in our own words, as JSON schemas, and a stand-in that is held to it.

Closed: a field that is not named here is a violation. Written from the description of 2026-04 and from the types of
the vendor's package 3.1.1 of 2026-11; where the two differ, the package holds. How files are sent stands only there.
"""

import json
import re
from typing import Any

from finetune.sandbox.service import Reply, Request, Route
from finetune.sandbox.together.sandbox import TogetherSandbox
from tests.support.watched import Held, against, closed, many, maybe
from tests.wire.hosted import together_endpoints_contract

STATUSES = [
    *("pending", "queued", "running", "compressing", "uploading", "cancel_requested", "cancelled", "error"),
    *("completed", "user_error"),
]
EVENT_TYPES = [
    *("job_pending", "job_start", "job_stopped", "model_downloading", "model_download_complete"),
    *("training_data_downloading", "training_data_download_complete", "validation_data_downloading"),
    *("validation_data_download_complete", "wandb_init", "training_start", "checkpoint_save", "billing_limit"),
    *("epoch_complete", "training_complete", "model_compressing", "model_compression_complete", "model_uploading"),
    *("model_upload_complete", "job_complete", "job_error", "cancel_requested", "job_restarted", "refund", "warning"),
    *("early_stopped", "tokenized_dataset_upload_complete"),
]
#: The state of the stand-in's own making, which no contract has.
ODD = "rebalancing"

TEXT: dict[str, Any] = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}
YES_NO = {"type": "boolean"}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
FILE_ID = {"type": "string", "pattern": "^file-"}
JOB_ID = {"type": "string", "pattern": "^ft-"}

SHARE = {"type": "number", "minimum": 0, "maximum": 1}
LEAST = {"type": "number", "minimum": 0}
ONE = {"type": "integer", "minimum": 1}

SFT = closed({"method": {"const": "sft"}, "train_on_inputs": {"anyOf": [YES_NO, {"const": "auto"}]}})
DPO = closed(
    {"method": {"const": "dpo"}},
    {
        "dpo_beta": maybe(NUMBER),
        "rpo_alpha": maybe(LEAST),
        "simpo_gamma": maybe(LEAST),
        "dpo_normalize_logratios_by_length": YES_NO,
        "dpo_reference_free": YES_NO,
    },
)
METHOD = {"oneOf": [SFT, DPO]}
LORA = closed(
    {"type": {"const": "Lora"}, "lora_r": ONE, "lora_alpha": ONE},
    {"lora_dropout": {"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "lora_trainable_modules": TEXT},
)
TRAINING_TYPE = {"oneOf": [LORA, closed({"type": {"const": "Full"}})]}
SCHEDULER = {
    "oneOf": [
        closed(
            {"lr_scheduler_type": {"const": "linear"}},
            {"lr_scheduler_args": maybe(closed({}, {"min_lr_ratio": SHARE}))},
        ),
        closed(
            {"lr_scheduler_type": {"const": "cosine"}},
            {"lr_scheduler_args": maybe(closed({"min_lr_ratio": SHARE, "num_cycles": NUMBER}))},
        ),
    ]
}
_PRICED = {
    "validation_file": TEXT,
    "model": TEXT,
    "n_epochs": ONE,
    "n_evals": {"type": "integer", "minimum": 0},
    "training_method": METHOD,
    "training_type": maybe(TRAINING_TYPE),
    "from_checkpoint": TEXT,
}
PRICE_IN = closed({"training_file": TEXT}, _PRICED)
JOB_IN = closed(
    {"training_file": TEXT, "model": TEXT},
    {
        **_PRICED,
        "packing": YES_NO,
        "max_seq_length": ONE,
        "n_checkpoints": ONE,
        "batch_size": {"anyOf": [WHOLE, {"const": "max"}]},
        "gradient_accumulation_steps": WHOLE,
        "learning_rate": NUMBER,
        "lr_scheduler": SCHEDULER,
        "warmup_ratio": SHARE,
        "max_grad_norm": LEAST,
        "weight_decay": LEAST,
        "random_seed": maybe(WHOLE),
        "suffix": {"type": "string", "maxLength": 40},
        "multimodal_params": closed({}, {"train_vision": YES_NO}),
        "early_stopping_enabled": YES_NO,
        "early_stopping_patience": ONE,
        "early_stopping_min_delta": LEAST,
        "early_stopping_warmup_evals": {"type": "integer", "minimum": 0},
    },
)

EVENT = closed(
    {
        "object": {"const": "fine-tune-event"},
        "created_at": TEXT,
        "message": TEXT,
        "type": {"enum": EVENT_TYPES},
        "param_count": WHOLE,
        "token_count": WHOLE,
        "total_steps": WHOLE,
        "wandb_url": TEXT,
        "step": WHOLE,
        "checkpoint_path": TEXT,
        "model_path": TEXT,
        "training_offset": WHOLE,
        "hash": TEXT,
    },
    {"level": {"enum": [None, "info", "warning", "error", "legacy_info", "legacy_iwarning", "legacy_ierror"]}},
)
PROGRESS = closed({"estimate_available": YES_NO, "seconds_remaining": WHOLE})
_JOB = {"id": JOB_ID, "status": {"enum": STATUSES}, "created_at": TIME, "updated_at": TIME, "user_id": TEXT}
_BOTH = {
    "started_at": TIME,
    "total_price": WHOLE,
    "token_count": WHOLE,
    "events": many(EVENT),
    "training_file": FILE_ID,
    "validation_file": FILE_ID,
    "model": TEXT,
    "model_output_name": TEXT,
    "n_epochs": WHOLE,
    "n_evals": WHOLE,
    "n_checkpoints": WHOLE,
    "batch_size": WHOLE,
    "training_type": TRAINING_TYPE,
    "training_method": METHOD,
    "learning_rate": NUMBER,
    "lr_scheduler": SCHEDULER,
    "warmup_ratio": NUMBER,
    "max_grad_norm": NUMBER,
    "weight_decay": NUMBER,
    "progress": PROGRESS,
}
JOB = closed(
    _JOB,
    {
        **_BOTH,
        "owner_address": TEXT,
        "packing": YES_NO,
        "max_seq_length": WHOLE,
        "suffix": TEXT,
        "random_seed": maybe(WHOLE),
    },
)
DETAILED_JOB = closed(
    _JOB,
    {
        **_BOTH,
        "job_id": TEXT,
        "param_count": WHOLE,
        "queue_depth": WHOLE,
        "epochs_completed": WHOLE,
        "trainingfile_numlines": WHOLE,
        "adapter_object_name": maybe(TEXT),
        # Of a completed one.
        **dict.fromkeys(("model_object_id", "model_object_revision_id", "model_object_name"), TEXT),
    },
)
CHECKPOINT = closed(
    {"step": WHOLE, "created_at": TEXT, "path": TEXT, "checkpoint_type": TEXT},
    {"checkpoint": {"enum": ["model", "adapter"]}},
)
ESTIMATE = {
    "oneOf": [
        closed(
            {"estimation_available": {"const": True}},
            {
                "estimated_total_price": NUMBER,
                "allowed_to_proceed": YES_NO,
                "user_limit": NUMBER,
                "estimated_train_token_count": NUMBER,
                "estimated_eval_token_count": NUMBER,
            },
        ),
        closed(
            {
                "estimation_available": {"const": False},
                "unavailable_reason": {
                    "enum": [
                        *("multimodal_dataset", "train_file_not_validated", "eval_file_not_validated"),
                        *("train_file_invalid", "eval_file_invalid"),
                    ]
                },
            }
        ),
    ]
}
_BATCHES = {"max_batch_size": WHOLE, "max_batch_size_dpo": WHOLE, "min_batch_size": WHOLE}
LIMITS = closed(
    {
        "model_name": TEXT,
        "lora_training": closed({**_BATCHES, "max_rank": WHOLE, "default_rank": WHOLE, "target_modules": many(TEXT)}),
        **dict.fromkeys(("max_num_epochs", "max_num_evals", "max_num_checkpoints", "min_max_seq_length"), WHOLE),
        **dict.fromkeys(("max_seq_length_sft", "max_seq_length_dpo", "default_gradient_accumulation_steps"), WHOLE),
        **dict.fromkeys(("max_learning_rate", "min_learning_rate"), NUMBER),
        **dict.fromkeys(("supports_vision", "supports_tools", "supports_reasoning", "merge_output_lora"), YES_NO),
        "supports_full_training": YES_NO,
    }
)
REPORT = closed(
    {"valid": YES_NO},
    {
        "dataset_format": maybe(TEXT),
        "error": TEXT,
        "error_type": {"const": "INVALID_FORMAT"},
        "file_id": TEXT,
        "nlines": WHOLE,
    },
)
FILE = closed(
    {
        "id": FILE_ID,
        "object": {"const": "file"},
        "created_at": WHOLE,
        "filename": TEXT,
        "bytes": WHOLE,
        "purpose": {"enum": ["fine-tune", "calibration", "eval", "batch-api"]},
        "FileType": {"enum": ["csv", "jsonl", "parquet"]},
        "Processed": YES_NO,
    },
    {
        "processing_status": {"enum": ["PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "INVALID_FORMAT"]},
        "validation_report": REPORT,
    },
)
PART = closed({"PartNumber": ONE, "URL": TEXT, "Headers": {"type": "object"}})
ERROR = {
    "anyOf": [
        closed(
            {"error": closed({"message": TEXT, "type": TEXT, "param": maybe(TEXT), "code": maybe(TEXT)})},
            # Of a file that is there already.
            {"file_id": FILE_ID},
        ),
        closed({"message": TEXT}),
    ]
}
#: Fields of the form of an upload.
UPLOAD = ["purpose", "file_name", "file_type", "checksum"]
_TOLD = {
    "purpose": TEXT,
    "file_name": TEXT,
    "file_type": TEXT,
    "checksum": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
SENT = {
    "create": JOB_IN,
    "estimate": PRICE_IN,
    "initiate": closed({**_TOLD, "file_size": ONE, "num_parts": ONE}),
    "complete": closed(
        {"upload_id": TEXT, "file_id": FILE_ID, "parts": many(closed({"part_number": ONE, "etag": TEXT}))}
    ),
    "abort": closed({"upload_id": TEXT, "file_id": FILE_ID}),
    **together_endpoints_contract.SENT,
}
#: Parameters of each operation's query; that of the storage is a signature.
QUERIES = {
    "metrics": ["global_step_from", "global_step_to", "logged_at_from", "logged_at_to", "resolution"],
    "download": ["ft_id", "checkpoint", "checkpoint_step"],
    "limits": ["model_name"],
    "delete": ["force"],
    "put": ["X-Amz-Signature"],
    **together_endpoints_contract.QUERIES,
}
ANSWERS = {
    "list_files": closed({"data": many(FILE)}),
    "retrieve_file": FILE,
    "preprocess": FILE,
    "delete_file": closed({}, {"id": TEXT, "deleted": YES_NO}),
    "initiate": closed({"upload_id": TEXT, "file_id": FILE_ID, "parts": many(PART)}),
    "complete": closed({"file": FILE}),
    "create": JOB,
    "list": closed({"data": many(JOB)}),
    "cancel": JOB,
    "retrieve": DETAILED_JOB,
    "delete": closed({}, {"message": TEXT}),
    "events": closed({"data": many(EVENT)}),
    "checkpoints": closed({"data": many(CHECKPOINT)}),
    "metrics": closed({}, {"metrics": many({"type": "object", "additionalProperties": NUMBER})}),
    "estimate": ESTIMATE,
    "supported": closed({"models": many(TEXT)}),
    "limits": LIMITS,
    **together_endpoints_contract.ANSWERS,
}
_NAMES = re.compile(rb'name="([^"]*)"')


def violations(operation: str, request: Request, reply: Reply, *, refused: bool) -> list[str]:
    """What of a request that was taken, and of its answer, is not as the contract has it."""
    if refused or reply.status >= 400:
        # The storage has words of its own.
        return [] if operation == "put" else against(ERROR, reply.body, f"{operation} refuses")
    found = [f"{operation}: {name} in the query" for name in request.query if name not in QUERIES.get(operation, [])]
    if operation in SENT:
        found += against(SENT[operation], json.loads(request.body), f"{operation} sends")
    if operation == "upload":
        found += [f"upload: {name} in the form" for name in form_names(request.body) if name not in UPLOAD]
        found += [f"upload: no {name}" for name in ("Location", "X-Together-File-Id") if name not in reply.headers]
    if operation in ANSWERS:
        found += against(ANSWERS[operation], reply.body, f"{operation} answers")
    return found


def form_names(body: bytes) -> list[str]:
    return [name.decode() for name in _NAMES.findall(body)]


class Watched(Held, TogetherSandbox):
    """The stand-in, held to the contract."""

    def routes(self) -> list[Route]:
        return self.held(super().routes())

    def broken(self, operation: str, request: Request, reply: Reply, *, refused: bool) -> list[str]:
        return violations(operation, request, reply, refused=refused)

    def odd(self, reply: Reply) -> bool:
        return isinstance(reply.body, dict) and reply.body.get("status") == ODD
