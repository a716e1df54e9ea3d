"""Hold `tests/wire/hosted/fireworks_contract.py` against the vendor's package. By hand: `python -m ... FOLDER`.

FOLDER is the unpacked wheel of fireworks-ai. Prints every field of ours that the package does not have, every choice
that differs, and what the package has and ours leaves out; exits with 1 for the first two.
"""

import ast
import sys
from pathlib import Path
from typing import Any

from tests.wire.hosted import fireworks_contract as ours

#: Ours, and where the package has it: file below `types`, class.
SCHEMAS: dict[str, tuple[dict[str, Any], str, str]] = {
    "dataset": (ours.DATASET, "dataset", "Dataset"),
    "dataset in": (ours.CREATE_DATASET["properties"]["dataset"], "dataset_param", "DatasetParam"),
    "create dataset": (ours.CREATE_DATASET, "dataset_create_params", "DatasetCreateParams"),
    "upload endpoint": (ours.UPLOAD_ENDPOINT, "dataset_get_upload_endpoint_params", "DatasetGetUploadEndpointParams"),
    "create sft": (ours.CREATE_SFT, "supervised_fine_tuning_job_create_params", "SupervisedFineTuningJobCreateParams"),
    "sft job": (ours.SFT_JOB, "supervised_fine_tuning_job", "SupervisedFineTuningJob"),
    "cost": (ours.COST, "supervised_fine_tuning_job", "EstimatedCost"),
    "progress": (ours.PROGRESS, "supervised_fine_tuning_job", "JobProgress"),
    "create dpo": (ours.CREATE_DPO, "dpo_job_create_params", "DpoJobCreateParams"),
    "dpo job": (ours.DPO_JOB, "dpo_job", "DpoJob"),
    "training config": (ours.DPO_JOB["properties"]["trainingConfig"], "shared/training_config", "TrainingConfig"),
    "loss": (ours.LOSS, "shared/reinforcement_learning_loss_config", "ReinforcementLearningLossConfig"),
    "wandb": (ours.WANDB_IN, "shared/wandb_config", "WandbConfig"),
    "status": (ours.STATUS, "shared/status", "Status"),
    "model": (ours.MODEL, "model", "Model"),
    "peft": (ours.MODEL["properties"]["peftDetails"], "peft_details", "PeftDetails"),
    "account": (ours.ACCOUNT, "account", "Account"),
    "metrics endpoint": (
        ours.ANSWERS["metrics_endpoint"],
        "dpo_job_get_metrics_file_endpoint_response",
        "DpoJobGetMetricsFileEndpointResponse",
    ),
    "create deployment": (ours.CREATE_DEPLOYMENT, "deployment_create_params", "DeploymentCreateParams"),
    "deployment": (ours.DEPLOYMENT, "deployment", "Deployment"),
    "replicas": (ours.REPLICAS, "deployment", "ReplicaStats"),
    "urls": (ours.URLS, "model_get_download_endpoint_response", "ModelGetDownloadEndpointResponse"),
}
CHOICES = {
    "states": (ours.STATES, "supervised_fine_tuning_job", "SupervisedFineTuningJob", "state"),
    "codes": (ours.CODES, "shared/status", "Status", "code"),
    "formats": (ours.FORMATS, "dataset", "Dataset", "format"),
    "gpus": (ours.GPUS, "deployment", "Deployment", "accelerator_type"),
    "deployment states": (ours.DEPLOYMENT_STATES, "deployment", "Deployment", "state"),
    "suspended": (ours.SUSPENDED, "account", "Account", "suspend_state"),
}
#: What the package reads itself, and its types do not have.
KNOWN = {("dataset", "encryptionState")}


def fields(folder: Path, file: str, name: str) -> dict[str, ast.AnnAssign]:
    """The class's fields by the names that go over the wire."""
    tree = ast.parse((folder / "fireworks" / "types" / f"{file}.py").read_text())
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    own = [node for node in found.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {_alias(node): node for node in own}


def _alias(field: ast.AnnAssign) -> str:
    for node in ast.walk(field):
        if isinstance(node, ast.keyword) and node.arg == "alias" and isinstance(node.value, ast.Constant):
            return str(node.value.value)
    assert isinstance(field.target, ast.Name)
    return field.target.id


def _choices(field: ast.AnnAssign) -> list[str]:
    texts = [node.value for node in ast.walk(field.annotation) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str)]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(folder: Path) -> int:
    """Print, and say whether something is wrong."""
    wrong = 0
    for what, (schema, file, name) in SCHEMAS.items():
        mine, theirs = set(schema["properties"]), set(fields(folder, file, name))
        for field in sorted(mine - theirs):
            wrong += (what, field) not in KNOWN
            _say(f"{what}: only ours has {field}")
        if left_out := sorted(theirs - mine - {"account_id"}):
            _say(f"{what}: left out: {', '.join(left_out)}")
    for what, (mine, file, name, field) in CHOICES.items():
        node = next(node for node in fields(folder, file, name).values() if node.target.id == field)
        if set(mine) != set(_choices(node)):
            wrong += 1
            _say(f"{what}: {sorted(set(mine) ^ set(_choices(node)))}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
