"""From what a document says to our fields: aliases, `target`, unknown keys, and `--set` on top of the file."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from finetune.errors import Problem
from finetune.spec import hidden
from finetune.spec.aliases import ALIASES, ELSEWHERE, REMARKS
from finetune.spec.document import BROKEN, Document, Mark, Spot, Steps, dotted
from finetune.spec.fields import all_fields
from finetune.spec.scalars import flow, printable
from finetune.spec.suggestions import suggest
from finetune.spec.types import BAD_FORM, CONTRADICTION, provider_name

UNKNOWN: Final = "E120"
NO_VALUE: Final = "E126"
TWICE: Final = "E128"
ALIAS: Final = "E129"
PEER_ONLY: Final = "E130"
SECRET: Final = "E132"

#: Sections where an alias of a field elsewhere is taken too: peers have their batch among the training's values.
_ALSO_IN: Final = {"local.micro_batch_size": "training", "local.gradient_checkpointing": "training"}


@dataclass
class Draft:
    """A recipe before it is checked: values by our names, and where each was written."""

    values: dict[str, Any] = field(default_factory=dict)
    #: By our dotted names.
    marks: dict[str, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    #: Fields that have been complained about: nothing more is said of them.
    settled: set[str] = field(default_factory=set)
    #: Fields that a mistyped key seems to mean: nobody says that they are missing.
    meant: set[str] = field(default_factory=set)

    def get(self, name: str) -> Any:
        """The value of a dotted name; None when unset."""
        found: Any = self.values
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def spot(self, name: str) -> Spot | None:
        """Where a field's value was written; None when it was not."""
        mark = self.marks.get(name)
        return mark.value if mark else None

    def forget(self, name: str) -> None:
        """Drop the marks of a field and of everything in it."""
        for each in [each for each in self.marks if within(each, name)]:
            del self.marks[each]


def within(name: str, outer: str) -> bool:
    """True when `name` is `outer` or a part of it."""
    return name == outer or name.startswith((f"{outer}.", f"{outer}["))


class Source:
    """One source of values, the file or one `--set`, on its way into a draft."""

    def __init__(self, draft: Draft, document: Document, replaced: Steps | None = None) -> None:
        self.draft = draft
        self.document = document
        #: The place that a `--set` names: what stood there before is replaced whole.
        self.replaced = replaced
        #: Our field -> the name it was written under, in this source.
        self.seen: dict[str, Steps] = {}

    def fill(self) -> None:
        """Put all that the document says into the draft, and note what is wrong with it."""
        self._take(self.document.value, "", ())

    def _take(self, values: dict[str, Any], section: str, steps: Steps) -> None:
        foreign = []
        for key, value in values.items():
            name = f"{section}.{key}" if section else key
            if name in all_fields():
                self._own(name, value, (*steps, key))
            else:
                foreign.append(key)
        # Aliases come second, so that the alias is at fault and not the field, whichever is first in the file.
        for key in foreign:
            if (*steps, key) != ("target",):
                self._foreign(section, key, values[key], (*steps, key))
        if not steps and "target" in values:
            self._target(values["target"], ("target",))

    def _own(self, name: str, value: Any, steps: Steps) -> None:
        if all_fields()[name].section is None or not isinstance(value, dict):
            self._put(name, value, steps)
            return
        if steps == self.replaced:
            self.draft.values[name] = {}
            self.draft.forget(name)
        if isinstance(self.draft.values.setdefault(name, {}), dict):
            self.draft.marks.setdefault(name, self.document.marks[steps])
            self._take(value, name, steps)

    def _put(self, name: str, value: Any, steps: Steps) -> None:
        if value is BROKEN:
            self.draft.settled.add(name)
        elif value is None:
            fix = f"write a value after `{steps[-1]}:`, or remove the line"
            if all_fields()[name].section is not None:
                fix = f"write its fields below `{steps[-1]}:`, or put `#` before it as before its fields"
            self._problem(NO_VALUE, steps, f"`{name}` has no value", "Unset and empty are not the same", fix, name)
            self.draft.settled.add(name)
        elif name in self.seen:
            other = self.document.marks[self.seen[name]].key.line
            place = f", in line {other}" if other else ""
            what = f"`{dotted(steps)}` and `{dotted(self.seen[name])}` are two names of one field"
            self._problem(TWICE, steps, what, f"`{name}` is set already{place}", "remove one of the two", name)
        elif self._store(name, self._clean(value, name)):
            self.seen[name] = steps
            self._mark(name, steps)

    def _store(self, name: str, value: Any) -> bool:
        section, _, key = name.rpartition(".")
        inside = self.draft.values.setdefault(section, {}) if section else self.draft.values
        if not isinstance(inside, dict):
            return False  # the section itself is at fault, and that is said when it is checked
        inside[key] = value
        return True

    def _mark(self, name: str, steps: Steps) -> None:
        self.draft.forget(name)
        section = name.rpartition(".")[0]
        if section:
            self.draft.marks.setdefault(section, self.document.marks[steps])
        for place, mark in self.document.marks.items():
            if place[: len(steps)] == steps:
                self.draft.marks[dotted((name, *place[len(steps) :]))] = mark

    def _clean(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: self._clean(each, f"{name}.{key}") for key, each in self._sound(value.items(), name)}
        if isinstance(value, list):
            return [self._clean(each, f"{name}[{place}]") for place, each in self._sound(enumerate(value), name)]
        return value

    def _sound(self, items: Any, name: str) -> Iterator[Any]:
        for key, each in items:
            if each is BROKEN:
                self.draft.settled.add(name)
            else:
                yield key, each

    def _foreign(self, section: str, key: str, value: Any, steps: Steps) -> None:
        alias = ALIASES.get(key)
        if alias and section in ("", alias.field.rpartition(".")[0], _ALSO_IN.get(alias.field)):
            self._put(alias.field, value, steps)
            if self.seen.get(alias.field) == steps:
                self._note(key, steps)
        elif hidden.secret_key(key):
            self._problem(
                SECRET,
                steps,
                f"`{dotted(steps)}` looks like a secret",
                "Recipes are kept in the database, shown and shared",
                "remove it from the file, make it invalid if others may have seen it, and set it in the environment",
            )
        elif key in ELSEWHERE:
            what = f"`{printable(key)}` is another tool's name and has no field here"
            self._problem(PEER_ONLY, steps, what, ELSEWHERE[key].why, ELSEWHERE[key].fix)
        else:
            fix, meant = suggest(section, key)
            if meant:
                self.draft.meant.add(meant)
            where = f"the section `{section}`" if section else "a recipe"
            why = f"There is no such field in {where}; ft never drops a key silently"
            self._problem(UNKNOWN, steps, f"unknown field `{dotted(steps)}`", why, fix)

    def _note(self, key: str, steps: Steps) -> None:
        alias = ALIASES[key]
        what = f"`{dotted(steps)}` is taken as `{alias.field}`"
        why = REMARKS.get(key, f"It is the field's name in {alias.peers}")
        self.draft.notes.append(self._about(ALIAS, steps, what, why, f"write {alias.field}", "warning", alias.field))

    def _target(self, value: Any, steps: Steps) -> None:
        if value is BROKEN or value is None or not isinstance(value, str) or not all(value.partition("/")):
            self.draft.settled.update(("provider", "base_model"))
            if value is not BROKEN:
                why = "A target is a provider and its base model, divided by the first slash"
                self._problem(BAD_FORM, steps, "`target` names no target", why, "write target: local/Qwen/Qwen3-0.6B")
            return
        provider, _, model = value.partition("/")
        if not provider_name(provider):
            self.draft.settled.update(("provider", "base_model"))
            why = f"What stands before the first slash is the provider, and {flow(provider)} is no name of one"
            self._problem(BAD_FORM, steps, "`target` names no provider", why, f"write base_model: {flow(value)}")
            return
        for name, part in (("provider", provider), ("base_model", model)):
            if name not in self.seen:
                self._put(name, part, steps)
            elif self.draft.values.get(name) != part:
                what = f"`target` and `{dotted(self.seen[name])}` contradict each other"
                why = f"target says that `{name}` is {flow(part)}"
                self._problem(CONTRADICTION, steps, what, why, "remove one of the two", name)

    def _problem(self, code: str, steps: Steps, what: str, why: str, fix: str, name: str = "") -> None:
        self.draft.problems.append(self._about(code, steps, what, why, fix, "error", name))

    def _about(self, code: str, steps: Steps, what: str, why: str, fix: str, level: Any, name: str = "") -> Problem:
        value: Any = self.document.value
        for step in steps:
            value = value[step]
        spot = self.document.marks[steps].key
        return Problem(
            code=code,
            what=what,
            why=why,
            fix=fix,
            level=level,
            file=spot.file,
            line=spot.line,
            column=spot.column,
            field=name or dotted(steps),
            value=None if value is BROKEN or value is None else hidden.display(str(steps[-1]), value),
        )


def merged(draft: Draft, steps: tuple[str, ...], value: Any) -> tuple[tuple[str, ...], Any]:
    """A `--set` below a free mapping (`provider_options.a=1`) as one of the whole field; any other as it is."""
    for size in (1, 2):
        name = ".".join(steps[:size])
        known = all_fields().get(name)
        if known and known.free and len(steps) > size:
            old = draft.get(name)
            whole = copy.deepcopy(old) if isinstance(old, dict) else {}
            inside = whole
            for step in steps[size:-1]:
                if not isinstance(inside.get(step), dict):
                    inside[step] = {}
                inside = inside[step]
            inside[steps[-1]] = value
            return steps[:size], whole
    return steps, value
