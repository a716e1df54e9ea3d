"""From the files of a folder to a Catalogue, or to every fault in them at its line."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from finetune.catalogue.complaints import complaints
from finetune.catalogue.sheets import Catalogue, ProviderSheet, claims
from finetune.catalogue.spots import File, Loc, dotted
from finetune.errors import Problem, StateError

UNREADABLE: Final = "E390"
NO_VALUE: Final = "E392"
NO_SOURCE: Final = "E393"
TWICE: Final = "E394"

SHIPPED: Final = Path(__file__).parent / "providers"
MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 16


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader; days stay text, so that a bad one is told at its field."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own attribute, and typed as the instance's)
        first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read(folder: Path | None = None) -> Catalogue:
    """See `finetune.catalogue.load`."""
    place = SHIPPED if folder is None else folder
    found = sorted(place.glob("*.yaml"))
    if not found:
        why = "The catalogue is a folder of files, one a provider, whose names end in .yaml"
        raise StateError(_unreadable(place, f"there is no catalogue in `{place}`", why, "name the folder"))
    sheets: dict[str, ProviderSheet] = {}
    problems: list[Problem] = []
    for path in found:
        try:
            sheet = _sheet(path)
        except StateError as error:
            problems.extend(error.problems)
        else:
            sheets[sheet.provider] = sheet
    if problems:
        raise StateError(*problems)
    return Catalogue(sheets)


def _sheet(path: Path) -> ProviderSheet:
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "It is not UTF-8 text"
        raise StateError(_unreadable(path, f"`{path}` cannot be read", said, "check the file")) from None
    if len(raw) > MAX_BYTES:
        what = f"the file is larger than {MAX_BYTES:,} bytes"
        raise StateError(_unreadable(path, what, "No sheet is", "name a folder of sheets"))
    file, value = _values(text, path)
    try:
        sheet = ProviderSheet.model_validate(value)
    except ValidationError as error:
        raise StateError(*complaints(error, file, value)) from None
    if problems := [*_sources(sheet, file), *_twice(sheet, file), *_name(sheet, file, path)]:
        raise StateError(*problems)
    return sheet


def _values(text: str, path: Path) -> tuple[File, Any]:
    """The values of a file, and where each stands. Raises StateError when it is no mapping of YAML."""
    loader = _Loader(text)
    try:
        if deep := _too_deep(text):
            what, why = "the file nests too deep", f"No sheet has more than {MAX_DEPTH} levels"
            raise StateError(_unreadable(path, what, why, "remove the nesting", deep))
        node = loader.get_single_node()
        file = File(str(path), node)
        if not isinstance(node, yaml.MappingNode):
            what, why = "the file is not a mapping", "A sheet begins with version, provider and title"
            raise StateError(_unreadable(path, what, why, "compare it with one that ships with ft"))
        if problems := list(_odd(node, (), file, set())):
            raise StateError(*problems)
        return file, loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = str(getattr(error, "problem", None) or "it breaks off")
        line = mark.line + 1 if mark else None
        what, why = f"this cannot be read as YAML ({said})", "Nothing after this point can be read"
        raise StateError(_unreadable(path, what, why, "mend the line", line)) from None
    finally:
        loader.dispose()


def _too_deep(text: str) -> int | None:
    """The 1-based line where the text nests deeper than any sheet; None when it does not.

    Looked at event by event, because libyaml composes nodes by recursion and would end the process.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH and event.start_mark is not None:
            return int(event.start_mark.line) + 1
    return None


def _odd(node: yaml.Node, loc: Loc, file: File, seen: set[int]) -> Iterator[Problem]:
    """What YAML can say and a sheet cannot: a key twice, one that is no text, an empty value.

    Anchors share nodes: each is looked at once (`seen`, by identity), or a small file could keep us here for ever.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for position, each in enumerate(node.value):
            yield from _odd(each, (*loc, position), file, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
    for key, inside in node.value:
        if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
            what = f"a key of `{dotted(loc) or 'the file'}` is not text"
            yield file.problem(UNREADABLE, loc, what, "Every key is the name of a field", "put quotes around it")
            continue
        place = (*loc, key.value)
        if keys[key.value] > 1:
            keys[key.value] = 0
            yield file.problem(TWICE, place, f"`{dotted(place)}` is there twice", "", "remove one of the two")
        if inside.tag.endswith(":null"):
            why = "What is not known is left out"
            fix = "put quotes around the text before it: a comma ends it" if " " in key.value else "write or remove it"
            yield file.problem(NO_VALUE, place, f"`{dotted(place)}` has no value", why, fix)
        yield from _odd(inside, place, file, seen)


def _sources(sheet: ProviderSheet, file: File) -> Iterator[Problem]:
    for place, claim in claims(sheet):
        if claim.source not in sheet.sources:
            name = f"{place}.source"
            what = f"`{name}` names no source: there is no `sources.{claim.source}`"
            why = "A claim that nobody can look up is a guess"
            known = ", ".join(sorted(sheet.sources)) or "none so far"
            fix = f"add it under sources, or write one of: {known}"
            yield file.problem(NO_SOURCE, file.loc(name), what, why, fix, claim.source)


def _twice(sheet: ProviderSheet, file: File) -> Iterator[Problem]:
    seen: set[str] = set()
    for position, model in enumerate(sheet.models):
        for name in (model.name, *model.aliases):
            if name in seen:
                loc: Loc = ("models", position, "name")
                what, why = (
                    f"`{dotted(loc)}`: {name} is there twice",
                    "Nobody could tell which of the two entries holds",
                )
                yield file.problem(TWICE, loc, what, why, "make one entry of the two", name)
            seen.add(name)


def _name(sheet: ProviderSheet, file: File, path: Path) -> Iterator[Problem]:
    if sheet.provider != path.stem:
        what = f"`provider` is {sheet.provider}, and the file is called {path.name}"
        why = "A file is named after its provider, so that no provider has two"
        yield file.problem(TWICE, ("provider",), what, why, f"rename the file to {sheet.provider}.yaml", sheet.provider)


def _unreadable(path: Path, what: str, why: str, fix: str, line: int | None = None) -> Problem:
    return Problem(code=UNREADABLE, what=what, why=why, fix=fix, file=str(path), line=line)
