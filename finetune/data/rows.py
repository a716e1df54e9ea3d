"""The rows of a JSON lines file, checked and in canonical form, one at a time."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from finetune.data import chat
from finetune.data.lines import Line, lines
from finetune.data.report import Findings
from finetune.errors import Problem

NO_ROWS: Final = "E204"
NOT_JSON: Final = "E207"
NO_OBJECT: Final = "E208"
LEFT_OUT: Final = "E219"
KEY_TWICE: Final = "E221"


class Row(NamedTuple):
    """One row that can be trained on."""

    #: 1-based.
    line: int
    #: Canonical JSON without a line end.
    text: bytes
    #: sha256 of `text`.
    digest: bytes


class _Refused(ValueError):
    """A line that Python's JSON would take, and we do not; the argument is a pair of code and sentence."""


def rows(path: Path, findings: Findings) -> Iterator[Row]:
    """The sound rows of the file in order. What is wrong with the others, and with the file, goes to `findings`."""
    left_out: Counter[str] = Counter()
    seen_any = False
    for line in lines(path, findings):
        if not seen_any and (wrong := _other_layout(line)):
            findings.add(_problem(path, NOT_JSON, line, *wrong))
            return
        seen_any = True
        row = _parsed(line, path, findings)
        if row is None:
            continue
        found = chat.faults(row)
        for fault in found:
            findings.add(_of_field(fault, line, path))
        left_out.update(chat.HARMLESS.intersection(row))
        if not found:
            text = chat.canonical(row)
            yield Row(line.number, text, hashlib.sha256(text).digest())
    if not seen_any and not findings.errors:
        what, why = "the file has no rows", "It is empty, or has nothing but blank lines"
        fix = "write one JSON object a line"
        findings.add(Problem(code=NO_ROWS, what=what, why=why, fix=fix, file=str(path)))
    for key, count in sorted(left_out.items()):
        findings.add(_without(key, count, path))


def _other_layout(first: Line) -> tuple[str, str, str] | None:
    """What is wrong, why, and the fix, when the first line shows that rows are not lines here."""
    text = first.text.strip()
    if text.startswith("["):
        why = "Rows are objects, one a line, without brackets and commas around them"
        return "the file is one JSON list", why, "turn it into lines: jq -c '.[]' FILE > rows.jsonl"
    if text == "{":
        why = "A row ends where its line ends"
        return "a row runs over several lines", why, "turn each into one line: jq -c . FILE > rows.jsonl"
    return None


def _parsed(line: Line, path: Path, findings: Findings) -> dict[str, Any] | None:
    fix = "write one object in one line, with double quotes around keys and texts"
    try:
        row = json.loads(line.text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        what = f"the line is no JSON ({error.msg[:1].lower()}{error.msg[1:]})"
        findings.add(_problem(path, NOT_JSON, line, what, "", fix, error.colno))
        return None
    except _Refused as error:
        code, what = error.args
        findings.add(_problem(path, code, line, what, "JSON's readers do not agree on what that means", "remove it"))
        return None
    except (ValueError, RecursionError):
        what, why = "the line nests too deeply, or has a number without end", "No message needs that"
        findings.add(_problem(path, NOT_JSON, line, what, why, fix))
        return None
    if isinstance(row, dict):
        return row
    findings.add(_problem(path, NO_OBJECT, line, "the row is not an object", "A row is `{...}`", fix))
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _Refused(KEY_TWICE, f"the key `{chat.printable(twice)}` is there twice in one object")
    return out


def _no_number(name: str) -> NoReturn:
    raise _Refused(NOT_JSON, f"{name} is no JSON")


def _without(key: str, count: int, path: Path) -> Problem:
    return Problem(
        code=LEFT_OUT,
        what=f"the key `{key}` of {count} rows is left out",
        why="It says nothing to a model",
        fix="nothing needs to be done; remove the key from the rows, if this is noise",
        level="warning",
        file=str(path),
        field=key,
    )


def _of_field(fault: chat.Fault, line: Line, path: Path) -> Problem:
    return Problem(
        code=fault.code,
        what=fault.what,
        why=fault.why,
        fix=fault.fix,
        file=str(path),
        line=line.number,
        field=fault.field,
        value=fault.value,
    )


def _problem(path: Path, code: str, line: Line, what: str, why: str, fix: str, column: int | None = None) -> Problem:
    return Problem(code=code, what=what, why=why, fix=fix, file=str(path), line=line.number, column=column)
