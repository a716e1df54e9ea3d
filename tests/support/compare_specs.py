"""Hold our hand-written rules of OpenAI's lines against the published schema files: `compare_specs.py FOLDER [ROWS]`.

The folder has `openai-dataset-FineTune{Chat,Preference}RequestInput.schema.json`. Both are asked about
every change of one row that has all, and about ROWS generated and changed ones; exits with 1 and the first row on
which they differ.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from jsonschema import Draft202012Validator

from finetune.data.formats import FORMATS
from tests.support import openai_lines
from tests.support.examples import chats, preferences
from tests.support.mutants import every_change, mutants

_FILES: Final = {"chat": "FineTuneChatRequestInput", "preference": "FineTunePreferenceRequestInput"}
_ALL: Final = tuple(HealthCheck)
_OURS: Final = {"chat": ("openai", chats()), "preference": ("openai-dpo", preferences())}


def differing(folder: Path, of: str, rows: int) -> tuple[int, int, list[Any]]:
    """How many rows both take, how many both refuse, and those on which they differ."""
    published = Draft202012Validator(json.loads((folder / f"openai-dataset-{_FILES[of]}.schema.json").read_text()))
    taken, refused, differ = 0, 0, []
    for row in (*every_change(openai_lines.rich(of)), *_rows(of, rows)):
        theirs, ours = published.is_valid(row), not openai_lines.refused(row, of)
        if theirs != ours:
            differ.append(row)
        taken += theirs and ours
        refused += not theirs and not ours
    return taken, refused, differ


def _rows(of: str, count: int) -> Iterator[Any]:
    """Generated rows, each with up to three things changed; the same ones in every run."""
    name, examples = _OURS[of]
    write = FORMATS[name].write
    assert write is not None
    out: list[Any] = []

    @seed(1)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=HealthCheck
    )
    @given(mutants(examples.map(lambda example: json.loads(json.dumps(write(example))))))
    def gather(row: Any) -> None:
        out.append(json.loads(json.dumps(row)))

    gather()
    yield from out


def main(folder: str, rows: str = "2000") -> int:
    """Compare, and tell."""
    code = 0
    for of in _FILES:
        taken, refused, differ = differing(Path(folder), of, int(rows))
        sys.stdout.write(f"{of}: both take {taken} rows, both refuse {refused}, and differ on {len(differ)}\n")
        for row in differ[:1]:
            code = 1
            sys.stdout.write(json.dumps(row) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
