"""Where a value stands in a file."""

import re
from dataclasses import dataclass
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
    """A file and the nodes that YAML read from it."""

    path: str
    node: yaml.Node | None

    def line(self, loc: Loc) -> int | None:
        """1-based line of the key or item at `loc`, or of what is nearest above it."""
        node, line = self.node, 1 if self.node is not None else None
        for step in loc:
            found = None
            if isinstance(node, yaml.MappingNode):
                found = next(((key, inside) for key, inside in node.value if key.value == step), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                found = (node.value[step], node.value[step])
            if found is None:
                break
            mark, node = found
            line = mark.start_mark.line + 1
        return line

    def loc(self, name: str) -> Loc:
        """The place that `dotted` gives this name to."""
        return tuple(int(index) if index else key for index, key in _STEP.findall(name))

    def problem(self, code: str, loc: Loc, what: str, why: str, fix: str, value: str | None = None) -> Problem:
        """A Problem about the place `loc` of this file."""
        name = dotted(loc) or None
        line = self.line(loc)
        return Problem(code=code, what=what, why=why, fix=fix, file=self.path, line=line, field=name, value=value)
