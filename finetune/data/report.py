"""What a look at training data finds: how many rows, and everything that is wrong with them."""

from dataclasses import dataclass, field
from typing import Final

from finetune.errors import Problem

#: Faults shown of one file; the rest are counted.
SHOWN: Final = 20

TOO_MANY: Final = "E220"


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """The outcome of a check. The data can be trained with when `errors` is empty."""

    problems: tuple[Problem, ...]
    train_rows: int
    validation_rows: int
    #: Names the content (`finetune.data.sides`); None when there are errors.
    digest: str | None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are no mere warnings."""
        return tuple(problem for problem in self.problems if problem.level == "error")


@dataclass
class Findings:
    """Gathers the problems of one file; beyond SHOWN errors it only counts."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    errors: int = 0

    def add(self, problem: Problem) -> None:
        """Keep a problem, or count it."""
        if problem.level == "error":
            self.errors += 1
        if problem.level == "warning" or self.errors <= SHOWN:
            self.problems.append(problem)

    def all(self) -> tuple[Problem, ...]:
        """The problems kept, and one that says how many were not."""
        hidden = self.errors - SHOWN
        if hidden <= 0:
            return tuple(self.problems)
        rest = Problem(
            code=TOO_MANY,
            what=f"{hidden} more errors in this file are not shown",
            why=f"Only the first {SHOWN} are",
            fix="mend those and check again; the others are often of the same kind",
            file=self.file,
        )
        return (*self.problems, rest)
