"""Read a recipe from a file: all its faults at once, or the recipe with the place of each field."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from finetune.errors import Level, Problem, RecipeError
from finetune.spec import hidden
from finetune.spec.aliases import ALIASES
from finetune.spec.complaints import complaints
from finetune.spec.document import MAX_BYTES, Document, Mark, Spot, Steps, dotted, load
from finetune.spec.draft import SECRET, UNKNOWN, Draft, Source, merged
from finetune.spec.fields import all_fields
from finetune.spec.model import Recipe
from finetune.spec.scalars import printable, shown
from finetune.spec.suggestions import suggest
from finetune.spec.syntax import too_much

#: What messages name as the file of a value from the command line.
OVERRIDE: Final = "--set"


@dataclass(frozen=True)
class RecipeFile:
    """A valid recipe, the file it came from, and where each field stands in it. Picklable."""

    recipe: Recipe
    path: Path
    #: Warnings: names of other tools that were taken for ours.
    notes: tuple[Problem, ...] = ()
    spots: Mapping[str, Spot] = field(default_factory=dict, repr=False)

    def where(self, name: str) -> tuple[int, int] | None:
        """Line and column, 1-based, of a field's value (of its key, if the value is a block).

        None when the field is not set, or was set by `--set`.
        """
        spot = self.spots.get(name)
        return (spot.line, spot.column) if spot and spot.line is not None and spot.column is not None else None

    def problem(self, code: str, name: str, what: str, why: str = "", fix: str = "", level: Level = "error") -> Problem:
        """A Problem about field `name`, with its file, line, column and value; an unset one has the nearest line.

        The empty name stands for the recipe as a whole.
        """
        around = name
        while around and around not in self.spots:
            around = around.rpartition("[")[0] if around.endswith("]") else around.rpartition(".")[0]
        spot = self.spots.get(around, Spot(str(self.path)))
        value: Any = self.recipe
        for key in name.partition("[")[0].split("."):
            value = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        plain = isinstance(value, str | int | float | tuple | dict)
        return Problem(
            code=code,
            what=what,
            why=why,
            fix=fix,
            level=level,
            file=spot.file,
            line=spot.line,
            column=spot.column,
            field=name or None,
            value=hidden.display(name.rpartition(".")[2], value) if plain else None,
        )


def read(path: Path, overrides: Sequence[str] = ()) -> RecipeFile:
    """The recipe in file `path`, with `overrides` (`lora.r=32`) on top, the last one winning.

    Raises RecipeError with every problem found, in the order of the file.
    """
    try:
        raw = _bytes(path)
    except FileNotFoundError:
        raise RecipeError(_missing(path)) from None
    except IsADirectoryError:
        what, why = f"`{path}` is no file", "A recipe is one file; this is a folder or a device"
        raise RecipeError(_unread("E102", path, what, why, "name the file, such as recipe.yaml")) from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "the name is not one that a file can have"
        fix = "check the name, and that you may read the file"
        raise RecipeError(_unread("E103", path, f"`{path}` cannot be read", said, fix)) from None
    if len(raw) > MAX_BYTES:
        raise RecipeError(too_much(str(path)))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        why = "A recipe is UTF-8 text; this is another encoding, or no text at all"
        problem = _unread("E104", path, "the file is not UTF-8 text", why, "save it as UTF-8")
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8-sig", "replace")) + 1
        raise RecipeError(replace(problem, line=before.count(b"\n") + 1, column=column)) from None
    return parse(text, path, overrides)


def _bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file() and not path.is_fifo():
        raise IsADirectoryError
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def parse(text: str, file: Path, overrides: Sequence[str] = ()) -> RecipeFile:
    """The recipe in `text`, which came from `file`. Like `read`; touches no file."""
    document = load(text, str(file))
    if not isinstance(document.value, dict):
        raise RecipeError(*document.problems, _no_mapping(document, str(file)))
    draft = Draft(problems=document.problems)
    Source(draft, document).fill()
    for override in overrides:
        try:
            _set(draft, override)
        except RecipeError as error:
            draft.problems.extend(error.problems)
    recipe = _validated(draft, str(file))
    draft.problems.extend(_unknown_names(draft))
    draft.problems.extend(_secrets(draft))
    if recipe is None or draft.problems:
        ordered = sorted(draft.problems, key=lambda each: (each.file == OVERRIDE, each.line or 0, each.column or 0))
        raise RecipeError(*ordered)
    spots = {name: mark.value for name, mark in draft.marks.items() if name}
    return RecipeFile(recipe, file, tuple(draft.notes), spots)


def _validated(draft: Draft, file: str) -> Recipe | None:
    try:
        return Recipe.model_validate(draft.values)
    except ValidationError as error:
        draft.problems.extend(complaints(error, draft, file))
        return None


def _set(draft: Draft, override: str) -> None:
    """Put one `--set` on top of the draft. Raises RecipeError if it is not `field=value` or its value no YAML."""
    name, divider, text = override.partition("=")
    steps = tuple(part.strip() for part in name.split("."))
    if not divider or not all(steps):
        problem = Problem(
            code="E133",
            what=f"`--set {hidden.display(name, override)}` is not of the form field=value",
            why="It names one field of the recipe and the value that it shall have",
            fix="write --set training.epochs=1",
            file=OVERRIDE,
        )
        raise RecipeError(problem)
    try:
        loaded = load(text, OVERRIDE)
    except RecipeError as error:
        raise RecipeError(*(_placeless(each, dotted(steps)) for each in error.problems)) from None
    draft.problems.extend(_placeless(each, dotted(steps)) for each in loaded.problems)
    whole, value = merged(draft, steps, loaded.value)
    Source(draft, _nested(whole, value), replaced=whole).fill()


def _placeless(problem: Problem, name: str) -> Problem:
    # Lines and columns of a command line's argument help nobody.
    why = "So the value is not valid YAML" if problem.code == "E107" else problem.why
    return replace(problem, why=why, file=OVERRIDE, line=None, column=None, field=name)


def _nested(steps: tuple[str, ...], value: Any) -> Document:
    document = Document(value)
    here = Mark(Spot(OVERRIDE), Spot(OVERRIDE))
    for step in reversed(steps):
        document.value = {step: document.value}
    document.marks.update((place, here) for place in _places(document.value, ()))
    return document


def _places(value: Any, steps: Steps) -> Iterator[Steps]:
    yield steps
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from _places(each, (*steps, key))


def _unknown_names(draft: Draft) -> Iterator[Problem]:
    """Problems with names in `allow_ignored` that are no fields."""
    names = draft.get("allow_ignored")
    for position, name in enumerate(names if isinstance(names, list) else []):
        if not isinstance(name, str) or name in all_fields():
            continue
        section, _, key = name.rpartition(".")
        spot = draft.spot(f"allow_ignored[{position}]") or Spot(OVERRIDE)
        yield Problem(
            code=UNKNOWN,
            what=f"`allow_ignored` names the unknown field `{printable(name)}`",
            why="It lists fields of the recipe by their full names, such as lora.r",
            fix=f"write {ALIASES[name].field}" if name in ALIASES else suggest(section, key).fix,
            file=spot.file,
            line=spot.line,
            column=spot.column,
            field=f"allow_ignored[{position}]",
            value=shown(name),
        )


def _secrets(draft: Draft) -> Iterator[Problem]:
    for steps in hidden.secrets(draft.values, ()):
        name = dotted(steps)
        spot = draft.spot(name) or Spot(OVERRIDE)
        yield Problem(
            code=SECRET,
            what=f"`{name}` looks like a secret",
            why="Recipes are kept in the database, shown and shared",
            fix="remove it from the recipe, make it invalid if others may have seen it, and set it in the environment",
            file=spot.file,
            line=spot.line,
            column=spot.column,
            field=name,
            value=hidden.HIDDEN,
        )


def _no_mapping(document: Document, file: str) -> Problem:
    if document.value is None:
        why = "It has nothing but blanks and comments, if it has anything"
        return Problem(
            code="E106", what="the recipe is empty", why=why, fix="run `ft init` to get one to start from", file=file
        )
    return Problem(
        code="E110",
        what="the recipe is not a mapping of fields to values",
        why="Each line at the top is the name of a field, a colon, a blank and a value",
        fix="begin with `version: 1`; there is a blank after the colon",
        file=file,
        line=document.marks[()].value.line,
        column=document.marks[()].value.column,
    )


def _missing(path: Path) -> Problem:
    try:
        others = sorted(each.name for each in os.scandir(path.parent) if each.name.endswith((".yaml", ".yml")))
    except OSError:
        return _unread("E101", path, f"there is no file `{path}`", "Its folder is not there either", "check the path")
    near = difflib.get_close_matches(path.name, others, 1, 0.5) or others[:1]
    fix = f"did you mean `{path.parent / near[0]}`?" if near else "run `ft init` to write a recipe"
    return _unread("E101", path, f"there is no file `{path}`", "", fix)


def _unread(code: str, path: Path, what: str, why: str, fix: str) -> Problem:
    return Problem(code=code, what=what, why=why, fix=fix, file=str(path))
