"""YAML 1.2 core scalars, both ways: which plain text is a number, and how a value is written in one line.

PyYAML reads YAML 1.1, in which `off` is false, `12:30` is 750 and `2e-4` is text. Here `off` is text and `2e-4`
is a number, as everyone who writes a recipe expects.
"""

import json
import re
from typing import Any, Final

NULL: Final = re.compile(r"(?:|~|null|Null|NULL)\Z")
BOOL: Final = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
INT: Final = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
FLOAT: Final = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
#: More digits than any field takes; Python refuses to print integers of more than some thousands.
MAX_DIGITS: Final = 400

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+ -]*\Z")
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_SHOWN: Final = 60


def whole(text: str) -> int:
    """The value of text that matches INT and has at most MAX_DIGITS digits."""
    return int(text, 8) if text.startswith("0o") else int(text, 16) if text.startswith("0x") else int(text)


def plain(text: str) -> bool | int | float | str | None:
    """What unquoted `text` is in YAML. Numbers that are no finite number, or too long, stay text."""
    if NULL.match(text):
        return None
    if BOOL.match(text):
        return text.lower() == "true"
    if INT.match(text) and len(text) <= MAX_DIGITS:
        return whole(text)
    if FLOAT.match(text):
        number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return number if abs(number) <= 1.7976931348623157e308 else text
    return text


def flow(value: Any) -> str:
    """`value` as YAML in one line; it reads back equal. Only JSON values and tuples."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(each) for each in value) + "]"
    if isinstance(value, str):
        neat = _PLAIN.match(value) and value == value.strip() and not FLOAT.match(value) and plain(value) == value
        return value if neat and not value.startswith("...") else _quoted(value)
    return json.dumps(value)


def _quoted(text: str) -> str:
    # JSON's escapes are YAML's, but for the pairs that JSON writes for characters beyond U+FFFF.
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))


def printable(text: str) -> str:
    """`text` for a message: short, and without what a terminal would act on."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text[:_SHOWN])


def shown(value: Any) -> str:
    """`value` for a message: one line, shortened."""
    try:
        text = flow(value)
    except (TypeError, ValueError, RecursionError):
        text = f"({type(value).__name__})"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
