"""What training rows are like: how many, how long in tokens of their target, and how much of them is learned."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from finetune.data.example import Example
from finetune.data.findings import Findings
from finetune.data.lengths import OpenTokens
from finetune.data.parts import Progress, parts_of
from finetune.data.report import DataReport
from finetune.data.request import DataRequest
from finetune.data.stats import Distribution
from finetune.data.tokens import Tokens, Uncounted
from finetune.data.walk import Walk


@dataclass
class Measured:
    """Tokens of all rows. Where they are estimated, `low` and `high` are the ends of the ranges."""

    open_tokens: OpenTokens
    low: Distribution = field(default_factory=Distribution)
    high: Distribution = field(default_factory=Distribution)
    #: Tokens of all rows that carry loss, at least; and rows of which that, or their length, cannot be told.
    learned: int = 0
    uncounted: int = 0
    #: Rows of more bytes than this are handed to `add`: all.
    longer: int = 0

    @cached_property
    def tokens(self) -> Tokens:
        """What counts."""
        return self.open_tokens()

    def add(self, findings: Findings, rows: Sequence[tuple[int, Example]]) -> None:
        """Count the tokens of rows."""
        del findings
        examples = [example for _, example in rows]
        for count, learned in zip(self.tokens.count(examples), self.tokens.learned(examples), strict=True):
            if isinstance(count, Uncounted) or isinstance(learned, Uncounted):
                self.uncounted += 1
                continue
            self.low.add(count.longest.low)
            self.high.add(count.longest.high)
            self.learned += learned.low

    @property
    def share(self) -> float | None:
        """Learned tokens of all, from 0 to 1; None where they are not counted."""
        counted = "tokens" in self.__dict__ and self.tokens.exact and self.low.total
        return self.learned / self.low.total if counted else None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The outcome."""

    report: DataReport
    measured: Measured


def survey(request: DataRequest, tokens: OpenTokens, progress: Progress) -> Survey:
    """Look at all rows and count. Writes nothing. Never raises for what the rows say; raises StateError."""
    measured = Measured(tokens)
    with parts_of(request, None, progress, 1, None) as parts:
        parts.lengths = measured
        return Survey(report=Walk(request, parts).run(), measured=measured)
