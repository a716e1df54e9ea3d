"""From examples to the lines of a target's layout, and an account of what does not fit into them.

Nothing is lost silently: a row that would lose something is written only when the user has asked for it, and then
each kind of loss is told with its number of rows and its first line. Together with the readers, this makes N + M
converters of N layouts in and M layouts out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from finetune.data.example import KINDS, PLURALS, Chat, Example, Kind, Label, Preference, Tool, canonical
from finetune.data.findings import LINES
from finetune.data.formats import FORMATS, Format
from finetune.data.tokens import sequences
from finetune.errors import Problem

LOST: Final = "E247"
OTHER_KIND: Final = "E249"

#: Layouts whose rows are the examples' own JSON: all rows, and chats of nothing but texts.
_CANONICAL: Final = frozenset({"openai"})
_CANONICAL_TEXTS: Final = frozenset({"openai", "local"})

_encoder: Final = msgspec.json.Encoder()


def _chosen(example: Preference) -> Chat:
    return sequences(example)[0]


def _good(example: Label) -> Chat | None:
    return sequences(example)[0] if example.label else None


#: What can be made of examples of another kind, when the user means it: from, to, how, and what gets lost.
#: None: the row has nothing to give.
_OTHERS: Final[dict[tuple[Kind, Kind], tuple[Callable[[Any], Example | None], str]]] = {
    ("preference", "chat"): (_chosen, "rejected answers"),
    ("label", "chat"): (_good, "labels, and answers that are labelled bad"),
}


@dataclass
class _Count:
    rows: int = 0
    #: The first ones.
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.rows += 1
        if len(self.lines) <= LINES:
            self.lines.append(line)

    def merge(self, later: "_Count") -> None:
        self.rows += later.rows
        self.lines = [*self.lines, *later.lines][: LINES + 1]


class Writer:
    """Writes examples in one layout. Pickles, and merges with the one of a later part of the rows.

    Raises ValueError for a format that is only read.
    """

    def __init__(self, to: Format, lossy: bool) -> None:
        if to.write is None:
            raise ValueError(f"{to.name} is only read")
        self._to, self._write, self._lossy = to, to.write, lossy
        self._as_it_is = to.name in _CANONICAL
        self._texts_as_they_are = to.name in _CANONICAL_TEXTS
        self._lost: dict[str, _Count] = {}
        self._refused: dict[Kind, _Count] = {}

    def line(self, number: int, example: Example, text: bytes | None = None) -> bytes | None:
        """The row as JSON, UTF-8, compact, without a line end; None if it is not written.

        Equal examples give equal lines. `number` is the row's line, from 1; `text` the example's canonical JSON, where
        the caller has it. Without `lossy` a row that loses something is not written, and neither is ever one that
        cannot be; `problems` tells why.
        """
        kind, made = KINDS[type(example)], None
        if kind != self._to.kind:
            made = self._of_another_kind(number, example, kind)
            if made is None:
                return None
            example = made
        losses = self._to.losses(example)
        for each in losses:
            self._lost.setdefault(each, _Count()).add(number)
        if losses and not self._lossy:
            return None
        if self._as_it_is or (self._texts_as_they_are and _only_texts(example)):
            return text if made is None and text is not None else canonical(example)
        return _encoder.encode(self._write(_settled(example)))

    def problems(self, file: str, allow: str = "add --lossy, if that is meant") -> tuple[Problem, ...]:
        """What was lost, by its first line: warnings if it was meant, else errors. `allow` says how to mean it."""
        found = [*self._losses(file, allow), *self._kinds(file, allow)]
        return tuple(sorted(found, key=lambda each: each.line or 0))

    def merge(self, later: "Writer") -> None:
        """Take over the account of a writer of the same layout, whose rows stand behind those of this one."""
        for loss, count in later._lost.items():
            self._lost.setdefault(loss, _Count()).merge(count)
        for kind, count in later._refused.items():
            self._refused.setdefault(kind, _Count()).merge(count)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._to.name, self._lossy, self._lost, self._refused)

    def _of_another_kind(self, number: int, example: Example, kind: Kind) -> Example | None:
        way = _OTHERS.get((kind, self._to.kind))
        if way is None or not self._lossy:
            self._refused.setdefault(kind, _Count()).add(number)
            return None
        make, loss = way
        self._lost.setdefault(loss, _Count()).add(number)
        return make(example)

    def _losses(self, file: str, allow: str) -> Iterator[Problem]:
        for loss, count in self._lost.items():
            yield Problem(
                code=LOST,
                what=f"{self._to.title} has no place for {loss}",
                why=f"What {'is' if self._lossy else 'would be'} written says less than the row",
                fix="nothing needs to be done, if that is meant" if self._lossy else allow,
                level="warning" if self._lossy else "error",
                file=file,
                line=count.lines[0],
                count=count.rows,
                also=tuple(count.lines[1:]),
            )

    def _kinds(self, file: str, allow: str) -> Iterator[Problem]:
        mine = self._to.kind
        for kind, count in self._refused.items():
            way = _OTHERS.get((kind, mine))
            names = ", ".join(each.name for each in FORMATS.values() if each.write and each.kind == kind)
            fix = f"choose a format of {PLURALS[kind]}: {names}"
            yield Problem(
                code=OTHER_KIND,
                what=f"the rows are {PLURALS[kind]}, and {self._to.title} holds {PLURALS[mine]}",
                why=f"What would be lost: {way[1]}" if way else "One cannot be made of the other",
                fix=f"{fix}; or {allow}" if way else fix,
                file=file,
                line=count.lines[0],
                count=count.rows,
                also=tuple(count.lines[1:]),
            )


def _only_texts(example: Example) -> bool:
    return (
        type(example) is Chat
        and example.tools is None
        and example.parallel_tool_calls is None
        and all(
            type(each.content) is str
            and each.name is None
            and each.refusal is None
            and each.tool_calls is None
            and each.role != "tool"
            for each in example.messages
        )
    )


def _restored(name: str, lossy: bool, lost: dict[str, _Count], refused: dict[Kind, _Count]) -> Writer:
    out = Writer(FORMATS[name], lossy)
    out._lost, out._refused = lost, refused
    return out


def _settled(example: Example) -> Example:
    """The example with the keys of its JSON Schemas sorted, as in the canonical bytes: equal rows, equal lines."""
    if not example.tools:
        return example
    tools = msgspec.to_builtins(example.tools, order="deterministic")
    return msgspec.structs.replace(example, tools=msgspec.convert(tools, list[Tool]))
