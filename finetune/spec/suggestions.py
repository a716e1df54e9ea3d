"""What a mistyped key may have meant."""

import difflib
from typing import Final, NamedTuple

from finetune.spec.aliases import ALIASES
from finetune.spec.fields import all_fields, children
from finetune.spec.scalars import flow

_CUTOFF: Final = 0.6
_CLOSER: Final = 0.75
#: What is said for short in scripts, and spelt like something else here.
_SHORT: Final = {"lr": "training.learning_rate", "rank": "lora.r", "bs": "training.batch_size"}


class Suggestion(NamedTuple):
    """A sentence that says how to mend the key, and the field it seems to be."""

    fix: str
    #: None when nothing is near.
    field: str | None


def suggest(section: str, key: str) -> Suggestion:
    """The likeliest field for `key` in `section` (empty: the top): near in place first, then near in spelling."""
    if slip := _SHORT.get(key.lower()):
        return Suggestion(f"did you mean `{slip}`?", slip)
    elsewhere = [each.name for each in all_fields().values() if each.key == key.lower()]
    if elsewhere:
        return _move(elsewhere)
    here = {each.key: each.name for each in children(section) or children("")}
    if near := difflib.get_close_matches(key.lower(), here, 1, _CUTOFF):
        return Suggestion(f"did you mean `{near[0]}`?", here[near[0]])
    known = {each.key: each.name for each in all_fields().values()} | {name: to.field for name, to in ALIASES.items()}
    if near := difflib.get_close_matches(key.lower(), known, 1, _CLOSER):
        return Suggestion(f"did you mean `{known[near[0]]}`?", known[near[0]])
    return Suggestion(f"remove it, or take one of: {', '.join(here)}", None)


def nearest(word: str, words: list[str]) -> str | None:
    """The word that `word` is a slip of; None when none is near."""
    found = difflib.get_close_matches(word.lower(), words, 1, _CUTOFF)
    return found[0] if found else None


def _move(names: list[str]) -> Suggestion:
    ways = []
    for name in names:
        field = all_fields()[name]
        written = f"{field.key}: {flow(field.example) if field.section is None else '...'}"
        ways.append(f"`{field.parent}: {{{written}}}`" if field.parent else f"`{written}` at the top of the file")
    return Suggestion(f"it has its place elsewhere: write {' or '.join(ways)}", names[0] if len(names) == 1 else None)
