"""Schemas of parameters between JSON Schema and the part of OpenAPI's that Gemini calls `Schema`.

Both are JSON with mostly the same keys; Gemini's has fewer of them, and the names of types in capitals.
"""

from collections.abc import Callable
from typing import Any, Final

#: Schemas are looked through to this depth: no function has such parameters, and a stack has an end.
DEEPEST: Final = 64

TYPES: Final = ("string", "number", "integer", "boolean", "array", "object", "null")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _of(*types: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in types


#: Keys of Gemini's Schema whose values hold no schema, and what these must be (v1beta1 as of 2026-11; `ref` and `defs`
#: are left out, since JSON Schema calls them otherwise).
_PLAIN: Final[dict[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("title", "description", "format", "pattern"), _of(str)),
    **dict.fromkeys(("enum", "required", "propertyOrdering"), _texts),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), _of(int)),
    **dict.fromkeys(("minimum", "maximum"), _of(int, float)),
    **dict.fromkeys(("nullable", "additionalProperties"), _of(bool)),
    **dict.fromkeys(("default", "example"), lambda value: True),
}


def fits(schema: Any, depth: int = 0) -> bool:
    """True if all that a JSON Schema says can be said in Gemini's."""
    if not isinstance(schema, dict) or depth > DEEPEST:
        return False
    for key, value in schema.items():
        if key == "type":
            if not (isinstance(value, str) and value.lower() in TYPES):
                return False
        elif key in _PLAIN:
            if not _PLAIN[key](value):
                return False
        elif not _inner(key, value, depth + 1):
            return False
    return True


def _inner(key: str, value: Any, depth: int) -> bool:
    if key == "items":
        return fits(value, depth)
    if key == "anyOf":
        return isinstance(value, list) and all(fits(each, depth) for each in value)
    return key == "properties" and isinstance(value, dict) and all(fits(each, depth) for each in value.values())


def capital(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that fits, as Gemini writes it."""
    return dict(_mapped(schema, str.upper, 0))


def lower(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of Gemini's as JSON Schema. Leaves alone what it does not know."""
    return dict(_mapped(schema, str.lower, 0))


def _mapped(schema: Any, change: Callable[[str], str], depth: int) -> Any:
    if not isinstance(schema, dict) or depth > DEEPEST:
        return schema
    depth += 1
    out = dict(schema)
    if isinstance(out.get("type"), str) and out["type"].lower() in TYPES:
        out["type"] = change(out["type"])
    if "items" in out:
        out["items"] = _mapped(out["items"], change, depth)
    if isinstance(out.get("anyOf"), list):
        out["anyOf"] = [_mapped(each, change, depth) for each in out["anyOf"]]
    if isinstance(out.get("properties"), dict):
        out["properties"] = {key: _mapped(each, change, depth) for key, each in out["properties"].items()}
    return out
