"""What pydantic finds in a sheet, in sentences that name file, line and field. None of its own words get through."""

import difflib
import re
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from finetune.catalogue import sheets, values
from finetune.catalogue.spots import File, Loc
from finetune.errors import Problem

UNKNOWN: Final = "E391"
BAD_VALUE: Final = "E392"
NO_SOURCE: Final = "E393"

_CLOSE: Final = 0.6
_SHOWN: Final = 60
_SECTIONS: Final = tuple(
    each for module in (values, sheets) for each in vars(module).values() if isinstance(each, type)
)
#: Every key that a sheet can have somewhere.
_KEYS: Final = sorted({name for each in _SECTIONS if issubclass(each, values.Section) for name in each.model_fields})
_CLAIMS: Final = frozenset(each.__name__ for each in _SECTIONS if issubclass(each, values.Claim))

#: By the beginning of pydantic's word for the fault: what the field must be.
_TAKES: Final = (
    ("catalogue", "{takes}"),
    ("literal_error", "{expected}"),
    ("greater_than", "a number above 0"),
    ("int_", "a whole number"),
    ("bool_", "true or false"),
    ("string_pattern", "a name without blanks, of the letters that the provider itself uses"),
    ("string_", "text that is not empty"),
    ("too_short", "a list with something in it"),
    ("tuple_", "a list"),
    ("model_", "a mapping"),
    ("dict_", "a mapping"),
    ("", "something else"),
)


def complaints(error: ValidationError, file: File, document: Any) -> list[Problem]:
    """One Problem for each fault, in pydantic's order. `document` is what the file says."""
    found = error.errors(include_url=False, include_input=False)
    # A list whose items are all refused is also found too short: that is said already.
    below = {each["loc"][:-1] for each in found}
    return [_problem(each, file, document) for each in found if each["type"] != "too_short" or each["loc"] not in below]


def _problem(error: ErrorDetails, file: File, document: Any) -> Problem:
    kind = error["type"]
    loc: Loc = tuple(step for step in error["loc"] if step != "[key]")
    name = file.name(loc)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), _KEYS, 1, _CLOSE)
        fix = f"did you mean `{near[0]}`?" if near else "remove it"
        return file.problem(UNKNOWN, loc, f"`{name}` is not known", "A key that nobody reads says nothing", fix)
    if kind == "missing" and loc[-1] == "source":
        return _without_source(loc[:-1], file)
    if kind == "missing":
        return file.problem(UNKNOWN, loc, f"`{name}` is missing", "It has no default", f"write {loc[-1]}: ...")
    if kind == "model_type" and error.get("ctx", {}).get("class_name") in _CLAIMS:
        return _without_source(loc, file)
    takes = next(takes for word, takes in _TAKES if kind.startswith(word)).format_map(error.get("ctx", {}))
    value = _shown(document, loc)
    fix = "mend it; what is not known is left out"
    if kind == "literal_error":
        near = difflib.get_close_matches(value or "", re.findall("'([^']+)'", takes), 1, _CLOSE)
        fix = f"did you mean `{near[0]}`?" if near else "write one of these"
    why = f"It is `{value}`" if value else "It is empty, or of another kind"
    return file.problem(BAD_VALUE, loc, f"`{name}` must be {takes}", why, fix, value)


def _without_source(loc: Loc, file: File) -> Problem:
    name = file.name(loc)
    why = "Whoever reads it must be able to look it up: a claim without a source is a guess"
    fix = f"write {loc[-1]}: {{value: ..., source: KEY}}, KEY being one of `sources`, or remove the claim"
    if isinstance(loc[-1], int):
        fix = "add source: KEY, KEY being one of `sources`, or remove the claim"
    return file.problem(NO_SOURCE, loc, f"`{name}` has no source", why, fix)


def _shown(document: Any, loc: Loc) -> str | None:
    """The value at `loc`, shortened; None for a list or mapping, or when there is nothing."""
    for step in loc:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    if document is None or isinstance(document, list | dict):
        return None
    text = "true" if document is True else "false" if document is False else str(document)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
