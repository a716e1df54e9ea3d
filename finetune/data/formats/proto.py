"""Objects as Google's APIs read them from JSON: keys in camelCase or in snake_case, and null for what is not there."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final

from finetune.data.faults import BAD_FIELD, Fault, Object, Shape, inside

_HUMP: Final = re.compile(r"[A-Z]")


@lru_cache(256)
def snake(key: str) -> str:
    """`systemInstruction` as `system_instruction`."""
    return _HUMP.sub(lambda found: "_" + found[0].lower(), key)


def take(value: Mapping[str, Any], key: str) -> Any:
    """What stands at a key in either spelling; None if nothing does."""
    found = value.get(key)
    return value.get(snake(key)) if found is None else found


def spelled(value: Mapping[str, Any], key: str) -> str:
    """The key as this object spells it; in camelCase if it does not have it."""
    other = snake(key)
    return other if key not in value and other in value else key


@dataclass(frozen=True)
class Proto:
    """The shape of such an object. Keys are given in camelCase."""

    keys: Mapping[str, Shape]
    required: Sequence[str] = ()
    example: str = "{...}"
    code: str = BAD_FIELD
    harmless: frozenset[str] = frozenset()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: Any, where: str) -> Iterator[Fault]:
        """Every fault; a field has the name that the row gives it."""
        there = {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value
        yield from self._object(there, where)
        if not isinstance(value, dict):
            return
        for key in self.required:
            if take(value, key) is None:
                place = inside(where, spelled(value, key))
                what = f"`{where}` has no `{key}`" if where else f"the row has no `{key}`"
                yield Fault(self.code, place, what, "", f"write {self.example}")
        for key, other in self._two:
            if value.get(key) is not None and value.get(other) is not None:
                place = inside(where, other)
                yield Fault(self.code, place, f"`{place}` is there in both spellings", "", "remove one of them")

    @cached_property
    def _object(self) -> Object:
        both = {name: shape for key, shape in self.keys.items() for name in (key, snake(key))}
        elsewhere = {name: why for key, why in self.elsewhere.items() for name in (key, snake(key))}
        return Object(both, (), self.example, self.code, self.harmless, elsewhere)

    @cached_property
    def _two(self) -> list[tuple[str, str]]:
        """Keys that have two spellings."""
        return [(key, snake(key)) for key in self.keys if key != snake(key)]
