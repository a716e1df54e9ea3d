"""Secrets without a form of their own: what is named a key, a token or a password and looks drawn by lot."""

import math
import re
from collections import Counter
from collections.abc import Iterator

from finetune.data.privacy.finding import ASSIGNED, PASSWORD, TOKEN, Finding, Hit

_QUOTE = r"\\?[\"'`]?"
_BETWEEN = rf"{_QUOTE}\]?\s{{0,3}}(?:=>|:=|==?|:)\s{{0,3}}{_QUOTE}"
#: Searched in what leads up to a value, in lower case.
_NAME = re.compile(
    r"(?:api[-_. ]?key|secret(?:[-_. ]?access)?(?:[-_. ]?(?:key|token))?"
    r"|(?:access|private|encryption|signing|account|auth|master|shared|subscription|service)[-_. ]?key"
    r"|(?:auth|access|bearer|refresh|bot|session|personal|deploy|api|id|webhook|hf|github|gitlab|slack)[-_. ]?token"
    r"|(?<![a-z_-])token|credentials?|passphrase|passw(?:or[dt]|d))"
    rf"{_BETWEEN}(?:(?:bearer|basic|token) )?$"
    r"|(?<![a-z])bearer $|--[a-z-]{0,20}(?:key|token|secret|password) $"
)
_LONGEST_NAME = 56
_HANGING = " \t\n\r\"'`\\"
_VALUE = re.compile(r"[A-Za-z0-9_+/.~-]{16,}={0,2}")
#: `settings.openai.key2`, `my-secret-name`, `path/to/file`: names of things, not things.
_NAMES = re.compile(r"[./~-]*+[A-Za-z]++[0-9]{0,3}+(?:[._/-]++(?:[A-Za-z]++[0-9]{0,3}+|[0-9]{1,4}+))++[._/-]*+")
_ONE_NAME = re.compile("[A-Za-z]+[0-9]{0,4}")
#: Bits a sign. 16 hexadecimal digits drawn by lot have more in 98 of 100 draws, longer values nearly always.
_LEAST_ENTROPY = 2.75

_PLACEHOLDER = re.compile(r"(?i)example|your|x{4}|\*{3}|placeholder|redacted|changeme|dummy|\.\.\.|insert|replace")

_PASSWORD = re.compile(
    rf"(?i:passw(?:or[dt]|d))\w{{0,8}}(?:{_BETWEEN}|[ \t](?:is|ist|lautet):?\s{{1,3}}{_QUOTE})"
    r"([^\s\"'`\\,;<>(){}|\[\]]{8,64})(?=[\s\"'`\\,;<>)}]|$)"
)

#: Types and members (`typing.Any`, `_PasswordType`), times, addresses.
_NO_PASSWORD = re.compile(r"[A-Za-z_][A-Za-z_.]*$|[0-9]{4}-[0-9]{2}-[0-9]{2}T|[a-z+]+://")

_TELEGRAM_ID = re.compile(r"(?<![A-Za-z0-9])[0-9]{8,10}:$")
_TELEGRAM = re.compile(r"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")


def looks_drawn(value: str) -> bool:
    """Whether a value is no placeholder and no name: eight different signs at least, no word such as `example`."""
    some = value[:200]
    return len(set(some)) >= 8 and not _PLACEHOLDER.search(some) and not _NAMES.fullmatch(some)


def telegram(text: str, start: int, end: int) -> Iterator[Hit]:
    """The token of a bot in Telegram whose second half is the run at `start`."""
    if text[start - 1 : start] != ":":
        return
    bot = _TELEGRAM_ID.search(text[max(0, start - 12) : start])
    value = _TELEGRAM.match(text, start, end)
    if bot and value and looks_drawn(value.group()):
        yield Hit(TOKEN, Finding("secret", "Telegram token", start - len(bot.group()), value.end()))


def assigned(text: str, start: int, end: int) -> Iterator[Hit]:
    """The run at `start` where it is the value of something named like a secret."""
    lead = text[max(0, start - _LONGEST_NAME) : start].lower()
    # Cheap: most long runs stand after a word.
    if lead.rstrip(_HANGING)[-1:] not in (":", "=", ">") and not lead.endswith("bearer ") and "--" not in lead:
        return
    if not _NAME.search(lead):
        return
    value = _VALUE.match(text, start)
    if value is None or text[value.end() : value.end() + 1] in ("(", "[", "{", "$"):
        return
    if looks_drawn(value.group()) and _random(value.group()):
        yield Hit(ASSIGNED, Finding("secret", "key or token by its name", start, value.end()))


def _random(value: str) -> bool:
    some = value[:200]
    if not any(map(str.isdigit, some)) or some.isdigit() or _ONE_NAME.fullmatch(some):
        return False
    counts = Counter(some).values()
    return -sum(count / len(some) * math.log2(count / len(some)) for count in counts) >= _LEAST_ENTROPY


def passwords(text: str) -> Iterator[Hit]:
    """What is given as a password and is one: eight signs at least, of three kinds (small, capital, digit, other)."""
    for found in _PASSWORD.finditer(text):
        value = found.group(1).rstrip(".:")
        if len(value) >= 8 and _kinds(value) >= 3 and not (_NO_PASSWORD.match(value) or _PLACEHOLDER.search(value)):
            start = found.start(1)
            yield Hit(PASSWORD, Finding("secret", "password", start, start + len(value)))


def _kinds(value: str) -> int:
    kinds = (str.islower, str.isupper, str.isdigit, lambda sign: not sign.isalnum())
    return sum(any(map(kind, value)) for kind in kinds)
