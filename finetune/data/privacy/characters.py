"""Letters, digits and edges: what counts as the same sign, and where a word ends."""

import re
import string
from collections.abc import Iterable, Iterator

#: Zeros of the decimal digits that people type numbers in: Arabic, Persian, the Indic scripts, Thai, full width.
_ZEROS = (0x660, 0x6F0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xFF10)
_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_DASHES = "\u2010\u2011\u2012\u2013\u2212\ufe63"
_WIDE = string.ascii_letters + "@.-+_/"

_SAME = {
    **{zero + digit: str(digit) for zero in _ZEROS for digit in range(10)},
    **{ord(space): " " for space in _SPACES},
    **{ord(dash): "-" for dash in _DASHES},
    **{ord(sign) + 0xFEE0: sign for sign in _WIDE},
    0xFE6B: "@",
}
_FOREIGN = re.compile(f"[{re.escape(''.join(map(chr, _SAME)))}]+")

#: Letters of the scripts that part words with spaces; in the others (Chinese, Thai) a number stands between letters.
_LAST_SPACED = "\u0590"

#: What may stand beside a number without a second look; the empty string is the edge of the text.
_FREE = frozenset(["", *" \t\n\r,;:!?\"'()[]{}<>=|"])

_LETTER = re.compile(r"[^\W\d_]")
#: Letters of the scripts beyond the Latin one; between them there are signs only.
_FAR = re.compile("[\u0100-\u1fff\u2c00-\U0010ffff]")
_DIGIT = re.compile("[0-9]")


def plain(text: str) -> str:
    """`text` with other digits, wide letters, odd spaces and dashes as ASCII; each sign stays at its place."""
    if text.isascii():
        return text
    return _FOREIGN.sub(lambda found: found.group().translate(_SAME), text)


def in_word(sign: str) -> bool:
    """Whether a word goes on with this character."""
    return sign == "_" or (sign.isalnum() and sign < _LAST_SPACED)


def begins(text: str, at: int) -> bool:
    """Whether a word may begin at `at`: nothing before, no letter or digit, or the end of an escape such as `\\n`."""
    if at == 0 or not in_word(text[at - 1]):
        return True
    return text[at - 1] in "nrtbf" and at > 1 and text[at - 2] == "\\"


def ends(text: str, at: int) -> bool:
    """Whether a word may end before `at`."""
    return at >= len(text) or not in_word(text[at])


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a number is whole: not the tail or head of a UUID, a path, a version or a longer number."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return (before[-1:] in _FREE or (begins(text, start) and not _joins(before[::-1]))) and (
        after[:1] in _FREE or (ends(text, end) and not _joins(after))
    )


def _joins(pair: str) -> bool:
    """Whether the sign next to a number ties it to the one beyond."""
    if len(pair) < 2 or not in_word(pair[1]):
        return False
    return pair[0] in "-/" or (pair[0] == "." and pair[1].isdigit())


def near(text: str, start: int, end: int) -> str:
    """What stands near a span, to look for words in: 40 characters before it and 20 after it."""
    return _spoken(f"{text[max(0, start - 40) : start]}\n{text[end : end + 20]}")


def before(text: str, start: int) -> str:
    """What leads up to a span, to look for words in: 40 characters at most, none of them a digit."""
    lead = text[max(0, start - 40) : start]
    digit = _DIGIT.search(lead[::-1])
    return _spoken(lead[len(lead) - digit.start() :] if digit else lead)


def _spoken(text: str) -> str:
    if not _FAR.search(text):
        # A euro sign or a curly quote would make each of the searches to come several times as slow.
        text = text.encode("latin-1", "replace").decode("latin-1")
    return text.lower().replace("_", " ").replace("-", " ")


def named(near: str, words: Iterable[str]) -> Iterator[int]:
    """Which of `words`, by place, stand in what `near` or `before` returned. One of up to four letters stands alone."""
    if not _LETTER.search(near):
        return
    for place, word in enumerate(words):
        if word in near and (len(word) > 4 or _alone(near, word)):
            yield place


def _alone(near: str, word: str) -> bool:
    at = near.find(word)
    while at >= 0:
        if begins(near, at) and ends(near, at + len(word)):
            return True
        at = near.find(word, at + 1)
    return False
