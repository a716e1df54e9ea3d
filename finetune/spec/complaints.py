"""What pydantic found, in sentences: what, why, fix, with the line. None of pydantic's own words gets through."""

import re
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from finetune.errors import Problem
from finetune.spec import hidden
from finetune.spec.document import Spot, dotted
from finetune.spec.draft import UNKNOWN, Draft, within
from finetune.spec.fields import Field, all_fields
from finetune.spec.scalars import flow, plain
from finetune.spec.suggestions import nearest
from finetune.spec.types import NOT_A_CHOICE, OUT_OF_RANGE, WRONG_TYPE

MISSING: Final = "E121"

_YES, _NO = frozenset({"yes", "on", "y", "1"}), frozenset({"no", "off", "n", "0"})
#: What other tools call our methods.
_SYNONYMS: Final = {"supervised": "sft", "preference": "dpo"}

_RANGES: Final = frozenset(
    {
        *("greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "finite_number"),
        *("too_long", "too_short", "string_too_long", "string_too_short", "int_parsing_size"),
    }
)


def complaints(error: ValidationError, draft: Draft, file: str) -> list[Problem]:
    """One Problem for each place that pydantic refuses and that nobody has complained about before."""
    out: list[Problem] = []
    said: set[str] = set()
    for each in error.errors(include_url=False, include_input=False):
        name = _place(each, draft)
        settled = any(within(name, each) for each in draft.settled)
        if name in said or settled or any(within(each, name) for each in draft.settled | draft.meant):
            continue
        said.add(name)
        out.append(_problem(each, name, draft, file))
    return out


def _place(error: ErrorDetails, draft: Draft) -> str:
    """The dotted name of what is at fault: pydantic's place without its own words for branches and keys."""
    steps = [step for step in error["loc"] if step != "[key]"]
    if below := error.get("ctx", {}).get("field"):
        steps.append(below)
    if error["type"] == "missing":
        return dotted(tuple(steps))
    found: Any = draft.values
    known = 0
    for step in steps:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            break
        known += 1
    return dotted(tuple(steps[:known]))


def _problem(error: ErrorDetails, name: str, draft: Draft, file: str) -> Problem:
    field = all_fields().get(re.sub(r"\[.*", "", name))
    value = _value(draft, name)
    code, says, why, fix = _sentences(error, name, field, value)
    spot = _spot(name, draft, file)
    return Problem(
        code=code,
        what=f"`{name or 'recipe'}` {says}",
        why=why,
        fix=fix,
        file=spot.file,
        line=spot.line,
        column=spot.column,
        field=name or None,
        value=None if value is None else hidden.display(name.rpartition(".")[2], value),
    )


def _sentences(error: ErrorDetails, name: str, field: Field | None, value: Any) -> tuple[str, str, str, str]:
    kind = error["type"]
    told = error.get("ctx", {})
    if kind == "ft":
        return told["code"], told["says"], told["why"], told["fix"]
    if field is None or not (name == field.name or name.startswith(f"{field.name}[") or field.free):
        return WRONG_TYPE, "has a value that no recipe can hold", "", "compare it with the recipe that `ft init` writes"
    if kind == "missing":
        return MISSING, "is missing", f"{field.info.description} It has no default", f"write {_written(field)}"
    if kind == "extra_forbidden":
        return UNKNOWN, "has a field that is not known", "ft never drops a key silently", "remove it"
    if kind == "literal_error":
        return NOT_A_CHOICE, f"must be {field.takes}", field.info.description or "", _choice(field, value)
    if kind in _RANGES and name == field.name:
        return OUT_OF_RANGE, f"must be {field.takes}", field.info.description or "", f"write {_written(field)}"
    if name != field.name:
        return WRONG_TYPE, f"must be text, not {_called(value)}", field.info.description or "", _quoted(value)
    return WRONG_TYPE, f"must be {field.takes}, not {_called(value)}", field.info.description or "", _mend(field, value)


def _called(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return f"`{flow(value)}`"
    kinds = {int: "a whole number", float: "a number with a fraction", str: "text", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "this")


def _written(field: Field, value: Any = None) -> str:
    """The line that sets the field, in its section."""
    line = f"{field.key}: {flow(field.example if value is None else value)}"
    return f"{field.parent}: {{{line}}}" if field.parent else line


def _choice(field: Field, value: Any) -> str:
    words = field.takes.split(" or ")
    meant = "off" if value is False else _SYNONYMS.get(str(value).lower()) or nearest(str(value), words)
    return f"write {_written(field, meant if meant in words else None)}"


def _mend(field: Field, value: Any) -> str:
    """How to write what was probably meant."""
    takes = field.takes.split(" ", 2)
    mender: Callable[[Field, Any], Any] | None = {
        "a whole": _number,
        "a number": _number,
        "true or": _truth,
        "a list": _listed,
        "a mapping": _mapped,
        "text": _texted,
    }.get(" ".join(takes[:2]))
    if value == "auto" and mender is _number:
        return f"remove the line: an unset `{field.name}` leaves the choice to the target, or takes its default"
    meant = mender(field, value) if mender else None
    return f"write {_written(field, meant)}"


def _number(field: Field, value: Any) -> Any:
    meant = plain(value.strip().replace("_", "").replace(",", "")) if isinstance(value, str) else value
    if isinstance(meant, float) and meant.is_integer() and field.takes.startswith("a whole") and abs(meant) < 1e15:
        meant = int(meant)
    fits = isinstance(meant, int) or (isinstance(meant, float) and field.takes.startswith("a number"))
    return meant if fits and not isinstance(meant, bool) else None


def _truth(field: Field, value: Any) -> Any:
    word = str(value).lower()
    return True if word in _YES | {"true"} else False if word in _NO | {"false"} else None


def _listed(field: Field, value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) and value.strip() else None


def _mapped(field: Field, value: Any) -> Any:
    return {"path": value} if field.name == "dataset" and isinstance(value, str) else None


def _texted(field: Field, value: Any) -> Any:
    return str(value) if type(value) in (int, float) else None


def _quoted(value: Any) -> str:
    if value is None:
        return "remove it, or write a text"
    return f"write {flow(str(value).lower() if isinstance(value, bool) else str(value))}, in quotes"


def _value(draft: Draft, name: str) -> Any:
    found: Any = draft.values
    for step in re.findall(r"[^.\[\]]+", name):
        try:
            found = found[int(step) if isinstance(found, list) else step]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return found


def _spot(name: str, draft: Draft, file: str) -> Spot:
    """Where the field stands, or else the nearest thing around it, or else the file."""
    while name:
        if spot := draft.spot(name):
            return spot
        name = name.rpartition("[")[0] if name.endswith("]") else name.rpartition(".")[0]
    return Spot(file, 1, 1)
