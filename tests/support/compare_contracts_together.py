"""Hold `tests/wire/hosted/together_contract.py` against the published description. By hand: `python -m ... FOLDER`.

Prints every field that we have and the description of 2026-04 has not, beside those that the vendor's package 3.1.1 has
since brought; fields of theirs that the stand-in never sends are no difference. Exits with 1 when there is one.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.wire.hosted import together_contract as ours

FILE = "together-finetuning-pruned.yaml"
SCHEMAS = {
    "FileResponse": ours.FILE,
    "FileDeleteResponse": ours.ANSWERS["delete_file"],
    "FinetuneResponseTruncated": ours.JOB,
    "FinetuneResponse": ours.DETAILED_JOB,
    "FineTuneEvent": ours.EVENT,
    "FineTuneCheckpoint": ours.CHECKPOINT,
    "FineTuneProgress": ours.PROGRESS,
    "FineTuneModelLimits": ours.LIMITS,
    "LoRATrainingType": ours.LORA,
    "TrainingMethodSFT": ours.SFT,
    "TrainingMethodDPO": ours.DPO,
}
BODIES = {"create": ("/fine-tunes", ours.JOB_IN), "estimate": ("/fine-tunes/estimate-price", ours.PRICE_IN)}
#: What the package has and the description has not.
NEWER = {
    "FileResponse": {"processing_status", "validation_report"},
    "FinetuneResponse": {
        *("user_id", "adapter_object_name", "model_object_id", "model_object_name", "model_object_revision_id"),
    },
    "FineTuneCheckpoint": {"checkpoint"},
    "FineTuneModelLimits": {
        *("max_num_checkpoints", "min_max_seq_length", "max_seq_length_sft", "max_seq_length_dpo"),
        *("default_gradient_accumulation_steps", "supports_full_training"),
    },
    "create": {
        *("gradient_accumulation_steps", "early_stopping_enabled", "early_stopping_patience"),
        *("early_stopping_min_delta", "early_stopping_warmup_evals"),
    },
}


def differences(folder: Path) -> list[str]:
    """All of them."""
    told = yaml.safe_load((folder / FILE).read_text())
    found = []
    for name, mine in SCHEMAS.items():
        found += _compared(name, mine, told["components"]["schemas"][name])
    for name, (path, mine) in BODIES.items():
        body = told["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        found += _compared(name, mine, body)
    statuses = set(told["components"]["schemas"]["FinetuneJobStatus"]["enum"])
    events = set(told["components"]["schemas"]["FinetuneEventType"]["enum"])
    found += [f"statuses: not ours {sorted(statuses - set(ours.STATUSES))}"] * bool(statuses - set(ours.STATUSES))
    return found + [f"events: not ours {sorted(events - set(ours.EVENT_TYPES))}"] * bool(events - set(ours.EVENT_TYPES))


def _compared(name: str, mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    known = set(theirs["properties"]) | NEWER.get(name, set())
    more = sorted(set(mine["properties"]) - known)
    lacking = sorted(set(theirs.get("required", ())) - set(mine["required"]))
    return [f"{name}: only ours {more}"] * bool(more) + [f"{name}: not required by us {lacking}"] * bool(lacking)


if __name__ == "__main__":
    lines = differences(Path(sys.argv[1]))
    sys.stdout.write("\n".join(lines or ["no differences"]) + "\n")
    sys.exit(bool(lines))
