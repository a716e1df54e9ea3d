"""Suites: what models are asked, and by which metrics. A suite is a YAML file, a held-out split, or a harness's task.

# support.yaml
name: support
rows: support.jsonl          # beside this file; {"messages": [...], "tools"?, "schema"?, "pattern"?, "contains"?}
metrics: [exact_match, token_f1]
max_tokens: 256              # of each answer; 256 when it is left out
schema: {type: object}       # for rows without one of their own; or the path of a JSON file
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from finetune.evaluation import rows as reading
from finetune.evaluation.faults import fault
from finetune.evaluation.metrics import METRICS, named
from finetune.evaluation.rows import Row
from finetune.jobs import Json

#: The held-out split's name as a suite.
HELD_OUT: Final = "held-out"
#: lm-evaluation-harness tasks are named so: `lm-eval:arc_easy`.
HARNESS: Final = "lm-eval:"
_MAX_TOKENS: Final = 256
_FIELDS: Final = frozenset({"name", "rows", "metrics", "max_tokens", "schema"})


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Rows, and what is measured on them."""

    name: str
    rows: tuple[Row, ...]
    #: Names of `METRICS`.
    metrics: tuple[str, ...]
    #: Of each answer, at most.
    max_tokens: int = _MAX_TOKENS
    #: As who asked for it calls it, a path for instance; empty: by its name.
    source: str = ""

    @property
    def digest(self) -> str:
        """See `rows.digest`."""
        return reading.digest(self.rows)

    def sample(self, size: int | None, seed: int) -> "Suite":
        """The same suite with at most `size` of its rows. See `rows.sample`."""
        return replace(self, rows=reading.sample(self.rows, size, seed))


def held_out(path: Path, metrics: Sequence[str] = (), max_tokens: int = _MAX_TOKENS) -> Suite:
    """The validation split of prepared data. Without `metrics` those that its rows can have.

    Raises EvaluationError: E850 (file), E851 (metric).
    """
    found = reading.read(path)
    return Suite(name=HELD_OUT, rows=found, metrics=checked(metrics) or fitting(found), max_tokens=max_tokens)


def fitting(rows: Sequence[Row]) -> tuple[str, ...]:
    """The metrics that say something of these rows when nobody has chosen any."""
    usual = ["exact_match", "token_f1", "rouge_l", "loss", "perplexity"]
    special = ["tool_calls", "json_schema", "regex"]
    return tuple(name for name in [*special, *usual] if any(METRICS[name].applies(row) for row in rows))


def load(reference: str, folder: Path | None = None) -> Suite:
    """The suite in a YAML file: by its path (with a slash, or ending with .yaml or .yml), or by its name in `folder`.

    Raises EvaluationError: E850 (a file is missing or broken), E851 (no such suite, or a metric that is none).
    """
    path = Path(reference).expanduser()
    if "/" not in reference and path.suffix not in (".yaml", ".yml"):
        path = _in_folder(reference, folder)
    body = _yaml(path)
    if unknown := sorted(body.keys() - _FIELDS):
        raise _broken(path, f"it has a field {unknown[0]!r}", f"fields are {', '.join(sorted(_FIELDS))}")
    rows, name, metrics = body.get("rows"), body.get("name", path.stem), body.get("metrics", [])
    if not isinstance(rows, str) or not isinstance(name, str):
        raise _broken(path, "`rows` must name a file of JSON lines, and `name` is a text")
    if not isinstance(metrics, list) or not all(isinstance(each, str) for each in metrics):
        raise _broken(path, "`metrics` must be a list of names")
    limit = body.get("max_tokens", _MAX_TOKENS)
    if type(limit) is not int or limit < 1:
        raise _broken(path, "`max_tokens` must be a whole number from 1 on")
    found = reading.read(path.parent / Path(rows).expanduser(), _schema(path, body.get("schema")))
    return Suite(name=name, rows=found, metrics=checked(metrics) or fitting(found), max_tokens=limit, source=reference)


def checked(metrics: Sequence[str]) -> tuple[str, ...]:
    """These metrics, each once. Raises EvaluationError E851 for one that is none."""
    return tuple(dict.fromkeys(named(name).name for name in metrics))


def _in_folder(name: str, folder: Path | None) -> Path:
    if folder is None:
        raise fault("E851", f"there is no suite {name!r}", fix="give the path of its YAML file")
    for suffix in (".yaml", ".yml"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    there = sorted({path.stem for path in folder.glob("*.y*ml")}) if folder.is_dir() else []
    raise fault(
        "E851",
        f"there is no suite {name!r}",
        f"suites in {folder}: {', '.join(there) or 'none'}",
        f"use one of them, give the path of a YAML file, or {HARNESS}TASK",
    )


def _yaml(path: Path) -> Json:
    import yaml

    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _broken(path, f"it cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise _broken(path, f"it is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(body, dict):
        raise _broken(path, "it is no mapping of fields")
    return body


def _schema(path: Path, said: Any) -> Json | bool | None:
    """The schema itself, or that of the JSON file it names."""
    if not isinstance(said, str):
        if said is None or isinstance(said, dict | bool):
            return said
        raise _broken(path, "`schema` must be a JSON Schema or the path of one")
    try:
        value = json.loads((path.parent / said).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path, f"the schema {said} cannot be read: {error}") from error
    return _schema(path, value) if not isinstance(value, str) else None


def _broken(path: Path, why: str, fix: str = "") -> Exception:
    return fault("E850", "the suite cannot be used", why, fix, file=str(path))
