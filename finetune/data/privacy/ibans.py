"""IBANs: two letters of a country, two check digits, and as many signs as that country has."""

import re
from collections.abc import Iterator
from functools import cache

from finetune.data.privacy.characters import begins, ends
from finetune.data.privacy.extra import load
from finetune.data.privacy.finding import IBAN, Finding, Hit

_HEAD = re.compile("[A-Za-z]{2}[0-9]{2}")
#: In a cluster of digits and capitals; its head is at the start of the cluster where it is written small.
_IN_CLUSTER = re.compile("[A-Z]{2}[0-9]{2}")


@cache
def _shape(country: str) -> re.Pattern[str] | None:
    """The whole number of that country, groups parted by one space or dash; None where there are no IBANs."""
    (_, facts), *_ = load("stdnum.numdb").get("iban").info(country)
    if "bban" not in facts:
        return None
    rest = sum(int(length) for length in re.findall(r"(\d+)!", facts["bban"]))
    return re.compile(f"[A-Za-z]{{2}}[0-9]{{2}}(?:[ -]?[0-9A-Za-z]){{{rest}}}")


def _valid(number: str) -> bool:
    # The check of some countries also looks the bank up, in a list from which real banks are missing.
    return bool(load("stdnum.iban").is_valid(number, check_country=False))


def ibans(text: str, start: int, end: int) -> Iterator[Hit]:
    """The IBANs that begin in one cluster of `text`, or up to two small letters before it."""
    free = 0
    heads = [found.start() for found in _IN_CLUSTER.finditer(text, start, end)]
    if text[start - 1 : start].isalpha() and start >= 2 and _HEAD.match(text, start - 2):
        heads.insert(0, start - 2)
    for head in heads:
        shape = _shape(text[head : head + 2].upper()) if head >= free and begins(text, head) else None
        number = shape.match(text, head) if shape else None
        if number and ends(text, number.end()) and _valid(number.group()):
            free = number.end()
            yield Hit(IBAN, Finding("iban", "IBAN", head, free))
