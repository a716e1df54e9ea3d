"""What is wrong with a row, and the shapes that find it: each format says what its rows look like, once.

A shape looks at parsed JSON and tells every fault with its field. What a shape lets through can be converted.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

UNKNOWN_KEY: Final = "E209"
NO_MESSAGES: Final = "E210"
BAD_ROLE: Final = "E211"
BAD_CONTENT: Final = "E212"
BAD_WEIGHT: Final = "E213"
NOTHING_TO_LEARN: Final = "E214"
BAD_FIELD: Final = "E237"
BAD_TOOLS: Final = "E238"


class Fault(NamedTuple):
    """What is wrong with one field of a row, or, as a warning, what is odd about it."""

    code: str
    field: str
    what: str
    why: str
    fix: str
    #: As the user wrote it; None for texts, which are the user's data and not for logs.
    value: str | None = None
    level: str = "error"


#: Looks at a value that stands in the field of this name.
Shape = Callable[[Any, str], Iterator[Fault]]


def printable(key: str) -> str:
    """A key of the user's for a message: short, and without what a terminal would act on."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in key[:60])


def short(value: Any) -> str:
    """A scalar for a message: as JSON, short, and without what a terminal would act on."""
    return printable(json.dumps(value)[:60])


def inside(where: str, key: str) -> str:
    """The name of a field in a field; a row itself has the name ''."""
    return f"{where}.{printable(key)}" if where else printable(key)


@dataclass(frozen=True)
class Object:
    """A JSON object with these keys and no others."""

    #: Key to shape.
    keys: Mapping[str, Shape]
    required: Sequence[str] = ()
    #: What a good one looks like.
    example: str = "{...}"
    #: The code of a missing key, or of something that is no object.
    code: str = BAD_FIELD
    #: Keys that are let through and left out.
    harmless: frozenset[str] = frozenset()
    #: What to say of a key that is known elsewhere.
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: Any, where: str) -> Iterator[Fault]:
        """Every fault."""
        if not isinstance(value, dict):
            yield Fault(self.code, where, f"`{where}` is not an object", "", f"write {self.example}")
            return
        for key, inner in value.items():
            shape = self.keys.get(key)
            if shape is not None:
                yield from shape(inner, inside(where, key))
            elif key not in self.harmless:
                yield self._unknown(key, inside(where, key))
        for key in self.required:
            if key not in value:
                place = inside(where, key)
                what = f"`{where}` has no `{key}`" if where else f"the row has no `{key}`"
                yield Fault(self.code, place, what, "", f"write {self.example}")

    def _unknown(self, key: str, where: str) -> Fault:
        why = self.elsewhere.get(key, "ft would have to drop it, and never does so silently")
        return Fault(UNKNOWN_KEY, where, f"unknown key `{where}`", why, "remove the key from the rows")


@dataclass(frozen=True)
class ListOf:
    """A JSON list of one shape."""

    shape: Shape
    least: int = 0
    example: str = "[...]"
    code: str = BAD_FIELD
    nullable: bool = False

    def __call__(self, value: Any, where: str) -> Iterator[Fault]:
        """Every fault."""
        if value is None and self.nullable:
            return
        if not isinstance(value, list):
            yield Fault(self.code, where, f"`{where}` is not a list", "", f"write {self.example}")
        elif len(value) < self.least:
            yield Fault(self.code, where, f"`{where}` is empty", "", f"write {self.example}")
        else:
            for position, inner in enumerate(value):
                yield from self.shape(inner, f"{where}[{position}]")


@dataclass(frozen=True)
class Words:
    """A text; `filled` also refuses one of blanks only."""

    filled: bool = False
    code: str = BAD_FIELD
    nullable: bool = False

    def __call__(self, value: Any, where: str) -> Iterator[Fault]:
        """The fault, if any."""
        if value is None and self.nullable:
            return
        if not isinstance(value, str):
            fix = f'write text in double quotes: "{where.rpartition(".")[2]}": "..."'
            yield Fault(self.code, where, f"`{where}` is not text", "", fix)
        elif self.filled and not value.strip():
            yield Fault(self.code, where, f"`{where}` is empty", "The model would learn to say nothing", "fill it")


@dataclass(frozen=True)
class OneOf:
    """One of these values. `elsewhere` maps what others write to what is meant."""

    choices: Sequence[Any]
    code: str = BAD_FIELD
    why: str = ""
    nullable: bool = False
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: Any, where: str) -> Iterator[Fault]:
        """The fault, if any."""
        if value is None and self.nullable:
            return
        # 1.0 and true are equal to 1 in Python, and not what a reader of JSON calls 1.
        if any(type(value) is type(each) and value == each for each in self.choices):
            return
        named = ", ".join(json.dumps(each) if not isinstance(each, str) else each for each in self.choices)
        meant = self.elsewhere.get(value.lower(), value.lower()) if isinstance(value, str) else None
        fix = json.dumps(meant if meant in self.choices else self.choices[0])
        key = where.rpartition(".")[2]
        yield Fault(
            self.code, where, f"`{where}` must be one of {named}", self.why, f'write "{key}": {fix}', short(value)
        )


@dataclass(frozen=True)
class TypeOf:
    """A value of this Python type (bool, int, dict, ...)."""

    type: type
    named: str
    code: str = BAD_FIELD
    nullable: bool = False

    def __call__(self, value: Any, where: str) -> Iterator[Fault]:
        """The fault, if any."""
        if not ((value is None and self.nullable) or type(value) is self.type):
            yield Fault(self.code, where, f"`{where}` is not {self.named}", "", f"write {self.named}")


def anything(value: Any, where: str) -> Iterator[Fault]:
    """The shape of what is handed on as it is."""
    del value, where
    yield from ()
