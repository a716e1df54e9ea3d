"""YAML text into values, with the line and column of every key and value.

Only what JSON can say comes out: mappings with text as keys, lists, text, finite numbers, booleans, null.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from finetune.errors import Problem, RecipeError
from finetune.spec import scalars, syntax

#: Where a value stands in a document: keys and list positions from the top.
Steps = tuple[str | int, ...]

MAX_BYTES: Final = 1_000_000
MAX_NODES: Final = 10_000
MAX_DEPTH: Final = 32

_TAG: Final = "tag:yaml.org,2002:"


class _Broken:
    """Stands for a value that has been complained about, so that nobody complains again."""


BROKEN: Final = _Broken()


@dataclass(frozen=True)
class Spot:
    """A place in a file, 1-based. `--set` has no lines."""

    file: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True)
class Mark:
    """Where a key is, and where its value is; for a list's items and a block the two are the same."""

    key: Spot
    value: Spot


@dataclass
class Document:
    """What a text says, and where; with what is wrong with it so far."""

    value: Any = None
    marks: dict[Steps, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def dotted(steps: Steps) -> str:
    """The name of a place: `register.gateways[0]`."""
    out = ""
    for step in steps:
        name = f"[{step}]" if isinstance(step, int) else scalars.printable(step)
        out += f".{name}" if out and isinstance(step, str) else name
    return out


class _TooMuch(Exception):
    """The text nests deeper or holds more than any recipe."""


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2 core and a limit to what it builds."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own attribute, and typed as the instance's)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _TooMuch
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _name, _pattern in (
    ("null", scalars.NULL),
    ("bool", scalars.BOOL),
    ("int", scalars.INT),
    ("float", scalars.FLOAT),
):
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)


def load(text: str, file: str) -> Document:
    """Read one YAML document. Faults in single values are in `problems`.

    Raises RecipeError when the text is no YAML, more than one document, or too much. An empty text gives None.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(syntax.too_much(file))
    try:
        return _document(_Loader(text), file)
    except yaml.YAMLError as error:
        raise RecipeError(syntax.unreadable(error, text, file)) from None
    except (_TooMuch, RecursionError):
        raise RecipeError(syntax.too_much(file)) from None
    except (ValueError, OverflowError):
        # PyYAML hands an escape such as "\UFFFFFFFF" to chr() unchecked.
        raise RecipeError(syntax.no_such_character(file)) from None


def _document(loader: _Loader, file: str) -> Document:
    node = loader.get_node() if loader.check_node() else None
    if loader.check_node():
        event: yaml.Event = loader.peek_event()  # type: ignore[no-untyped-call]
        raise RecipeError(syntax.second_document(file, event.start_mark))
    document = Document()
    if node is not None:
        document.value = _Reading(document, file).read(node, ())
    return document


class _Reading:
    """One walk over the nodes of a document. Anchors share nodes, so the walk counts again what it visits."""

    def __init__(self, document: Document, file: str) -> None:
        self.document = document
        self.file = file
        self.visited = 0

    def read(self, node: yaml.Node, steps: Steps) -> Any:
        self.visited += 1
        if self.visited > MAX_NODES or len(steps) > MAX_DEPTH:
            raise _TooMuch
        if steps not in self.document.marks:
            here = self.spot(node)
            self.document.marks[steps] = Mark(here, here)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, steps)
        if isinstance(node, yaml.SequenceNode):
            return self.sequence(node, steps)
        return self.scalar(node, steps)

    def mapping(self, node: yaml.MappingNode, steps: Steps) -> Any:
        if node.tag != _TAG + "map":
            return self.broken(node, steps, syntax.TAG, scalars.printable(node.tag))
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, steps)
            if key is None:
                continue
            path = (*steps, key)
            if key in out:
                first = self.document.marks[path].key
                self.broken(
                    key_node, path, syntax.DUPLICATE, scalars.printable(key), f"It is also in line {first.line}"
                )
                continue
            key_spot = self.spot(key_node)
            block = isinstance(value_node, yaml.CollectionNode) and not value_node.flow_style
            self.document.marks[path] = Mark(key_spot, key_spot if block else self.spot(value_node))
            out[key] = self.read(value_node, path)
        return out

    def key(self, node: yaml.Node, steps: Steps) -> str | None:
        """The key's text; None, with a problem noted, when it is no text."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
            shown = node.value if isinstance(node, yaml.ScalarNode) else "(a list or mapping)"
            self.broken(node, steps, syntax.KEY, scalars.shown(shown))
            return None
        if node.value == "<<" and node.style is None:
            self.broken(node, steps, syntax.MERGE, "<<")
            return None
        return None if self.text(node, steps) is BROKEN else str(node.value)

    def sequence(self, node: yaml.SequenceNode, steps: Steps) -> Any:
        if node.tag != _TAG + "seq":
            return self.broken(node, steps, syntax.TAG, scalars.printable(node.tag))
        return [self.read(each, (*steps, position)) for position, each in enumerate(node.value)]

    def scalar(self, node: yaml.Node, steps: Steps) -> Any:
        kind = node.tag.removeprefix(_TAG)
        pattern = {"null": scalars.NULL, "bool": scalars.BOOL, "int": scalars.INT, "float": scalars.FLOAT}.get(kind)
        if kind == "str":
            return self.text(node, steps)
        if pattern is None or not pattern.match(node.value):
            return self.broken(node, steps, syntax.TAG, scalars.printable(node.tag))
        if kind == "int" and len(node.value) > scalars.MAX_DIGITS:
            return self.broken(node, steps, syntax.TOO_LONG, scalars.shown(node.value))
        value = scalars.plain(node.value)
        if kind == "float" and isinstance(value, str):
            return self.broken(node, steps, syntax.NOT_FINITE, node.value)
        return float(value) if kind == "float" and isinstance(value, int) else value

    def text(self, node: yaml.Node, steps: Steps) -> Any:
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            return self.broken(node, steps, syntax.SURROGATE, "")
        return node.value

    def broken(self, node: yaml.Node, steps: Steps, fault: syntax.Fault, value: str, why: str = "") -> _Broken:
        problem = Problem(
            code=fault.code,
            what=fault.what.format(value),
            why=why or fault.why,
            fix=fault.fix,
            file=self.file,
            line=node.start_mark.line + 1,
            column=node.start_mark.column + 1,
            field=dotted(steps) or None,
            value=value or None,
        )
        self.document.problems.append(problem)
        return BROKEN

    def spot(self, node: yaml.Node) -> Spot:
        return Spot(self.file, node.start_mark.line + 1, node.start_mark.column + 1)
