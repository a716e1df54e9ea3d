"""A sheet of one's own laid over the one that ships: what it says wins, and the rest stays.

It is done on YAML's nodes, before anything is checked, so that every fault is told at the line where it was written.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import yaml

from finetune.catalogue.spots import File
from finetune.errors import Problem

_Node = TypeVar("_Node", yaml.MappingNode, yaml.SequenceNode)

TWICE: Final = "E394"

#: A mapping with one of these says one thing, and is replaced whole: another's note beside one's own value would lie.
_WHOLE: Final = frozenset({"value", "source", "usd", "url"})
#: What of an item of a list is said about its subject, and does not name it.
_SAID: Final = frozenset({"usd", "source", "note"})
#: Lists whose items add to those that ship; in `served` and the others the value is the subject.
_ADDING: Final = frozenset({"prices", "ways", "served", "stands_in", "regions", "aliases"})
#: Deeper than any item of a list goes; an anchor can go on for ever.
_DEEPEST: Final = 4


def merged(own: File, shipped: File) -> File:
    """`own` over `shipped`, both mappings: mapping by mapping, models by name, lists with one's own items first.

    The result names own's path and lines only: a sheet that ships is without fault, so whatever is wrong is own's.
    """
    assert isinstance(own.node, yaml.MappingNode)
    assert isinstance(shipped.node, yaml.MappingNode)
    layer = _Layer()
    node = layer.mapping(own.node, shipped.node)
    return File(own.path, node, frozenset(_ids(shipped.node)), layer.places, (own.node, shipped.node))


def collisions(own: File, shipped: File) -> Iterator[Problem]:
    """Keys of `sources` that name another document than in the sheet that ships, whose claims would change theirs."""
    theirs = _urls(shipped.node)
    for key, url in _urls(own.node).items():
        if key in theirs and theirs[key] != url:
            yield own.problem(
                TWICE,
                ("sources", key, "url"),
                f"`sources.{key}` is another document in the sheet that ships",
                f"What it claims from {theirs[key]} would be taken for yours",
                "give your document a key of its own",
                url,
            )


class _Layer:
    """One merge."""

    def __init__(self) -> None:
        #: Where an item of a list stands in one's own file, by the node's identity.
        self.places: dict[int, int] = {}

    def mapping(self, own: yaml.MappingNode, shipped: yaml.MappingNode) -> yaml.MappingNode:
        mine = {key.value: (key, inside) for key, inside in own.value}
        pairs = []
        for key, theirs in shipped.value:
            if key.value in mine:
                own_key, inside = mine.pop(key.value)
                pairs.append((own_key, self._both(key.value, inside, theirs)))
            else:
                pairs.append((key, theirs))
        return _like(own, [*pairs, *mine.values()])

    def _both(self, name: str, own: yaml.Node, shipped: yaml.Node) -> yaml.Node:
        if isinstance(own, yaml.MappingNode) and isinstance(shipped, yaml.MappingNode):
            whole = name != "sources" and (_WHOLE & (_keys(own) | _keys(shipped)))
            return own if whole else self.mapping(own, shipped)
        if isinstance(own, yaml.SequenceNode) and isinstance(shipped, yaml.SequenceNode):
            if name == "models":
                return self._models(own, shipped)
            if name in _ADDING:
                return self._added(own, shipped)
        return own

    def _models(self, own: yaml.SequenceNode, shipped: yaml.SequenceNode) -> yaml.Node:
        """Shipped ones in their places, changed where own ones have a name of theirs; new ones after them."""
        items = list(shipped.value)
        new, taken = [], set[int]()
        for position, each in enumerate(own.value):
            there = next((place for place, one in enumerate(shipped.value) if _name(each) in _names(one)), None)
            if there is None or there in taken:
                # The second of one name stays an entry of its own, and is told as there twice.
                new.append(each)
                self.places[id(each)] = position
                continue
            taken.add(there)
            items[there] = self._model(each, shipped.value[there])
            self.places[id(items[there])] = position
        return _like(own, [*items, *new])

    def _model(self, own: yaml.MappingNode, shipped: yaml.MappingNode) -> yaml.MappingNode:
        if _name(own) == _name(shipped):
            return self.mapping(own, shipped)
        # Named by an alias: the entry keeps its name.
        return self.mapping(_like(own, [pair for pair in own.value if pair[0].value != "name"]), shipped)

    def _added(self, own: yaml.SequenceNode, shipped: yaml.SequenceNode) -> yaml.Node:
        for position, each in enumerate(own.value):
            self.places[id(each)] = position
        said = {_subject(each) for each in own.value}
        return _like(own, [*own.value, *(each for each in shipped.value if _subject(each) not in said)])


def _like(own: _Node, value: list[Any]) -> _Node:
    """A node of own's kind and place with these children."""
    return type(own)(own.tag, value, own.start_mark, own.end_mark)


def _keys(node: yaml.MappingNode) -> set[str]:
    return {key.value for key, _ in node.value}


def _get(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((inside for key, inside in pairs if key.value == name), None)


def _name(node: yaml.Node) -> str | None:
    name = _get(node, "name")
    return name.value if isinstance(name, yaml.ScalarNode) else None


def _names(node: yaml.Node) -> set[str]:
    aliases = _get(node, "aliases")
    more = aliases.value if isinstance(aliases, yaml.SequenceNode) else []
    return {name for name in (_name(node), *(each.value for each in more)) if isinstance(name, str)}


def _subject(node: yaml.Node, depth: int = 0) -> Any:
    """What an item is about, to compare: a price without its amount, a text itself."""
    if depth > _DEEPEST:
        return id(node)
    if isinstance(node, yaml.MappingNode):
        said = ((key.value, inside) for key, inside in node.value if key.value not in _SAID)
        return tuple(sorted((name, _subject(inside, depth + 1)) for name, inside in said))
    if isinstance(node, yaml.SequenceNode):
        return tuple(_subject(each, depth + 1) for each in node.value)
    return node.value


def _urls(node: yaml.Node | None) -> dict[str, str]:
    sources = _get(node, "sources")
    pairs = sources.value if isinstance(sources, yaml.MappingNode) else []
    urls = ((key.value, _get(inside, "url")) for key, inside in pairs)
    return {key: url.value for key, url in urls if isinstance(url, yaml.ScalarNode)}


def _ids(node: yaml.Node) -> Iterator[int]:
    yield id(node)
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _ids(each)
    if isinstance(node, yaml.MappingNode):
        for key, inside in node.value:
            yield id(key)
            yield from _ids(inside)
