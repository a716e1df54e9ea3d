"""The table of all fields of a recipe, by dotted name, drawn from the model: for suggestions, schema and starter."""

import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import annotated_types as at
from pydantic.fields import FieldInfo

from finetune.spec.model import Recipe, Section
from finetune.spec.scalars import flow


@dataclass(frozen=True)
class Field:
    """One field: its place, its meaning, and what it takes."""

    #: Dotted: `lora.r`.
    name: str
    info: FieldInfo
    #: The section's class; None for a field that holds a value.
    section: type[Section] | None

    @property
    def key(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    @property
    def parent(self) -> str:
        """The section's name; empty at the top."""
        return self.name.rpartition(".")[0]

    @property
    def default(self) -> Any:
        """The value when it is unset; pydantic's Undefined when it is required."""
        return self.info.get_default(call_default_factory=True)

    @property
    def example(self) -> Any:
        """A value that is valid and shows the form."""
        if self.info.examples:
            return self.info.examples[0]
        if self.section is not None:
            inside = children(self.name)
            needed = [each for each in inside if each.info.is_required()] or inside[:1]
            return {each.key: each.example for each in needed}
        return self.default

    @property
    def free(self) -> bool:
        """True for a mapping whose keys are the user's own."""
        return typing.get_origin(_bare(self.info.annotation)) is dict

    @property
    def description(self) -> str:
        """What it is, with its default."""
        told = f"{self.info.description or ''}"
        if self.section is not None or self.info.is_required() or self.default in (None, (), {}):
            return told
        return f"{told} Default: {flow(self.default)}."

    @property
    def takes(self) -> str:
        """What it takes, to follow "must be"."""
        bare = _bare(self.info.annotation)
        if typing.get_origin(bare) is Literal:
            return " or ".join(flow(each) for each in typing.get_args(bare))
        return _KINDS.get(typing.get_origin(bare) or bare, "a mapping") + _range(self.info.metadata)


_KINDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple: "a list",
}


def _bare(annotation: Any) -> Any:
    """The annotation without None and without its checks."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [each for each in typing.get_args(annotation) if each is not type(None)]
        return _bare(inner[0]) if len(inner) == 1 else annotation
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _range(metadata: list[Any]) -> str:
    says = [
        f" {word} {getattr(each, name):.12g}"
        for kind, name, word in (
            (at.Gt, "gt", "above"),
            (at.Ge, "ge", "from"),
            (at.Lt, "lt", "and below"),
            (at.Le, "le", "to"),
        )
        for each in metadata
        if isinstance(each, kind)
    ]
    return "".join(says).replace(" to ", " and at most ") if "above" in "".join(says) else "".join(says)


def _walk(section: type[Section], prefix: str) -> Iterator[Field]:
    for key, info in section.model_fields.items():
        bare = _bare(info.annotation)
        nested = bare if isinstance(bare, type) and issubclass(bare, Section) else None
        yield Field(prefix + key, info, nested)
        if nested:
            yield from _walk(nested, f"{prefix}{key}.")


@functools.cache
def all_fields() -> Mapping[str, Field]:
    """Every field by its dotted name, in the order of the file; sections come before their fields."""
    return types.MappingProxyType({each.name: each for each in _walk(Recipe, "")})


def children(section: str) -> list[Field]:
    """The fields of a section; of the recipe itself for the empty name."""
    return [each for each in all_fields().values() if each.parent == section]
