"""What a walk over rows works with, opened together and closed together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from finetune.data.example import Example
from finetune.data.findings import Findings
from finetune.data.lengths import Lengths, OpenTokens, limits_of
from finetune.data.near import Near
from finetune.data.pool import Pool
from finetune.data.repeats import Repeats
from finetune.data.request import DataRequest
from finetune.data.sides import Side, Sides

#: Told while rows are read: bytes so far, and in all (None when that is not known).
Progress = Callable[[int, int | None], None]


class Counting(Protocol):
    """Takes rows to count their tokens."""

    @property
    def longer(self) -> int | None:
        """Only rows of more bytes than this as canonical JSON are wanted; None: none."""
        ...

    def add(self, findings: Findings, rows: Sequence[tuple[int, Example]]) -> None:
        """Count these rows, with their lines; what is to be told goes to the findings."""
        ...


@dataclass(kw_only=True)
class Parts:
    """What a walk works with."""

    sides: Sides
    repeats: Repeats
    pool: Pool
    progress: Progress
    #: None: lengths are not looked at.
    lengths: Counting | None
    near: Near
    #: The format to write the rows in, "" for the one that they have; None writes nothing.
    write: str | None = None
    #: Write rows that lose something, with a warning.
    lossy: bool = False
    #: How a user says that something may be lost.
    allow: str = "write a copy that does without: `ft data convert --lossy`"
    #: Put placeholders in the place of personal data.
    redact: bool = False


@contextmanager
def parts_of(
    request: DataRequest, tokens: OpenTokens | None, progress: Progress, processes: int | None, temporary: Path | None
) -> Iterator[Parts]:
    """The parts for one walk. Temporary files go to `temporary`, the system's folder for them when it is None."""
    validated = request.validation is not None or request.split is not None
    with ExitStack() as stack:
        yield Parts(
            sides=Sides(Side(), Side() if validated else None),
            repeats=stack.enter_context(Repeats(folder=temporary)),
            pool=stack.enter_context(Pool(processes)),
            progress=progress,
            lengths=Lengths(tokens, limits_of(request)) if tokens else None,
            near=stack.enter_context(Near(folder=temporary)),
        )
