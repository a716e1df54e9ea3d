"""Training and validation rows: which row goes to which side, and the digest that names both.

A row is named by the sha256 of its canonical JSON (`finetune.data.example`), a side by the sha256 of its rows' names
one after the other, both sides by the sha256 of a line of our own and these two. So no two pairs of files can run
into each other. The digest depends on what the rows say, on their order and their side, and on nothing else: neither
on the order of keys, nor on blanks, line ends, layouts, compression, the cut into files, or keys that are left out.
"""

import hashlib
import math
from dataclasses import dataclass, field
from typing import BinaryIO, Final

_DOMAIN: Final = "ft prepared data 2"


def held_back(digest: bytes, split: float) -> bool:
    """True when the row, or the group of rows, with this sha256 is for validation.

    It depends on the row alone: the same row goes to the same side whatever file it stands in, and a file that
    grows moves none of its rows. About `split` of many different rows are held back.
    """
    return int.from_bytes(digest, "big") < math.ldexp(split, 256)


@dataclass
class Side:
    """The rows of one side as they come: counted, digested, and written when there is a file to write to."""

    file: BinaryIO | None = None
    rows: int = 0
    #: Bytes that were, or would be, written; 0 when nobody tried.
    written: int = 0
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, digests: bytes, lines: list[bytes], size: int) -> None:
        """Take rows: 32 bytes of sha256 each, the lines in which they are written, if they are, and their bytes."""
        self.rows += len(digests) // 32
        self.written += size
        self._digest.update(digests)
        if self.file is not None:
            self.file.writelines(lines)

    @property
    def wants(self) -> bool:
        """Whether `add` needs the lines."""
        return self.file is not None

    @property
    def digest(self) -> str:
        """sha256 of the rows' sha256 so far."""
        return self._digest.hexdigest()


@dataclass
class Sides:
    """Both sides."""

    train: Side
    #: None when no validation is asked for.
    validation: Side | None

    @property
    def digest(self) -> str:
        """Names the content of both."""
        of_validation = self.validation.digest if self.validation else "none"
        told = f"{_DOMAIN}\ntrain {self.train.digest}\nvalidation {of_validation}\n"
        return hashlib.sha256(told.encode()).hexdigest()
