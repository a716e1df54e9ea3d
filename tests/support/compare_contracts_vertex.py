"""Hold our schema of a tuning job against Google's published one: `compare_contracts_vertex.py FOLDER`.

The folder has `vertex-tuningjob.v1beta1.schema.json`. Exits with 1 and the names that only we have, or that the
stand-in does not know how to read.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from finetune.sandbox.vertex_bodies import TuningJob
from tests.wire.hosted.vertex_contract import TUNING_JOB, names

_FILE = "vertex-tuningjob.v1beta1.schema.json"


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


def main(folder: str) -> int:
    """Compare, and tell."""
    found = differing(Path(folder))
    sys.stdout.write("\n".join(found) + "\n" if found else f"{len(published(Path(folder)))} names, no difference\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
