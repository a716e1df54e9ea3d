"""Statistics of training rows as a person reads them."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from finetune.cli.output import paint

if TYPE_CHECKING:
    from finetune.data.stats import Distribution
    from finetune.data.survey import Survey

_BARS = 12


def lines(found: "Survey", width: int) -> Iterator[str]:
    """A table, then a histogram of `width` columns."""
    from finetune.data.stats import Distribution

    report, tally, measured = found.report, found.report.tally, found.measured
    for file in report.files:
        yield _line("file", file.line)
    yield _line("rows", f"{tally.rows:,}")
    yield _line("messages", ", ".join(f"{count:,} {role}" for role, count in tally.roles.most_common()))
    yield _spread("turns", Distribution(tally.turns))
    yield _spread("characters", Distribution(tally.lengths))
    counted = measured.tokens.name
    if measured.tokens.exact:
        yield _spread("tokens", measured.low)
    else:
        yield _spread("tokens, at least", measured.low)
        yield _spread("tokens, at most", measured.high)
    yield _line("counted by", counted if measured.tokens.exact else f"{counted}: ranges, not counts")
    if measured.share is not None:
        yield _line("learned", f"{measured.share:.0%} of the tokens")
    elif tally.characters:
        yield _line("learned", f"{tally.learned / tally.characters:.0%} of the characters")
    if measured.uncounted:
        yield _line("not counted", f"{measured.uncounted:,} rows that the chat template refuses")
    yield ""
    exact = measured.tokens.exact
    unit = "tokens" if exact else "tokens, at most"
    plain = "utf" not in (sys.stdout.encoding or "").lower() or os.environ.get("TERM") == "dumb"
    yield from measured.high.histogram(width, _BARS, unit=unit, plain=plain)


def _line(name: str, text: str) -> str:
    return f"{paint(name.ljust(16), 'dim')}  {text}"


def _spread(name: str, values: "Distribution") -> str:
    s = values.summary()
    return _line(name, f"{s.total:,} in all; p50 {s.p50:,}, p90 {s.p90:,}, p99 {s.p99:,}, max {s.max:,} a row")
