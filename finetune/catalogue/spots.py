"""Where a value stands in a file."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

from finetune.errors import Problem

#: Keys and list positions from the top.
Loc = tuple[str | int, ...]

_STEP: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def dotted(loc: Loc) -> str:
    """The name of a place: `models[2].prices[0].usd`."""
    out = ""
    for step in loc:
        name = f"[{step}]" if isinstance(step, int) else step
        out += f".{name}" if out and isinstance(step, str) else name
    return out


@dataclass(frozen=True)
class File:
    """A file and the nodes that YAML read from it; of one laid over another, those of both."""

    path: str
    node: yaml.Node | None
    #: Of nodes that are of the other file, and have no line in this one: their identities.
    foreign: frozenset[int] = frozenset()
    #: Where items of lists stand in this file, by identity, when that is not where they stand in `node`.
    places: Mapping[int, int] = field(default_factory=dict)
    #: What the identities are of: nodes that lived no longer would leave theirs to others.
    kept: tuple[yaml.Node, ...] = ()

    def line(self, loc: Loc) -> int | None:
        """1-based line of the key or item at `loc`, or of what is nearest above it and of this file."""
        line = 1 if self.node is not None else None
        for mark, _ in self._way(loc):
            if id(mark) not in self.foreign:
                line = mark.start_mark.line + 1
        return line

    def name(self, loc: Loc) -> str:
        """The dotted name of the place `loc`, as somebody finds it who looks into this file."""
        nodes = [node for _, node in self._way(loc)]
        steps = [
            self.places.get(id(nodes[at]), step) if isinstance(step, int) and at < len(nodes) else step
            for at, step in enumerate(loc)
        ]
        return dotted(tuple(steps))

    def has(self, loc: Loc) -> bool:
        """Whether the place `loc` is of this file."""
        way = list(self._way(loc))
        return len(way) == len(loc) and id(way[-1][0]) not in self.foreign

    def _way(self, loc: Loc) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """For each step as far as there are nodes: the one that has the line, and the value."""
        node = self.node
        for step in loc:
            found = None
            if isinstance(node, yaml.MappingNode):
                found = next(((key, inside) for key, inside in node.value if key.value == step), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                found = (node.value[step], node.value[step])
            if found is None:
                return
            yield found
            node = found[1]

    def loc(self, name: str) -> Loc:
        """The place that `dotted` gives this name to."""
        return tuple(int(index) if index else key for index, key in _STEP.findall(name))

    def problem(self, code: str, loc: Loc, what: str, why: str, fix: str, value: str | None = None) -> Problem:
        """A Problem about the place `loc` of this file."""
        name = self.name(loc) or None
        line = self.line(loc)
        return Problem(code=code, what=what, why=why, fix=fix, file=self.path, line=line, field=name, value=value)
