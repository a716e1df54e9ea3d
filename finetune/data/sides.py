"""Training and validation rows: which row goes to which side, and the digest that names both.

The digest is sha256 over a line of our own and the sha256 of each side's canonical rows, so no two pairs of
files can run into each other. It depends on the rows, their order and their side, and on nothing else: neither
on the order of keys, nor on blanks, line ends, or keys that are left out.
"""

import hashlib
import math
from dataclasses import dataclass, field
from typing import BinaryIO, Final

_DOMAIN: Final = "ft prepared data 1"


def held_back(digest: bytes, split: float) -> bool:
    """True when the row with this sha256 is for validation.

    It depends on the row alone: the same row goes to the same side whatever file it stands in, and a file that
    grows moves none of its rows. About `split` of many different rows are held back.
    """
    return int.from_bytes(digest, "big") < math.ldexp(split, 256)


@dataclass
class Side:
    """The rows of one side as they come: counted, digested, and written when there is a file to write to."""

    file: BinaryIO | None = None
    rows: int = 0
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, text: bytes) -> None:
        """Take one canonical row."""
        self.rows += 1
        line = text + b"\n"
        self._digest.update(line)
        if self.file is not None:
            self.file.write(line)

    @property
    def digest(self) -> str:
        """sha256 of the rows so far, each with a line feed."""
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
