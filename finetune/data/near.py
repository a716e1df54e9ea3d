"""Rows whose texts are nearly the same, found with bounded memory and in time linear in the rows.

Signatures (`finetune.data.sketches`) are cut into bands; texts that agree in a band lie in one bucket of it, and only
those are compared, slot by slot. Whoever is near to another is in its group.

Texts are handed over without system messages: rows often share a long one, and would all be alike by it.
"""

import math
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Self

from finetune.data.aside import folder_aside, writing
from finetune.data.repeats import pack
from finetune.data.sketches import DIGEST, SLOTS, Sketches, available, sketches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Ids = NDArray[np.int64]
    _Places = NDArray[np.uint64]

__all__ = ["BYTES_A_ROW", "LEAST_THRESHOLD", "MEMORY_A_ROW", "Near", "NearFound", "Pair", "available"]

_BANDS: Final = 20
#: What a row takes on disk: its place, a digest of its text, its signature, and a hash of each band.
BYTES_A_ROW: Final = 8 + DIGEST + SLOTS + 4 * _BANDS
#: What a row takes in memory at most while `Near.found` works (a test measures it); nothing before that. The file of
#: signatures is mapped, so the system may keep what is touched of it in memory as long as nobody else needs that.
MEMORY_A_ROW: Final = 64
#: Below it, too many pairs that are not near would have to be compared.
LEAST_THRESHOLD: Final = 0.7

#: The chance that a pair that just meets the threshold is compared. One that is 0.03 above it has 0.99 and more.
_CHANCE: Final = 0.95
#: In a bucket, a row is compared with the first and with so many before it: a bucket of any size takes linear time.
#: Rows near to each other that are further apart come together through those between.
_WIDTH: Final = 16
#: So many rows of a group are looked through for the one most like the row that is shown.
_LOOKED_THROUGH: Final = 10_000
#: Signatures worked on at once.
_CHUNK: Final = 4096
#: An odd number without a pattern in its bits.
_FACTOR: Final = 0x9E2D_5C87_B1F3_64A9
_ASIDE: Final = ".ft-near-"
#: The places below it are of training rows.
_VALIDATION: Final = pack(1, 0, 0)


class Pair(NamedTuple):
    """Two rows that are nearly the same, as places."""

    place: int
    #: The first row of the group; of pairs between sides, the training row of the group that is most like it.
    of: int
    #: Estimated, 0 to 1. Between sides it can be below the threshold, where both are near to others of the group only.
    similarity: float


@dataclass(frozen=True, kw_only=True)
class NearFound:
    """What is nearly the same. Rows of one text count as one, which has the lowest of their places."""

    #: Sets of rows that hang together: each is near at least one other of its group.
    groups: int
    #: Rows in groups.
    rows: int
    #: Of the groups that begin first, their first row with the one most like it; in the order of `place`.
    first: tuple[Pair, ...]
    #: Validation rows in groups that have a training row too.
    shared: int
    #: The first of them, in the order of `place`.
    first_shared: tuple[Pair, ...]
    #: How often two signatures were compared to find this: what the search cost.
    compared: int


class Near:
    """Takes the rows' texts block by block, then tells which are nearly the same. A context manager: leaving it
    removes its files.

    `threshold`, from LEAST_THRESHOLD to 1, is the similarity from which on two texts are near. Memory is bounded, but
    for MEMORY_A_ROW in `found`; BYTES_A_ROW go to a folder of its own below `folder` (the system's for temporary files
    when None; mind that some systems keep that in memory). What a killed process left there is removed after a day.

    The outcome depends on the rows and their order alone, not on the size of blocks. For one thread, and for less than
    2^32 rows. Needs what `available` tells of. `add`, `add_sketches` and `found` raise StateError when the folder
    cannot be written (E504 full, E501 else); after that, only `close` is of use.
    """

    def __init__(self, *, threshold: float = 0.9, folder: Path | None = None) -> None:
        if not LEAST_THRESHOLD <= threshold <= 1:
            raise ValueError(f"the threshold is from {LEAST_THRESHOLD} to 1")
        self._threshold = threshold
        self._parent = folder or Path(tempfile.gettempdir())
        self._files: _Files | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop all rows and remove the files. Idempotent, never raises."""
        if self._files is not None:
            self._files.close()
            self._files = None

    def add(self, texts: Sequence[str], places: Sequence[int]) -> None:
        """Take rows: their texts, and as many places (`finetune.data.repeats.pack`), else ValueError."""
        self.add_sketches(sketches(texts), places)

    def add_sketches(self, made: Sketches, places: Sequence[int]) -> None:
        """Take rows whose texts were hashed already, perhaps in another process. Like `add` in all else."""
        import numpy as np

        rows = len(places)
        if len(made.digests) != rows * DIGEST:
            raise ValueError("as many texts as places")
        if not rows:
            return
        known = np.empty((rows, 2), np.uint64)
        known[:, 0] = places
        known[:, 1] = np.frombuffer(made.digests, np.uint64)
        signatures = np.frombuffer(made.signatures, np.uint8).reshape(rows, SLOTS)
        with writing(self._parent):
            if self._files is None:
                self._files = _Files(self._parent)
            self._files.known.write(known.tobytes())
            self._files.signatures.write(made.signatures)
            for start in range(0, rows, _CHUNK):
                hashes = _bands(signatures[start : start + _CHUNK], self._threshold)
                for band, file in enumerate(self._files.bands):
                    file.write(hashes[:, band].tobytes())

    def found(self, *, keep: int = 20) -> NearFound:
        """What is nearly the same among the rows so far, with the first `keep` of each kind. More may be added."""
        if self._files is None:
            return NearFound(groups=0, rows=0, first=(), shared=0, first_shared=(), compared=0)
        with writing(self._parent):
            self._files.flush()
            search = _Search(self._files, self._threshold)
            for band in self._files.bands:
                search.compare(Path(band.name))
            return search.found(keep)


class _Files:
    """A folder with a file of places and digests, one of signatures, and one of hashes for each band."""

    def __init__(self, parent: Path) -> None:
        self._folder = folder_aside(parent, _ASIDE)
        self._stack = ExitStack()
        self.known = self._opened("known")
        self.signatures = self._opened("signatures")
        self.bands = [self._opened(f"band-{band:02}") for band in range(_BANDS)]

    def _opened(self, name: str) -> BinaryIO:
        return self._stack.enter_context((self._folder / name).open("wb"))

    def flush(self) -> None:
        """Let what was written be read. Raises OSError."""
        for file in (self.known, self.signatures, *self.bands):
            file.flush()

    def close(self) -> None:
        """Remove everything. Never raises."""
        with suppress(OSError):
            self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Search:
    """Compares rows, and joins those that are near into groups. Rows are known by their number as they came."""

    def __init__(self, files: _Files, threshold: float) -> None:
        import numpy as np

        self._least = math.ceil(threshold * SLOTS - 1e-9)
        known = np.fromfile(files.known.name, np.uint64).reshape(-1, 2)
        self._signatures: NDArray[np.uint8] = np.memmap(files.signatures.name, np.uint8, "r").reshape(-1, SLOTS)
        self._places: _Places = known[:, 0].copy()
        self._kept = _kept(self._places, known[:, 1])
        self._parents = np.arange(len(known), dtype=np.uint32)
        # With the smaller tree below the greater one, no way to a root is longer than 32 steps.
        self._ranks = bytearray(len(known))
        self._compared = 0

    def compare(self, band: Path) -> None:
        """Compare the rows that lie in one bucket of this band: _WIDTH + 1 comparisons a row at most."""
        import numpy as np

        rows, first = self._buckets(band)
        self._link(rows[first], rows)
        at = np.arange(len(rows))
        for back in range(1, _WIDTH + 1):
            later = np.flatnonzero(at - back > first)
            self._link(rows[later - back], rows[later])

    def _buckets(self, band: Path) -> "tuple[NDArray[np.uint32], _Ids]":
        """The rows that share a bucket, bucket by bucket, and where in them each one's bucket begins."""
        import numpy as np

        # Hash and row in one number: numpy sorts those far faster than it finds the order of hashes.
        both = np.fromfile(band, np.uint32)[self._kept].astype(np.uint64) << np.uint64(32)
        both |= np.flatnonzero(self._kept).view(np.uint64)
        both.sort()
        rows, hashes = both.astype(np.uint32), (both >> np.uint64(32)).astype(np.uint32)
        del both
        same = hashes[1:] == hashes[:-1]
        several = np.append(same, False) | np.append(False, same)
        rows, hashes = rows[several], hashes[several]
        starts = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(rows)])
        return rows, np.repeat(starts, np.diff(np.append(starts, len(rows))))

    def _link(self, some: "NDArray[np.uint32]", others: "NDArray[np.uint32]") -> None:
        """Join each of `some` with its fellow among `others`, where they are near and not of one group yet."""
        for start in range(0, len(some), _CHUNK):
            left, right = some[start : start + _CHUNK], others[start : start + _CHUNK]
            apart = self._roots(left) != self._roots(right)
            left, right = left[apart], right[apart]
            if len(left):
                self._compared += len(left)
                near = self._agreeing(left, right) >= self._least
                for one, other in zip(left[near].tolist(), right[near].tolist(), strict=True):
                    self._join(one, other)

    def _agreeing(self, some: "Sequence[int] | NDArray[Any]", others: "NDArray[Any]") -> "_Ids":
        import numpy as np

        agreeing: _Ids = np.count_nonzero(self._signatures[some] == self._signatures[others], axis=1)
        return agreeing

    def _roots(self, rows: "NDArray[np.uint32]") -> "NDArray[np.uint32]":
        roots = self._parents[rows]
        while ((above := self._parents[roots]) != roots).any():
            roots = above
        return roots

    def _join(self, one: int, other: int) -> None:
        parents, ranks = self._parents.data, self._ranks
        while parents[one] != one:
            one = parents[one]
        while parents[other] != other:
            other = parents[other]
        if one != other:
            low, high = (one, other) if ranks[one] < ranks[other] else (other, one)
            parents[low] = high
            ranks[high] += ranks[low] == ranks[high]

    def found(self, keep: int) -> NearFound:
        """The groups."""
        import numpy as np

        members, starts = self._groups()
        sizes = np.diff(np.append(starts, len(members)))
        places = self._places[members]
        # In a group, training rows come first.
        leaked = np.repeat(places[starts] < _VALIDATION, sizes) & (places >= _VALIDATION)
        groups = starts[np.argsort(places[starts])[:keep]]
        shared = np.flatnonzero(leaked)
        shared = shared[np.argsort(places[shared])[:keep]]
        return NearFound(
            groups=len(starts),
            rows=len(members),
            first=tuple(sorted(self._mate(members, starts, at) for at in groups.tolist())),
            shared=int(np.count_nonzero(leaked)),
            first_shared=tuple(self._trained(members, starts, at) for at in shared.tolist()),
            compared=self._compared,
        )

    def _groups(self) -> "tuple[_Ids, _Ids]":
        """The rows in groups, group by group and in each by place, and where in them each group begins."""
        import numpy as np

        roots = self._roots(np.arange(len(self._parents), dtype=np.uint32))
        sizes = np.bincount(roots[self._kept], minlength=len(roots))
        members = np.flatnonzero(self._kept & (sizes[roots] > 1))
        members = members[np.lexsort((self._places[members], roots[members]))]
        roots = roots[members]
        return members, np.flatnonzero(np.append(True, roots[1:] != roots[:-1])[: len(roots)])

    def _mate(self, members: "_Ids", starts: "_Ids", at: int) -> Pair:
        """A group's first row, which is `at`, with the row of the group that is most like it."""
        mate, similarity = self._closest(members[at], members[at + 1 : _end(members, starts, at)])
        return Pair(mate, int(self._places[members[at]]), similarity)

    def _trained(self, members: "_Ids", starts: "_Ids", at: int) -> Pair:
        """The validation row `at` with the training row of its group that is most like it."""
        start = starts[starts <= at][-1]
        group = members[start : start + _LOOKED_THROUGH]
        of, similarity = self._closest(members[at], group[self._places[group] < _VALIDATION])
        return Pair(int(self._places[members[at]]), of, similarity)

    def _closest(self, row: int, others: "_Ids") -> tuple[int, float]:
        """The place of the one most like `row` among the first _LOOKED_THROUGH others, and how much it is so."""
        agreeing = self._agreeing([row], others[:_LOOKED_THROUGH])
        best = int(agreeing.argmax())
        return int(self._places[others[best]]), int(agreeing[best]) / SLOTS


def _end(members: "_Ids", starts: "_Ids", at: int) -> int:
    following = starts[starts > at]
    return int(following[0]) if len(following) else len(members)


def _kept(places: "_Places", digests: "_Places") -> "NDArray[np.bool_]":
    """Which rows are compared: of each text the one at the lowest place."""
    import numpy as np

    order = np.lexsort((places, digests))
    ordered = digests[order]
    kept = np.zeros(len(places), bool)
    kept[order[np.append(True, ordered[1:] != ordered[:-1])]] = True
    return kept


def _bands(signatures: "NDArray[np.uint8]", threshold: float) -> "NDArray[np.uint32]":
    """A hash of each band of each signature."""
    import numpy as np

    width = _slots_a_band(threshold)
    slots = signatures[:, : _BANDS * width].reshape(len(signatures), _BANDS, width)
    factors = np.array([pow(_FACTOR, power, 1 << 64) for power in range(1, width + 1)], np.uint64)
    hashes = slots.astype(np.uint64) @ factors
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(_FACTOR)
    return (hashes >> np.uint64(32)).astype(np.uint32)


def _slots_a_band(threshold: float) -> int:
    """As many as leave a pair at the threshold _CHANCE to agree in at least one band, which all its slots have to."""
    most = SLOTS // _BANDS
    return max(slots for slots in range(1, most + 1) if 1 - (1 - threshold**slots) ** _BANDS >= _CHANCE)
