"""A recipe for another target: what of it carries over, what changes, and why. Nothing is converted silently.

| Of the recipe | At the new target |
| --- | --- |
| data, validation | the very rows that the version was trained on and measured by |
| gate, register | the same, so the new version has to reach what the old one had to |
| epochs, batch size, absolute rates, LoRA, beta, seed | the same where the target honours them, else left out |
| `learning_rate_multiplier` | left out: a factor on one target's own rate says nothing of another's |
| `provider_options` | left out: words of the old target |
| `resources`, `local` | kept for own machines, else left out |
| `register.max_hosting` | left out: agreed to for another target |
| `allow_ignored` | without what was left out |

Rows that measure nothing, for they are those that it was trained on, are left out too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from finetune.errors import DataError, Problem
from finetune.jobs import Job, Json
from finetune.plan import OURS, within
from finetune.spec import Recipe, canonical, explicit
from finetune.spec.model import DataFormat

_FORMATS: Final = frozenset(get_args(DataFormat))
_WORDS: Final = {
    "training.learning_rate_multiplier": "a factor on one target's own rate says nothing of another's",
    "provider_options": "words of the old target",
    "register.max_hosting": "agreed to for another target",
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One field that is not as it was."""

    field: str
    #: None: it was not set.
    before: Any
    #: None: it is not set any more.
    after: Any
    why: str


@dataclass(frozen=True, kw_only=True)
class Retarget:
    """The new recipe, and all that differs from the old one."""

    #: As `spec.canonical` writes it.
    recipe: Json
    changes: tuple[Change, ...]


def retargeted(
    job: Job,
    provider: str,
    base_model: str,
    *,
    honours: frozenset[str],
    gateways: Sequence[str] | None = None,
    alias: str | None = None,
) -> Retarget:
    """The recipe of this job for `provider/base_model`, which honours these fields (`ports.Provider.honours`).

    `alias` and `gateways` go into its `register`; None: as they are. Sends nothing.
    """
    old = Recipe.model_validate(job.recipe)
    new, changes = canonical(old), []
    for field, value in explicit(old).items():
        if why := _left_out(field, honours):
            _drop(new, field)
            changes.append(Change(field=field, before=value, after=None, why=why.format(provider)))
    _put(new, "provider", provider)
    _put(new, "base_model", base_model)
    new |= (rows := _rows(job))
    if "validation" not in rows and (gone := _unmeasured(job)):
        _drop(new, "validation")
        changes.append(gone)
    if old.allow_ignored:
        kept = [each for each in old.allow_ignored if each not in {change.field for change in changes}]
        _put(new, "allow_ignored", kept) if kept else _drop(new, "allow_ignored")
    if alias is not None:
        _put(new, "register.alias", alias)
    if gateways is not None:
        _put(new, "register.gateways", list(gateways))
    now = explicit(Recipe.model_validate(new))
    changes += _differences(explicit(old), now, {change.field for change in changes})
    return Retarget(recipe=new, changes=tuple(changes))


def overridden(made: Retarget, recipe: Recipe) -> Retarget:
    """With what a user has changed beside: `recipe` is the whole, read again."""
    before, after = explicit(Recipe.model_validate(made.recipe)), explicit(recipe)
    fields = {field for field in (*before, *after) if before.get(field) != after.get(field)}
    was = {each.field: each.before for each in made.changes}
    changes = [each for each in made.changes if each.field not in fields]
    changes += [
        Change(field=field, before=was.get(field, before.get(field)), after=after.get(field), why="you say so")
        for field in sorted(fields)
    ]
    return Retarget(recipe=canonical(recipe), changes=tuple(changes))


def _left_out(field: str, honours: frozenset[str]) -> str | None:
    """Why the new recipe has this field no more; None: it has."""
    if words := _WORDS.get(field.partition(".")[0]) or _WORDS.get(field):
        return words
    if within(field, OURS | {"limits"}) or within(field, honours):
        return None
    return "{} does nothing about it"


def _rows(job: Job) -> Json:
    """The rows as they were written down for the job: whoever is measured by them has not seen them."""
    written = str(job.data.get("format", ""))
    found: Json = {"dataset": {"path": job.data["train"], "format": written if written in _FORMATS else "auto"}}
    if (held_out := job.data.get("validation")) and held_out != job.data["train"]:
        found["validation"] = {"path": held_out}
    return found


def _unmeasured(job: Job) -> Change | None:
    """Why there is nothing to measure by any more; None: there never was."""
    if held_out := job.data.get("validation"):
        return Change(field="validation.path", before=held_out, after=None, why="it was trained on these very rows")
    if file_id := job.data.get("files", {}).get("validation"):
        why = f"its rows are not here; `ft import {job.provider} --files FOLDER` adds them"
        return Change(field="validation.path", before=file_id, after=None, why=why)
    return None


def must_have_rows(job: Job, ref: str, recipe: Recipe) -> None:
    """Raise DataError E201 where this recipe wants rows that were written down for the job, and are gone."""
    wants = {"train": ("dataset.path", recipe.dataset.path)}
    if recipe.validation and recipe.validation.path:
        wants["validation"] = ("validation.path", recipe.validation.path)
    lost = {
        side: (field, path)
        for side, (field, path) in wants.items()
        if path == job.data.get(side) and not Path(path).is_file()
    }
    if lost:
        raise DataError(*(_lost(job, ref, side, field) for side, (field, _) in lost.items()))


def _lost(job: Job, ref: str, side: str, field: str) -> Problem:
    did = "was trained on" if side == "train" else "was measured by"
    place, fix = job.data[side], f"put the same rows into a file, and add --set {field}=FILE"
    file_id = job.data.get("files", {}).get(side)
    if file_id is None:
        first = job.recipe.get("dataset" if side == "train" else "validation", {}).get("path")
        why = f"they were in {place}" + (f", written there from {first}" if first else "") + ", and were removed"
    else:
        got = f"they were in {place}, and were removed" if job.data[f"{side}_rows"] else "the import got no such file"
        why = f"{job.provider} calls them {file_id}; {got}"
        again = f"`ft import {job.provider}` asks for them again, or takes them out of a folder (--files FOLDER)"
        fix = f"{again}; or {fix}"
    return Problem(code="E201", what=f"the rows that {ref} {did} are gone", why=why, fix=fix)


def _differences(old: Json, new: Json, known: set[str]) -> list[Change]:
    why: dict[str, str] = {
        "provider": "the new target",
        "base_model": "the new target",
        "dataset": "the rows that it was trained on",
        "validation": "the rows that it was measured by",
        "register": "where callers ask",
        "allow_ignored": "what was left out needs no leave",
    }
    fields = [field for field in (*old, *(each for each in new if each not in old)) if field not in known]
    return [
        Change(field=field, before=old.get(field), after=new.get(field), why=why.get(field.partition(".")[0], ""))
        for field in fields
        if old.get(field) != new.get(field)
    ]


def _put(recipe: Json, field: str, value: Any) -> None:
    section, _, key = field.rpartition(".")
    (recipe.setdefault(section, {}) if section else recipe)[key] = value


def _drop(recipe: Json, field: str) -> None:
    section, _, key = field.rpartition(".")
    holder = recipe.get(section, {}) if section else recipe
    holder.pop(key, None)
    if section and not holder:
        recipe.pop(section, None)
