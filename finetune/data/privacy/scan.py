"""One text at a time: cheap tests say what may be there, and only that is looked for."""

from collections.abc import Iterator, Sequence

from finetune.data.privacy.assigned import passwords
from finetune.data.privacy.characters import plain
from finetune.data.privacy.emails import emails
from finetune.data.privacy.finding import Finding, Hit, chosen
from finetune.data.privacy.ibans import ibans
from finetune.data.privacy.numbers import clusters, numbers
from finetune.data.privacy.phones import at_home, check_regions, with_plus
from finetune.data.privacy.redaction import PLACEHOLDER
from finetune.data.privacy.tokens import RUN_SIGNS, SHORTEST_RUN, credentials, private_keys, tokens

#: One byte a character: the signs of a number become `0`; those that part its groups are left out.
_NUMBER_SIGNS = bytes(48 if chr(sign) in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" else 32 for sign in range(256))
_SEPARATORS = b" -./()"
_NUMBER = b"0" * 7
#: One byte a character: the signs of a key become `x`.
_KEY_SIGNS = bytes(120 if chr(sign) in RUN_SIGNS else 32 for sign in range(256))
_KEY = b"x" * SHORTEST_RUN

#: How often what a finding leaves over is looked at again. Two rounds do for what people write.
_ROUNDS = 6


def find(text: str, *, regions: Sequence[str] = ()) -> list[Finding]:
    """The personal data and secrets in `text`, in order, none overlapping another.

    `regions` (ISO 3166, two letters) are those whose telephone numbers are known without a plus; with none, those of
    `REGIONS`. Placeholders of `redact` are no findings and part the text: what `redact` leaves over of a text has
    no findings. The time is linear in the length of `text`, whatever it holds.

    Raises DataError (E241) where `available` says so and a number has to be checked, ValueError for an unknown region.
    """
    check_regions(regions)
    signs = plain(text)
    found: list[Finding] = []
    open_parts = list(_between(signs)) if "[" in signs else [(0, len(signs))]
    for last_round in (*[False] * (_ROUNDS - 1), True):
        left: list[tuple[int, int]] = []
        for start, end in open_parts:
            part = signs if end - start == len(signs) else signs[start:end]
            here = chosen(_hits(part, regions))
            if here and last_round:
                # Something made so that each finding uncovers the next is taken as a whole.
                here = [here[0]._replace(start=0, end=len(part))]
            found += (finding._replace(start=finding.start + start, end=finding.end + start) for finding in here)
            left += _gaps(here, start, end)
        if not left:
            break
        open_parts = left
    return sorted(found, key=lambda finding: finding.start)


def _between(text: str) -> Iterator[tuple[int, int]]:
    """What stands between the placeholders of an earlier redaction."""
    start = 0
    for placeholder in PLACEHOLDER.finditer(text):
        yield start, placeholder.start()
        start = placeholder.end()
    yield start, len(text)


def _gaps(found: Sequence[Finding], start: int, end: int) -> Iterator[tuple[int, int]]:
    """What the findings leave over of a part: a new edge may make a number of what was none."""
    if not found:
        return
    at = start
    for finding in found:
        if finding.start + start > at:
            yield at, finding.start + start
        at = finding.end + start
    if at < end:
        yield at, end


def _hits(text: str, regions: Sequence[str]) -> Iterator[Hit]:
    if "@" in text:
        yield from emails(text)
    if "+" in text:
        yield from with_plus(text)
    if "PRIVATE KEY" in text:
        yield from private_keys(text)
    if "://" in text:
        yield from credentials(text)
    if "assw" in text or "ASSW" in text:
        yield from passwords(text)
    signs = text.encode("latin-1", "replace")
    if _NUMBER in signs.translate(_NUMBER_SIGNS, _SEPARATORS):
        for start, end in clusters(text):
            yield from ibans(text, start, end)
            yield from numbers(text, start, end)
            yield from at_home(text, start, end, regions)
    for start, end in _runs(signs.translate(_KEY_SIGNS)):
        yield from tokens(text, start, end)


def _runs(signs: bytes) -> Iterator[tuple[int, int]]:
    """The spans in which 16 signs of a key or more stand together."""
    start = signs.find(_KEY)
    while start >= 0:
        end = signs.find(b" ", start + SHORTEST_RUN)
        if end < 0:
            end = len(signs)
        yield start, end
        start = signs.find(_KEY, end)
