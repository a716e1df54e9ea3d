"""From the files of a folder to a Catalogue, or to every fault in them at its line."""

import difflib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from finetune.catalogue.complaints import BAD_VALUE, UNKNOWN, complaints
from finetune.catalogue.merging import TWICE, collisions, merged
from finetune.catalogue.sheets import Catalogue, ProviderSheet, claims
from finetune.catalogue.spots import File, Loc, dotted
from finetune.errors import Problem, StateError

UNREADABLE: Final = "E390"
NO_VALUE: Final = "E392"
NO_SOURCE: Final = "E393"

#: What answers here and has no sheet: our own server.
SERVERS: Final = frozenset({"embedded"})
SHIPPED: Final = Path(__file__).parent / "providers"
MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 16


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader; days stay text, so that a bad one is told at its field."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own attribute, and typed as the instance's)
        first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read(folder: Path | None = None, own: Path | None = None) -> Catalogue:
    """See `finetune.catalogue.load`."""
    sheets: dict[str, ProviderSheet] = {}
    problems: list[Problem] = []
    found = _places(SHIPPED if folder is None else folder)
    mine: dict[str, File] = {}
    for path in _places(own) if own is not None else ():
        with _gathered(problems):
            file = _file(path)
            name = _provider(file, mine)
            mine[name] = file
    known = {*SERVERS, *mine, *(path.stem for path in found)}
    for path in found:
        with _gathered(problems):
            sheet = _laid(_file(path), mine.pop(path.stem, None), path, known)
            sheets[sheet.provider] = sheet
    for name, file in mine.items():
        with _gathered(problems):
            sheets[name] = _new(file, known, sorted(path.stem for path in found))
    if problems:
        raise StateError(*problems)
    return Catalogue(dict(sorted(sheets.items())))


def _places(place: Path) -> list[Path]:
    """The file, or the sheets of the folder. Raises StateError when there is none."""
    if place.is_file():
        return [place]
    found = sorted(place.glob("*.yaml"))
    if not found:
        there = f"no file in `{place}` ends in .yaml" if place.is_dir() else f"there is no file or folder `{place}`"
        why = "A catalogue is a sheet, or a folder of sheets, one a provider, whose names end in .yaml"
        raise StateError(_unreadable(place, there, why, "correct FT_CATALOGUE, or unset it: then what ships is used"))
    return found


@contextmanager
def _gathered(problems: list[Problem]) -> Iterator[None]:
    """A StateError's problems go into the list, so that all files are told of at once."""
    try:
        yield
    except StateError as error:
        problems.extend(error.problems)


def _provider(file: File, known: Collection[str]) -> str:
    """Whose sheet one's own file is. Raises StateError when it does not say, or another says the same."""
    pairs = file.node.value if isinstance(file.node, yaml.MappingNode) else []
    name = next((inside.value for key, inside in pairs if key.value == "provider"), None)
    if not isinstance(name, str):
        why = "Everything but this may be left out where a sheet ships with ft"
        problem = file.problem(UNKNOWN, (), "`provider` is missing or no name", why, "write provider: NAME")
        raise StateError(problem)
    if name in known:
        what, why = f"`provider` is {name} in two files", "Nobody could tell which of the two holds"
        raise StateError(file.problem(TWICE, ("provider",), what, why, "make one file of the two", name))
    return name


def _laid(shipped: File, own: File | None, path: Path, known: Collection[str]) -> ProviderSheet:
    if own is None:
        return _checked(shipped, known, path)
    if problems := list(collisions(own, shipped)):
        raise StateError(*problems)
    return _checked(merged(own, shipped), known)


def _new(file: File, known: Collection[str], shipped: list[str]) -> ProviderSheet:
    """The sheet of a provider of which none ships; what it lacks may come of a mistyped name."""
    try:
        return _checked(file, known)
    except StateError as error:
        lacks = [
            name for name, each in ProviderSheet.model_fields.items() if each.is_required() and not file.has((name,))
        ]
        others = [each for each in error.problems if each.code != UNKNOWN or each.field not in lacks]
        raise StateError(*([_no_such(file, lacks, shipped)] if lacks else []), *others) from None


def _no_such(file: File, lacks: list[str], shipped: list[str]) -> Problem:
    name = _provider(file, ())
    near = difflib.get_close_matches(name, shipped, 2)
    what = f"no sheet of a provider {name!r} ships with ft, and this one lacks {', '.join(lacks)}"
    why = "A sheet of one's own may leave out what the shipped one says, and a new one nothing that it needs"
    fix = f"did you mean {' or '.join(near)}? A new one needs" if near else "write them too: a new one needs"
    return file.problem(UNKNOWN, ("provider",), what, why, f"{fix} {', '.join(lacks)} (docs/catalogue.md)", name)


def _checked(file: File, known: Collection[str], path: Path | None = None) -> ProviderSheet:
    """The sheet that the nodes make. `known`: what `at` may name. `path`: what must be named after its provider."""
    loader = _Loader("")
    try:
        value = loader.construct_document(file.node)
    except yaml.YAMLError as error:
        raise StateError(_no_yaml(Path(file.path), error)) from None
    finally:
        loader.dispose()
    try:
        sheet = ProviderSheet.model_validate(value)
    except ValidationError as error:
        raise StateError(*complaints(error, file, value)) from None
    problems = [*_sources(sheet, file), *_twice(sheet, file), *_unheard(sheet, file, known)]
    problems += _name(sheet, file, path) if path else ()
    if problems:
        raise StateError(*problems)
    return sheet


def _file(path: Path) -> File:
    """The file's nodes. Raises StateError when it cannot be read, or says what no sheet can."""
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
    return _nodes(text, path)


def _nodes(text: str, path: Path) -> File:
    """What stands where in a file. Raises StateError when it is no mapping of YAML."""
    loader = _Loader(text)
    try:
        if deep := _too_deep(text):
            what, why = "the file nests too deep", f"No sheet has more than {MAX_DEPTH} levels"
            raise StateError(_unreadable(path, what, why, "remove the nesting", deep))
        node = loader.get_single_node()
        file = File(str(path), node)
        if not isinstance(node, yaml.MappingNode):
            what = "the file says nothing" if node is None else "the file is not a mapping"
            why, fix = "A sheet has keys, and one of them says whose it is", "begin it with `provider: NAME`"
            raise StateError(_unreadable(path, what, why, f"{fix} (docs/catalogue.md)"))
        if problems := list(_odd(node, (), file, set())):
            raise StateError(*problems)
        return file
    except yaml.YAMLError as error:
        raise StateError(_no_yaml(path, error)) from None
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
            loc = file.loc(f"{place}.source")
            what = f"`{file.name(loc)}` names no source: there is no `sources.{claim.source}`"
            why = "A claim that nobody can look up is a guess"
            known = ", ".join(sorted(sheet.sources)) or "none so far"
            fix = f"add it under sources, or write one of: {known}"
            yield file.problem(NO_SOURCE, loc, what, why, fix, claim.source)


def _unheard(sheet: ProviderSheet, file: File, known: Collection[str]) -> Iterator[Problem]:
    """Where `served` and `ways` name what there is no sheet of."""
    served = [("served", position, each.at) for position, each in enumerate(sheet.served)]
    ways = [("ways", position, each.at) for position, each in enumerate(sheet.ways) if each.at]
    for key, position, at in (*served, *ways):
        if at not in known:
            loc: Loc = (key, position, "at")
            near = difflib.get_close_matches(at, sorted(known), 1)
            what = f"`{file.name(loc)}` names no sheet: there is no {at}.yaml"
            why = f"there are {', '.join(sorted(known))}"
            fix = f"did you mean `{near[0]}`?" if near else f"write one of these, or a sheet for {at}"
            yield file.problem(BAD_VALUE, loc, what, why, fix, at)


def _twice(sheet: ProviderSheet, file: File) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for position, model in enumerate(sheet.models):
        for name in (model.name, *model.aliases):
            if name in seen:
                loc: Loc = ("models", position if file.has(("models", position)) else seen[name], "name")
                what, why = (
                    f"`{file.name(loc)}`: {name} is there twice",
                    "Nobody could tell which of the two entries holds",
                )
                yield file.problem(TWICE, loc, what, why, "make one entry of the two", name)
            seen[name] = position


def _name(sheet: ProviderSheet, file: File, path: Path) -> Iterator[Problem]:
    if sheet.provider != path.stem:
        what = f"`provider` is {sheet.provider}, and the file is called {path.name}"
        why = "A file is named after its provider, so that no provider has two"
        yield file.problem(TWICE, ("provider",), what, why, f"rename the file to {sheet.provider}.yaml", sheet.provider)


def _no_yaml(path: Path, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    said = str(getattr(error, "problem", None) or "it breaks off")
    what, why = f"this cannot be read as YAML ({said})", "Nothing after this point can be read"
    return _unreadable(path, what, why, "mend the line", mark.line + 1 if mark else None)


def _unreadable(path: Path, what: str, why: str, fix: str, line: int | None = None) -> Problem:
    return Problem(code=UNREADABLE, what=what, why=why, fix=fix, file=str(path), line=line)
