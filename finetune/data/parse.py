"""From the bytes of a row to a JSON object: fast where all is well, with every fault's place where it is not.

`msgspec` parses. It lets through an object with one key twice, so the keys that it gave are counted against those
that stand in the text; whatever it refuses, and every text in doubt, is read again by the exact and slow way.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import msgspec

from finetune.data.faults import BAD_CONTENT, Fault, inside, printable

NOT_TEXT: Final = "E205"
NOT_JSON: Final = "E207"
NO_OBJECT: Final = "E208"
KEY_TWICE: Final = "E221"

_FIX: Final = "write one object in one line, with double quotes around keys and texts"
#: Ends of texts with a blank before the colon: those that `count(b'":')` does not see.
_SPACED: Final = re.compile(rb'"[ \t\r\n]+:')
_decoder: Final = msgspec.json.Decoder()


class Unread(Exception):
    """The row is no JSON object; the one argument is the Fault, whose `field` may be a column as text."""

    def __init__(self, fault: Fault, column: int | None = None) -> None:
        super().__init__(fault, column)
        self.fault, self.column = fault, column


class _Refused(ValueError):
    """What Python's JSON would take, and we do not; the arguments are a code and a sentence."""


def parse(raw: bytes) -> dict[str, Any]:
    """The object that the row is. Raises Unread."""
    try:
        value = _decoder.decode(raw)
        certain = has_keys(raw, keys_of(value))
    except (ValueError, RecursionError):
        # Every error of msgspec is a ValueError, and so is one of UTF-8.
        return _exact(raw)
    if not isinstance(value, dict):
        raise Unread(Fault(NO_OBJECT, "", "the row is not an object", "A row is `{...}`", _FIX))
    return value if certain else _exact(raw)


def has_keys(raw: bytes, keys: int) -> bool:
    """Whether the text has that many keys and none twice, if `keys` were parsed from it. False: it may or may not.

    Each key has a colon behind it; colons, and quotes before them, may also stand inside texts.
    """
    # One character is counted three times as fast as two.
    if raw.count(b":") == keys:
        return True
    return raw.count(b'":') + (len(_SPACED.findall(raw)) if _SPACED.search(raw) else 0) == keys


def keys_of(value: Any) -> int:
    """How many keys a parsed value has, at all depths."""
    if isinstance(value, dict):
        return len(value) + sum(keys_of(each) for each in value.values() if isinstance(each, dict | list))
    if isinstance(value, list):
        return sum(keys_of(each) for each in value if isinstance(each, dict | list))
    return 0


def _halves(value: Any, where: str = "") -> Iterator[Fault]:
    """Half characters in the texts of a value, keys included; msgspec reads none."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _half(key, inside(where, key))
            yield from _halves(each, inside(where, key))
    elif isinstance(value, list):
        for position, each in enumerate(value):
            yield from _halves(each, f"{where}[{position}]")
    elif isinstance(value, str):
        yield from _half(value, where)


def _half(text: str, where: str) -> Iterator[Fault]:
    try:
        text.encode()
    except UnicodeEncodeError:
        why = "An escape from \\ud800 to \\udfff alone stands for nothing and cannot be written"
        yield Fault(BAD_CONTENT, where, f"`{where}` has half of a character in it", why, "remove the escape")


def _exact(raw: bytes) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode("utf-8")) + 1
        why = f"The byte 0x{raw[error.start]:02x} cannot stand here; the row is in another encoding, or cut"
        fault = Fault(NOT_TEXT, "", "the row is not UTF-8 text", why, "save the file as UTF-8")
        raise Unread(fault, column) from None
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
        broken = next(_halves(value), None)
    except json.JSONDecodeError as error:
        what = f"the row is no JSON ({error.msg[:1].lower()}{error.msg[1:]})"
        raise Unread(Fault(NOT_JSON, "", what, "", _FIX), error.colno if error.lineno == 1 else None) from None
    except _Refused as error:
        code, what = error.args
        why = "JSON's readers do not agree on what that means"
        raise Unread(Fault(code, "", what, why, "remove it")) from None
    except (ValueError, RecursionError):
        what, why = "the row nests too deeply, or has a number without end", "No message needs that"
        raise Unread(Fault(NOT_JSON, "", what, why, _FIX)) from None
    if not isinstance(value, dict):
        raise Unread(Fault(NO_OBJECT, "", "the row is not an object", "A row is `{...}`", _FIX))
    if broken:
        raise Unread(broken)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _Refused(KEY_TWICE, f"the key `{printable(twice)}` is there twice in one object")
    return out


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused(NOT_JSON, f"the number {printable(text)} is too large")
    return number


def _no_number(name: str) -> NoReturn:
    raise _Refused(NOT_JSON, f"{name} is no JSON")
