"""Rows that are longer than what is trained on whole, in tokens of the target or, without its tokenizer, in a range."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from finetune.data.example import Example
from finetune.data.faults import Fault
from finetune.data.findings import Findings
from finetune.data.request import DataRequest
from finetune.data.rules import LIMIT, source
from finetune.data.tokens import Count, Tokens, Uncounted

TOO_LONG: Final = "E246"
UNCOUNTED: Final = "E256"

#: Opens what counts tokens. It may take seconds, so it is called when the first row may be too long.
OpenTokens = Callable[[], Tokens]

_LOOK: Final = "look at the row with `ft data preview`"


class Limit(NamedTuple):
    """A number of tokens that a row should not exceed."""

    tokens: int
    code: str
    #: What a row that exceeds it is, to be put behind "the row is" or "may be".
    what: str
    why: str
    fix: str
    #: Of a row that exceeds it for certain.
    level: str


def limits_of(request: DataRequest) -> tuple[Limit, ...]:
    """The limits on the length of a row that the recipe and the target set."""
    found = []
    if request.max_tokens is not None:
        what = f"longer than training.max_seq_length = {request.max_tokens} tokens"
        why = "Such rows are cut at their end, and answers there are not learned whole"
        found.append(
            Limit(request.max_tokens, TOO_LONG, what, why, "raise training.max_seq_length, or shorten it", "warning")
        )
    rules = request.rules
    if rules is not None and rules.max_row_tokens is not None:
        what = f"longer than the {rules.max_row_tokens} tokens that {rules.target} takes"
        why = source(rules, "max_row_tokens")
        found.append(Limit(rules.max_row_tokens, LIMIT, what, why, "shorten it, or choose another target", "error"))
    return tuple(found)


class Lengths:
    """Counts the tokens of rows that may be too long.

    A row of at most `longer` bytes as canonical JSON cannot be: a token has one byte at least, and the marks that a
    chat template puts around a message are fewer than the bytes of JSON around it.
    """

    def __init__(self, open_tokens: OpenTokens, limits: Sequence[Limit]) -> None:
        self._open, self._limits = open_tokens, limits
        #: None: no row can be too long.
        self.longer = min((limit.tokens for limit in limits), default=None)
        #: Of the rows so far that were counted.
        self.counted: list[Count] = []

    def add(self, findings: Findings, rows: Sequence[tuple[int, Example]]) -> None:
        """Tell the findings which of these rows, with their lines, are too long."""
        if not rows:
            return
        for (line, _), count in zip(rows, self._tokens.count([example for _, example in rows]), strict=True):
            if isinstance(count, Uncounted):
                fault = Fault(UNCOUNTED, "", "the tokens of the row are not counted", count.why, _LOOK, level="warning")
                findings.add(fault, line)
                continue
            self.counted.append(count)
            for limit in self._limits:
                if count.longest.high > limit.tokens:
                    findings.add(self._fault(limit, certain=count.longest.low > limit.tokens), line)

    @cached_property
    def _tokens(self) -> Tokens:
        return self._open()

    def _fault(self, limit: Limit, *, certain: bool) -> Fault:
        how = "is" if certain else "may be"
        counted = f"counted with {self._tokens.name}" if self._tokens.exact else f"estimated: {self._tokens.name}"
        level = limit.level if certain and self._tokens.exact else "warning"
        return Fault(limit.code, "", f"the row {how} {limit.what} ({counted})", limit.why, limit.fix, level=level)
