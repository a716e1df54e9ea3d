"""A text's MinHash signature: 512 bytes that tell how alike it is to another.

What is compared is the set of a text's shingles: three tokens in a row. A token is a run of characters without white
space; in scripts that put no space between words, each character is one. A text of fewer tokens is one shingle as it
stands. Case, the amount of white space and how a letter is composed are put aside (Unicode's case folding and NFC),
nothing else: digits and punctuation count, since rows that differ in a number teach different things. How often a
shingle comes does not count.

The share of equal slots in two signatures estimates Jaccard's similarity s, shingles in both over shingles in either,
with a standard deviation of at most sqrt(s (1 - s) / 512): 0.011 at 0.93. A slot keeps 8 bits of its hash, so
unequal ones agree by chance once in 256: 0.0004 too much at 0.9.
"""

import hashlib
import importlib.util
import random
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from finetune.errors import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Hashes = NDArray[np.uint64]
    _Bytes = NDArray[np.uint8]

MISSING: Final = "E251"

#: Slots of a signature, of one byte each.
SLOTS: Final = 512
#: Bytes of a text's digest.
DIGEST: Final = 8
#: Only so many characters of a text are looked at; that is more than models read.
LONGEST: Final = 1 << 20

#: Texts and characters hashed at once. Of more texts, rensa starts threads, and threads do not survive a fork.
_TEXTS: Final = 64
_CHARACTERS: Final = 1 << 18

_LETTER, _SPACE, _ALONE = 0, 1, 2
#: Scripts without spaces between words, first and last character.
_UNSPACED: Final = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x1AAF),  # Tai scripts
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana, extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFF9F),  # Katakana, half width
    (0x20000, 0x3FFFF),  # Han, further extensions
)
_SEED: Final = 1


class Sketches(NamedTuple):
    """What is kept of texts to compare them. Picklable, so that other processes can make them."""

    #: DIGEST bytes a text; zeros for each without a token, so that all of those are one text, and like no other.
    digests: bytes
    #: SLOTS bytes a text.
    signatures: bytes


def available() -> Problem | None:
    """The problem when the libraries for near duplicates are not installed, else None. Imports neither."""
    if all(importlib.util.find_spec(name) for name in ("numpy", "rensa")):
        return None
    return Problem(
        code=MISSING,
        what="near duplicates are not looked for",
        why="that needs numpy and rensa, which come with the extra `data`",
        fix="pip install 'ft-orchestrator[data]'",
        level="warning",
    )


def sketches(texts: Sequence[str]) -> Sketches:
    """Hash texts, in this thread alone. Needs what `available` tells of.

    The same for the same texts in every process; a text's sketch does not depend on its neighbours. They are not for
    keeping: another version of rensa or of Python's Unicode tables may hash otherwise.
    """
    made = [_sketched(texts[start:end]) for start, end in _batches(texts)]
    return Sketches(b"".join(each.digests for each in made), b"".join(each.signatures for each in made))


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = held = 0
    for at, text in enumerate(texts):
        length = min(len(text), LONGEST)
        if at > start and (at - start == _TEXTS or held + length > _CHARACTERS):
            yield start, at
            start, held = at, 0
        held += length
    if start < len(texts):
        yield start, len(texts)


def _sketched(texts: Sequence[str]) -> Sketches:
    import numpy as np
    import rensa

    hashes, counts = _shingles([_folded(text) for text in texts])
    ends = np.append(0, np.cumsum(counts)).astype(np.uint64)
    slots = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends, SLOTS, _SEED).to_rows()
    signatures = np.fromiter(chain.from_iterable(slots), np.uint32, len(texts) * SLOTS)
    digests = [_digest(text) if count else bytes(DIGEST) for text, count in zip(texts, counts.tolist(), strict=True)]
    return Sketches(b"".join(digests), signatures.astype(np.uint8).tobytes())


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()


def _folded(text: str) -> str:
    text = text[:LONGEST]
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).casefold()


def _shingles(texts: Sequence[str]) -> "tuple[_Hashes, NDArray[np.int64]]":
    """The hashes of all shingles, text after text, and how many there are of each text."""
    import numpy as np

    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    edges = np.cumsum([0, *map(len, texts)])
    kinds = _kinds()[codes]
    inside = kinds != _SPACE
    starts = inside.copy()
    starts[1:] &= (kinds[:-1] != _LETTER) | (kinds[1:] == _ALONE)
    heads = edges[:-1][np.diff(edges) > 0]
    starts[heads] = inside[heads]
    counts = np.diff(np.searchsorted(np.flatnonzero(starts), edges))
    tokens = _tokens(codes[inside], np.flatnonzero(starts[inside]))
    return _joined(tokens, counts), np.where(counts >= 3, counts - 2, np.minimum(counts, 1))


def _tokens(characters: "NDArray[np.uint32]", starts: "NDArray[np.int64]") -> "_Hashes":
    """A hash of each token: the sum of what its characters are, each at its place in the token."""
    import numpy as np

    if not len(starts):
        return np.empty(0, np.uint64)
    lengths = np.diff(np.append(starts, len(characters)))
    hashes = np.arange(len(characters), dtype=np.uint64)
    hashes -= np.repeat(starts.astype(np.uint64), lengths)
    hashes <<= np.uint64(32)
    hashes |= characters
    return np.add.reduceat(_mixed(hashes), starts)


def _joined(tokens: "_Hashes", counts: "NDArray[np.int64]") -> "_Hashes":
    """The hashes of shingles, from those of their tokens and from the number of tokens in each text."""
    import numpy as np

    first, second, third = map(np.uint64, _odd_numbers()[:3])
    text = np.repeat(np.arange(len(counts)), counts)
    two, three = text[:-1] == text[1:], text[:-2] == text[2:]
    hashes = tokens * first
    hashes[:-1] += tokens[1:] * second * two
    hashes[:-2] += tokens[2:] * third * three
    # A shingle starts where three tokens are left, and at a text's first token in any case.
    chosen = np.zeros(len(tokens), bool)
    chosen[: len(three)] = three
    chosen[(np.cumsum(counts) - counts)[counts > 0]] = True
    return _mixed(hashes[chosen])


def _mixed(values: "_Hashes") -> "_Hashes":
    """Spread each value over all 64 bits, one to one, in place."""
    import numpy as np

    one, other = map(np.uint64, _odd_numbers()[3:])
    values *= one
    values ^= values >> np.uint64(29)
    values *= other
    values ^= values >> np.uint64(32)
    return values


@cache
def _odd_numbers() -> tuple[int, ...]:
    """Any will do, as long as they are always the same."""
    drawn = random.Random("ft")
    return tuple(drawn.getrandbits(64) | 1 for _ in range(5))


@cache
def _kinds() -> "_Bytes":
    """What each character is: of a word, white space, or a token of its own."""
    import numpy as np

    kinds = np.full(0x110000, _LETTER, np.uint8)
    for first, last in _UNSPACED:
        kinds[first : last + 1] = _ALONE
    # White space is all in the first plane.
    kinds[[code for code in range(0x10000) if chr(code).isspace()]] = _SPACE
    return kinds
