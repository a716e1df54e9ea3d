"""What is found, and which of two finds wins where they overlap."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """One piece of personal data, or one secret. Holds where it stands, never what it says."""

    #: A key of `KINDS`.
    kind: str
    #: What it is more exactly ("German tax id"). Never a part of the value.
    detail: str
    #: Span in the text, in characters, half open.
    start: int
    end: int


class Hit(NamedTuple):
    """A finding on its way, with what it has to say for itself: of two that overlap the higher rank stays."""

    rank: int
    finding: Finding


# How sure a detector is, in the order in which overlapping hits win.
PRIVATE_KEY = 90
TOKEN = 80
PASSWORD = 70
ASSIGNED = 60
IBAN = 50
EMAIL = 45
PHONE_WITH_PLUS = 40
NUMBER_WITH_WORD = 35
PHONE_WITH_WORD = 30
NUMBER = 20
PHONE_BY_FORM = 10


def chosen(hits: Iterable[Hit]) -> list[Finding]:
    """The findings that do not overlap, in order of the text: higher rank first, then the earlier, then the longer."""
    kept: list[Finding] = []
    group: list[Hit] = []
    end = 0
    for hit in sorted(hits, key=lambda hit: hit.finding.start):
        if group and hit.finding.start >= end:
            kept += _best(group)
            group = []
        group.append(hit)
        end = max(end, hit.finding.end)
    return kept + _best(group)


def _best(group: Sequence[Hit]) -> list[Finding]:
    """Of hits of which each overlaps another, those that stay."""
    if len(group) == 1:
        return [group[0].finding]
    starts: list[int] = []
    kept: list[Finding] = []
    for _, finding in sorted(group, key=lambda hit: (-hit.rank, hit.finding.start, -hit.finding.end)):
        at = bisect_left(starts, finding.end)
        if at == 0 or kept[at - 1].end <= finding.start:
            starts.insert(at, finding.start)
            kept.insert(at, finding)
    return kept
