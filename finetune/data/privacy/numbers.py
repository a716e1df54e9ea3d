"""Finds the numbers of `rules`: words of digits and capitals whose shape is in the table and whose check is right."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import takewhile
from typing import NamedTuple

from finetune.data.privacy.characters import named, near, stands_alone
from finetune.data.privacy.extra import load
from finetune.data.privacy.finding import NUMBER, NUMBER_WITH_WORD, Finding, Hit
from finetune.data.privacy.rules import RULES, Rule

#: Where a number may be: digits, capitals and what parts them. Nothing of interest is shorter than seven.
_CLUSTER = re.compile(r"[0-9A-Z][0-9A-Z ./()-]{5,}[0-9A-Z]")
_SHORTEST = 7
_DATE = re.compile(r"[0-9]{1,2}([./-])[0-9]{1,2}\1(?:[0-9]{2}|[0-9]{4})|[0-9]{4}([./-])[0-9]{1,2}\2[0-9]{1,2}")
#: Over shapes.
_WORD = re.compile(r"[9A](?:[9A./-]*[9A])?")
#: What may hang on a word and is none of it.
_LOOSE = re.compile(r"[()]|[./-]+(?= |$)|(?<= )[./-]+")
#: The last letter is often typed small: `12345678z`.
_LAST_SMALL = re.compile(r"[a-z](?![0-9A-Za-z_])")
_SEPARATORS = re.compile("[ ./-]+")
_SHAPE = str.maketrans(
    {digit: "9" for digit in "0123456789"} | {chr(letter): "A" for letter in range(ord("A"), ord("Z") + 1)}
)
#: The longest shape of the table that has no space in it, with room to spare.
_LONGEST_WORD = 24


class _Word(NamedTuple):
    start: int
    end: int
    shape: str


class _Takers(NamedTuple):
    """Who takes a shape."""

    #: The words of all rules that take it with one of them near, and the rule of each.
    words: tuple[str, ...]
    by_word: tuple[Rule, ...]
    #: The rules that take it as it is.
    alone: tuple[Rule, ...]


class _Shapes(NamedTuple):
    takers: dict[str, _Takers]
    #: What the shapes with spaces begin with, up to each space.
    beginnings: frozenset[str]
    #: The first words of all shapes.
    first: frozenset[str]


@cache
def _shapes() -> _Shapes:
    takers = {}
    for shape in {shape for rule in RULES for shape in (*rule.shapes, *rule.near)}:
        here = [rule for rule in RULES if shape in (*rule.near, *rule.shapes)]
        pairs = [(word, rule) for rule in here for word in rule.words]
        alone = tuple(rule for rule in here if shape in rule.shapes)
        takers[shape] = _Takers(tuple(word for word, _ in pairs), tuple(rule for _, rule in pairs), alone)
    split = [shape.split(" ") for shape in takers]
    beginnings = frozenset(" ".join(words[:count]) for words in split for count in range(1, len(words)))
    return _Shapes(takers, beginnings, frozenset(words[0] for words in split))


def clusters(text: str) -> Iterator[tuple[int, int]]:
    """The spans of `text` in which numbers may be; sentences apart, and without plain dates."""
    for cluster in _CLUSTER.finditer(text):
        start, end = cluster.span()
        while end - start >= _SHORTEST:
            stop = text.find(". ", start, end)
            last = end if stop < 0 else stop
            if last - start >= _SHORTEST and _possible(text, start, last):
                yield start, last
            if stop < 0:
                break
            start = stop + 2


def _possible(text: str, start: int, end: int) -> bool:
    """Cheap: whether it is worth a look. No dates, and no middles of words but where a letter may begin or end it."""
    if _DATE.fullmatch(text, start, end):
        return False
    if text.find(" ", start, end) >= 0 or stands_alone(text, start, end):
        return True
    return text[start].isalpha() or text[start - 1 : start].isalpha() or _LAST_SMALL.match(text, end) is not None


def numbers(text: str, start: int, end: int) -> Iterator[Hit]:
    """The cards and national ids in one cluster of `text`."""
    shapes = _shapes()
    if text[start:end].isdigit() and not _LAST_SMALL.match(text, end):
        word = _Word(start, end, "9" * min(end - start, _LONGEST_WORD + 1))
        hit = _judge(text, [word], 0, 1) if word.shape in shapes.takers else None
        if hit:
            yield hit
        return
    words = _words(text, start, end, shapes.first)
    at = 0
    while at < len(words):
        taken = 1
        for count in _counts(text, words, at, shapes):
            hit = _judge(text, words, at, count)
            if hit:
                yield hit
                taken = count
                break
        at += taken


def _words(text: str, start: int, end: int, first: frozenset[str]) -> list[_Word]:
    """The words of the cluster with their shapes; none where no shape of the table can begin."""
    if _LAST_SMALL.match(text, end):
        end += 1
    shape = text[start:end].upper().translate(_SHAPE)
    if first.isdisjoint(_LOOSE.sub(" ", shape).split(" ")):
        return []
    return [
        _Word(start + word.start(), start + word.end(), word.group())
        for word in _WORD.finditer(shape)
        if word.end() - word.start() <= _LONGEST_WORD
    ]


def _counts(text: str, words: Sequence[_Word], at: int, shapes: _Shapes) -> list[int]:
    """How many words from `at` on have a shape of the table together, the longest first."""
    shape = words[at].shape
    counts = [1] if shape in shapes.takers else []
    for count in range(2, len(words) - at + 1):
        last, word = words[at + count - 2], words[at + count - 1]
        if shape not in shapes.beginnings or text[last.end : word.start] != " ":
            break
        shape = f"{shape} {word.shape}"
        if shape in shapes.takers:
            counts.append(count)
    return counts[::-1]


def _judge(text: str, words: Sequence[_Word], at: int, count: int) -> Hit | None:
    part = words[at : at + count]
    start, end = part[0].start, part[-1].end
    if not stands_alone(text, start, end) or _in_a_row(words, at, count):
        return None
    takers = _shapes().takers[" ".join([word.shape for word in part])]
    by_word = [takers.by_word[place] for place in named(near(text, start, end), takers.words)] if takers.words else []
    if not by_word and not takers.alone:
        return None
    written = text[start:end].upper()
    bare = _SEPARATORS.sub("", written)
    for rank, rules in ((NUMBER_WITH_WORD, by_word), (NUMBER, takers.alone)):
        for rule in rules:
            if _valid(rule, written, bare):
                return Hit(rank, Finding(rule.kind, rule.detail, start, end))
    return None


def _in_a_row(words: Sequence[_Word], at: int, count: int) -> bool:
    """Whether groups of four stand in a longer row of such groups: a table, not a card. One more may be a date."""
    if count < 3 or any(word.shape != "9999" for word in words[at : at + count]):
        return False
    # Two more on each side are enough to know.
    before, after = reversed(words[max(0, at - 2) : at]), words[at + count : at + count + 2]
    more = sum(len(list(takewhile(lambda word: word.shape == "9999", side))) for side in (before, after))
    return more > (1 if count > 3 else 0)


def _valid(rule: Rule, written: str, bare: str) -> bool:
    if rule.also and not re.fullmatch(rule.also, bare):
        return False
    if not rule.check:
        return True
    library = load(f"stdnum.{rule.check}")
    try:
        return bool(library.is_valid(written if rule.as_written else bare))
    except LookupError:
        # cn.ric of python-stdnum 2.2 raises KeyError for provinces without a county in its table.
        return False
