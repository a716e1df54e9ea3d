"""What a look at training data finds: how many rows, what they are like, and everything that is wrong with them."""

from dataclasses import dataclass, field

from finetune.data.tally import Tally
from finetune.errors import Problem


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """One file, or one remote object."""

    #: As messages name it.
    name: str
    #: Name of the format that its rows were read in, and as people call it; None when there were none.
    format: str | None
    title: str | None
    #: True when the format was found out from the rows.
    detected: bool
    #: Rows in all, and those without a fault.
    seen: int
    rows: int

    @property
    def line(self) -> str:
        """For people: how many rows, and how they were read."""
        if self.format is None:
            return f"{self.name}: no rows"
        how = "found out from the rows" if self.detected else "as it was named"
        return f"{self.name}: {self.rows:,} rows, read as {self.title} ({how})"


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """The outcome of a check. The data can be trained with when `errors` is empty."""

    problems: tuple[Problem, ...]
    train_rows: int
    validation_rows: int
    #: Names the content (`finetune.data.sides`); None when there are errors, or rows that were not looked at.
    digest: str | None
    files: tuple[FileReport, ...] = ()
    #: Counts of all sound rows, of both sides.
    tally: Tally = field(default_factory=Tally)
    #: What was not looked at, and why, as lines for people.
    notes: tuple[str, ...] = ()
    #: True when a place was not looked at, because it is elsewhere.
    unseen: bool = False

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are no mere warnings."""
        return tuple(problem for problem in self.problems if problem.level == "error")
