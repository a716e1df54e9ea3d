"""Hold our schema of a tuning job against Google's published one: `compare_contracts_vertex.py FOLDER`.

The folder has `vertex-tuningjob.v1beta1.schema.json`. Exits with 1 and the names that only we have, those that the
stand-in cannot read, and the answers of the stand-in that the published schema does not take.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

from finetune.sandbox.service import Request
from finetune.sandbox.vertex.bodies import TuningJob
from finetune.sandbox.vertex.sandbox import VertexSandbox
from tests.support.hosted import ROWS
from tests.support.hosted_vertex import MODEL, OPEN_MODEL
from tests.wire.hosted.vertex_contract import TUNING_JOB, names

_FILE = "vertex-tuningjob.v1beta1.schema.json"
_SPEC: Final = {"hyperParameters": {"epochCount": 3, "adapterSize": "ADAPTER_SIZE_TWO"}}
_JOBS: Final[dict[str, dict[str, Any]]] = {
    "gemini": {
        "baseModel": MODEL,
        "supervisedTuningSpec": {**_SPEC, "trainingDatasetUri": "gs://sandbox-bucket/gemini"},
    },
    "gemini-preference": {
        "baseModel": MODEL,
        "preferenceOptimizationSpec": {**_SPEC, "trainingDatasetUri": "gs://sandbox-bucket/gemini-preference"},
    },
    "openai": {
        "baseModel": OPEN_MODEL,
        "outputUri": "gs://sandbox-bucket/out",
        "supervisedTuningSpec": {**_SPEC, "trainingDatasetUri": "gs://sandbox-bucket/openai"},
    },
}


def published(folder: Path) -> set[str]:
    """The dotted names of all fields down to four levels, and the values of the enums of states."""
    document = json.loads((folder / _FILE).read_text())

    def below(schema: dict[str, Any], path: str, depth: int) -> set[str]:
        if "$ref" in schema:
            schema = document["$defs"][schema["$ref"].rpartition("/")[2]]
        schema = schema.get("items", schema)
        if "$ref" in schema:
            schema = document["$defs"][schema["$ref"].rpartition("/")[2]]
        out: set[str] = set()
        for name, inner in schema.get("properties", {}).items() if depth else ():
            out |= {path + name, *below(inner, f"{path}{name}.", depth - 1)}
        return out

    return below({"$ref": document["$ref"]}, "", 4)


def differing(folder: Path) -> list[str]:
    """What we have and Google has not, and the fields of a job that the stand-in's request does not know."""
    theirs = published(folder)
    ours = [f"only here: {name}" for name in sorted(names(TUNING_JOB) - theirs)]
    read = {re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in TuningJob.model_fields}
    top = {name for name in theirs if "." not in name}
    return ours + [f"not read: {name}" for name in sorted(top - read)] + [f"made up: {name}" for name in read - top]


def refused(folder: Path) -> Iterator[str]:
    """What the published schema has against the answers of the stand-in over the life of one job of each kind."""
    published = Draft202012Validator(json.loads((folder / _FILE).read_text()))
    sandbox = VertexSandbox()
    routes = {route.operation: route.answer for route in sandbox.routes()}
    parts = {"version": "v1beta1", "project": "sandbox-project", "location": "us-central1"}
    for layout, body in _JOBS.items():
        sandbox.storage.put("sandbox-bucket", layout, ROWS[layout].replace("%d", "1").encode())
        for end in ("bot", "fail-data", "fail-train"):
            raw = json.dumps({**body, "tunedModelDisplayName": end}).encode()
            request = Request(method="POST", path="", query_text="", headers={}, body=raw, parts=parts)
            told = routes["create"](request).body
            parts["job"] = told["name"].rpartition("/")[2]
            for _ in range(20):
                yield from (f"{layout}: {error.message}" for error in published.iter_errors(told))
                told = routes["retrieve"](replace(request, parts=parts)).body
                sandbox.clock.advance(0.4)


def main(folder: str) -> int:
    """Compare, and tell."""
    found = [*differing(Path(folder)), *refused(Path(folder))]
    sys.stdout.write("\n".join(found) + "\n" if found else f"{len(published(Path(folder)))} names, no difference\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
