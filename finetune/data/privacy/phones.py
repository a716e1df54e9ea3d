"""Telephone numbers: with a plus anywhere, else as a region writes them, or beside a word for telephone."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from finetune.data.privacy.characters import before, ends, in_word, named, stands_alone
from finetune.data.privacy.extra import load
from finetune.data.privacy.finding import PHONE_BY_FORM, PHONE_WITH_PLUS, PHONE_WITH_WORD, Finding, Hit

#: Whose way of writing is known where the caller names no regions.
REGIONS = ("US", "GB", "DE", "AT", "CH", "FR", "NL", "BE", "IT", "ES", "PL", "BR", "IN", "AU")

#: E.164 allows 15 digits; shorter ones than seven are not worth a false alarm.
_PLUS = re.compile(r"\+\(?[1-9](?:[ ()./-]{0,3}[0-9]){6,14}")
_DIGITS = re.compile(r"[0-9][0-9 ./()-]{5,}[0-9]")
#: One of the forms below begins somewhere in it.
_HINT = re.compile(r"\(|(?<![0-9.-])0[0-9]|[2-9][0-9]{2}[ .-][2-9][0-9]{2}[ .-][0-9]{4}")
_LONG_GAP = re.compile(r" */ +| {2,}")
_LAST_WORD = re.compile(r"[ /-]+\(?[0-9./()-]+$")
_NO_SEPARATORS = str.maketrans("", "", " ./()-")
_FIRST_WORD = re.compile(r"^[0-9./()-]+ +")

#: Dates, addresses of machines, decimals, US social security numbers: whatever a region might allow.
_OTHER = re.compile(
    r"[0-9]{1,2}([./-])[0-9]{1,2}\1(?:[0-9]{2}|[0-9]{4})|[0-9]{4}([./-])[0-9]{1,2}\2[0-9]{1,2}"
    r"|(?:0?[0-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])(?:\.(?:0?[0-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])){3}"
    r"|[0-9]+\.[0-9]+|[0-9]{3}-[0-9]{2}-[0-9]{4}"
)
#: `00 01 02 03`: bytes.
_DUMP = re.compile("00(?: [0-9]{2})+")
_TRUNK = re.compile(r"\(?0[1-9]")
_NORTH_AMERICAN = re.compile(
    r"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[ .-]|[2-9][0-9]{2}([.-])[2-9][0-9]{2}\1"
    r"|[2-9][0-9]{2} [2-9][0-9]{2}-)[0-9]{4}"
)
_IN_PARENTHESES = re.compile(r"\([0-9]{2,5}\) ?[0-9]")
_WORDS = (
    *("tel", "phone", "telef", "teléf", "mobil", "handy", "cell", "cellul", "celular", "whatsapp", "sms", "fax"),
    *("rufnummer", "anruf", "móvil", "movil", "portable", "call me", "call us", "call him", "call her", "call them"),
    *("call at", "me at", "us at", "ring me", "ring us", "text me", "me on"),
    *("телефон", "тел", "电话", "電話", "手机", "手機", "هاتف", "फ़ोन", "मोबाइल"),
)
#: Have the word in them and are none.
_NO_PHONE = re.compile("(?:i|head|micro|ear|xylo|sou?sa)phone")
#: What makes another number of it: `#0123`, `$415`, `+1`.
_MARKED = tuple("#$€£¥+*<>~^")
#: 555-0100 to 555-0199 are kept free for fiction.
_FICTION = re.compile(r"1[0-9]{3}55501[0-9]{2}")


class _Region(NamedTuple):
    name: str
    country: int
    #: The digits that stand before a number at home and go after the country's code: "0", "1" or none.
    trunk: str
    number: re.Pattern[str]


@cache
def _region(name: str) -> _Region:
    """What the library knows of a region. Raises ValueError where it knows none of that name."""
    facts = load("phonenumbers").PhoneMetadata.metadata_for_region(name.upper(), None)
    if facts is None:
        raise ValueError(f"no region {name!r}: regions are two letters of ISO 3166, such as 'DE'")
    return _Region(
        facts.id,
        facts.country_code,
        facts.national_prefix or "",
        re.compile(facts.general_desc.national_number_pattern),
    )


def check_regions(names: Sequence[str]) -> None:
    """Raises ValueError where one of them is no region."""
    for name in names:
        _region(name)


def with_plus(text: str) -> Iterator[Hit]:
    """The numbers that begin with a plus and the code of a country."""
    at, free = text.find("+"), 0
    while at >= 0:
        found = _PLUS.match(text, at) if at >= free and _may_begin(text, at) else None
        written = _longest(found.group()) if found and ends(text, found.end()) else ""
        if written:
            free = at + len(written)
            start = at - 1 if text[at - 1 : at] == "(" and ")" in written else at
            yield Hit(PHONE_WITH_PLUS, Finding("phone", "telephone number", start, free))
        at = text.find("+", at + 1)


def _may_begin(text: str, at: int) -> bool:
    return at == 0 or not (in_word(text[at - 1]) or text[at - 1] in "+-")


def _longest(written: str) -> str:
    """`written`, or as much of it as is a valid number without its last groups; empty where nothing is."""
    for _ in range(3):
        if _parsed(written, None) is not None:
            return written
        shorter = _LAST_WORD.sub("", written)
        if shorter == written:
            break
        written = shorter
    return ""


def _parsed(written: str, region: str | None) -> Any:
    """The number as the library reads it; None where it is not valid or kept for fiction."""
    library = load("phonenumbers")
    try:
        number = library.parse(written, region)
    except library.NumberParseException:
        return None
    if not library.is_valid_number(number) or _FICTION.fullmatch(f"{number.country_code}{number.national_number}"):
        return None
    return number


def at_home(text: str, start: int, end: int, regions: Sequence[str]) -> Iterator[Hit]:
    """The numbers without a plus in one cluster of `text`, as one of `regions` writes them."""
    for digits in _DIGITS.finditer(text, start, end):
        first, last = digits.span()
        written = digits.group()
        bare = written.isdigit()
        if text[first - 1 : first] in _MARKED or (last - first > 15 if bare else _OTHER.fullmatch(written)):
            continue
        if text[first - 1 : first] == "(" and ")" in written:
            first -= 1
        if (not bare and _HINT.search(text, first, last)) or _is_named(text, first):
            yield from _in_stretch(text, first, last, regions or REGIONS)


def _is_named(text: str, start: int) -> bool:
    near = before(text, start)
    if "phone" in near:
        near = _NO_PHONE.sub("", near)
    return any(True for _ in named(near, _WORDS))


def _in_stretch(text: str, start: int, end: int, regions: Sequence[str]) -> Iterator[Hit]:
    hit = _tried(text, start, end, regions)
    if hit:
        yield hit
        return
    parts = [start, *(at for gap in _LONG_GAP.finditer(text, start, end) for at in gap.span()), end]
    for low, high in zip(parts[::2], parts[1::2], strict=True):
        for first, last in _cuts(text, low, high):
            hit = _tried(text, first, last, regions) if last - first < end - start else None
            if hit:
                yield hit
                break


def _cuts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A part whole, without its first word, and without its last words."""
    yield start, end
    # A longer one would be cut to pieces and tried over and over.
    if end - start > 40:
        return
    first = _FIRST_WORD.match(text[start:end])
    if first and not _alike(text[start:end], 0, 1):
        yield start + first.end(), end
    for _ in range(2):
        part = text[start:end]
        shorter = _LAST_WORD.sub("", part)
        if len(shorter) == len(part) or _alike(part, -1, -2):
            return
        end = start + len(shorter)
        yield start, end


def _alike(written: str, one: int, other: int) -> bool:
    """Whether two groups are as long as one another: a row of numbers, from which nothing is to be cut."""
    groups = re.findall("[0-9]+", written)
    return len(groups) > 1 and len(groups[one]) == len(groups[other])


def _tried(text: str, start: int, end: int, regions: Sequence[str]) -> Hit | None:
    written = text[start:end]
    if len(written) > 32 or not 7 <= _count(written) <= 15 or text[start - 1 : start] in _MARKED:
        return None
    if not stands_alone(text, start, end) or any(_OTHER.fullmatch(word) for word in written.split(" ")):
        return None
    by_name = _is_named(text, start)
    if not by_name and not _looks_like_one(written):
        return None
    if written.startswith("00"):
        valid = _parsed(f"+{written[2:]}", None) is not None
    else:
        valid = any(_dials(written, _region(name), by_name) for name in regions)
    rank = PHONE_WITH_WORD if by_name else PHONE_BY_FORM
    return Hit(rank, Finding("phone", "telephone number", start, end)) if valid else None


def _looks_like_one(written: str) -> bool:
    # Below nine digits there are more dates, sizes and dumps than numbers of small towns.
    if written.isdigit() or _count(written) < 9 or _DUMP.fullmatch(written):
        return False
    forms = (_TRUNK, _NORTH_AMERICAN, _IN_PARENTHESES)
    return written.startswith("00") or any(form.match(written) for form in forms)


def _dials(written: str, region: _Region, by_name: bool) -> bool:
    """Whether it is a number of the region; without a word beside it, also whether it is grouped as there."""
    digits = re.sub("[^0-9]", "", written)
    national = digits.removeprefix(region.trunk) if region.trunk else digits
    if not (region.number.fullmatch(national) or region.number.fullmatch(digits)):
        return False
    number = _parsed(written, region.name)
    if number is None or number.country_code != region.country:
        return False
    if by_name:
        return True
    library = load("phonenumbers")
    usual = library.format_number(number, library.PhoneNumberFormat.NATIONAL)
    return _usual(_groups(written, region), _groups(usual, region))


def _groups(written: str, region: _Region) -> list[str]:
    """The digits between the separators, without a trunk prefix that stands alone."""
    groups = re.findall("[0-9]+", written)
    return groups[1:] if groups[0] == region.trunk else groups


def _usual(groups: Sequence[str], usual: Sequence[str]) -> bool:
    """Whether the area code stands alone and the rest is in one piece, in pairs, or grouped as usual."""
    rest = groups[1:]
    pairs = all(len(group) == 2 for group in rest[1:]) and 2 <= len(rest[0]) <= 3 if rest else False
    return groups[0] == usual[0] and (len(rest) == 1 or pairs or groups == usual)


def _count(written: str) -> int:
    return len(written.translate(_NO_SEPARATORS))
