"""Hold `tests/wire/hosted/mistral_contract.py` against the published description. By hand: `python -m ... FOLDER`.

Prints every difference in field names, required fields and choices, and exits with 1 when there is one.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.wire.hosted import mistral_contract as ours

FILE = "mistral-finetuning-pruned.yaml"
SCHEMAS = {
    "JobIn": ours.JOB_IN,
    "TrainingFile": ours.TRAINING_FILE,
    "CompletionTrainingParametersIn": ours.PARAMETERS,
    "CompletionTrainingParameters": ours.PARAMETERS,
    "ClassifierTrainingParametersIn": ours.CLASSIFIER_PARAMETERS,
    "WandbIntegration": ours.WANDB_IN,
    "WandbIntegrationOut": ours.WANDB_OUT,
    "GithubRepositoryIn": ours.REPOSITORY_IN,
    "ClassifierTargetIn": ours.TARGET_IN,
    "JobMetadataOut": ours.METADATA,
    "LegacyJobMetadataOut": ours.LEGACY,
    "CompletionJobOut": ours.JOB,
    "CompletionDetailedJobOut": ours.DETAILED_JOB,
    "EventOut": ours.EVENT,
    "CheckpointOut": ours.CHECKPOINT,
    "MetricOut": ours.METRICS,
    "JobsOut": ours.JOBS,
    "UploadFileOut": ours.FILE,
    "FileSchema": ours.FILE,
    "RetrieveFileOut": ours.RETRIEVED_FILE,
    "ListFilesOut": ours.FILES,
    "DeleteFileOut": ours.DELETED_FILE,
}
QUERIES = {
    "create": ("/v1/fine_tuning/jobs", "post"),
    "list": ("/v1/fine_tuning/jobs", "get"),
    "list_files": ("/v1/files", "get"),
}
#: Bounds of a number or text that are compared too.
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "enum", "const")


def differences(folder: Path) -> list[str]:
    """All of them."""
    told = yaml.safe_load((folder / FILE).read_text())
    schemas = told["components"]["schemas"]
    found = []
    for name, mine in SCHEMAS.items():
        theirs = schemas[name]
        found += _sets(f"{name} fields", mine["properties"], theirs["properties"])
        found += _sets(f"{name} required", mine["required"], theirs.get("required", ()))
        for field in set(mine["properties"]) & set(theirs["properties"]):
            one, other = _bounds(mine["properties"][field]), _bounds(theirs["properties"][field], schemas)
            if one != other and other:
                found.append(f"{name}.{field}: ours {one}, theirs {other}")
    for operation, (path, method) in QUERIES.items():
        theirs = [each["name"] for each in told["paths"][path][method].get("parameters", ())]
        found += _sets(f"query of {operation}", ours.QUERIES[operation], theirs)
    form = told["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    return found + _sets("form of upload", ours.UPLOAD, form["properties"])


def _bounds(schema: dict[str, Any], schemas: dict[str, Any] | None = None) -> dict[str, Any]:
    """Bounds of the field itself, whether it may be null or not."""
    found = {}
    for choice in (schema, *schema.get("anyOf", ())):
        if schemas and "$ref" in choice:
            choice = schemas[choice["$ref"].rpartition("/")[2]]
        found |= {key: sorted(choice[key]) if key == "enum" else choice[key] for key in BOUNDS if key in choice}
    return found


def _sets(what: str, mine: Any, theirs: Any) -> list[str]:
    more, less = sorted(set(mine) - set(theirs)), sorted(set(theirs) - set(mine))
    return [f"{what}: only ours {more}"] * bool(more) + [f"{what}: only theirs {less}"] * bool(less)


if __name__ == "__main__":
    lines = differences(Path(sys.argv[1]))
    sys.stdout.write("\n".join(lines or ["no differences"]) + "\n")
    sys.exit(bool(lines))
