"""Rows of JSON with something changed somewhere, to see what a rule makes of rows that are nearly sound."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

#: What stands where something else is due, as users write it.
_JUNK: Final = (
    None, True, False, 0, 1, 1.0, 2, -1, "", " ", "user", "text", "function", [], {}, [[]], [None], ["a"], {"a": 1},
    {"type": "text", "text": "a"},
    {"type": "image_url", "image_url": {"url": "https://a.example/a.png"}},
    {"type": "refusal", "refusal": "no"},
    {"role": "assistant", "content": "a"},
    {"role": "tool", "content": "a", "tool_call_id": "call_1"},
    {"role": "function", "content": "a", "name": "f"},
    [{"type": "text", "text": "a"}],
    [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
)  # fmt: skip
#: What stands at keys that were not there.
_ADDED: Final = (None, "text", [1])
_KEYS: Final = (
    "role", "content", "name", "refusal", "weight", "tool_calls", "tool_call_id", "tools", "parallel_tool_calls",
    "messages", "function", "functions", "function_call", "audio", "type", "text", "id", "arguments", "prompt",
    "chosen", "rejected", "label", "input", "score", "parts", "contents", "unknown",
)  # fmt: skip


def mutants(rows: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Rows with up to three things changed."""
    return st.builds(_changed, rows, st.lists(st.randoms(use_true_random=False), max_size=3))


def every_change(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each row that one change leads to: something removed, replaced, added or repeated, anywhere."""
    for number, target in enumerate(_inner(row)):
        places = list(target) if isinstance(target, dict) else list(range(len(target)))
        for place in places:
            yield _at(row, number, lambda inner, place=place: inner.pop(place))
            for junk in _JUNK:
                yield _at(row, number, lambda inner, place=place, junk=junk: inner.__setitem__(place, junk))
        if isinstance(target, dict):
            for key in (each for each in _KEYS if each not in target):
                for junk in _ADDED:
                    yield _at(row, number, lambda inner, key=key, junk=junk: inner.__setitem__(key, junk))
        else:
            for junk in (*_JUNK, *target[:1]):
                yield _at(row, number, lambda inner, junk=junk: inner.append(junk))


def _at(row: dict[str, Any], number: int, change: Any) -> dict[str, Any]:
    out = _copy(row)
    change(list(_inner(out))[number])
    return _copy(out)


def _changed(row: dict[str, Any], changes: list[Random]) -> dict[str, Any]:
    out = _copy(row)
    for random in changes:
        _change(out, random)
    return out


def _change(row: dict[str, Any], random: Random) -> None:
    target = random.choice(list(_inner(row)))
    at = random.choice(list(target) if isinstance(target, dict) else range(len(target))) if target else None
    junk = _copy(random.choice(_JUNK))
    what = random.choice(["replace", "remove", "add", "repeat"])
    if what == "add" or at is None:
        if isinstance(target, dict):
            target[random.choice(_KEYS)] = junk
        else:
            target.append(junk)
    elif what == "remove":
        del target[at]
    elif what == "repeat" and isinstance(target, list):
        target.append(_copy(target[at]))
    else:
        target[at] = junk


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _inner(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _inner(each)
