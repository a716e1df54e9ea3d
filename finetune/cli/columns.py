"""Tables and sentences within the width of a terminal. Where there is none (a pipe, a file) a row stays one line."""

import re
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

_GAP = "  "
_UNDER = "    "
#: A sentence in a narrower column than this is harder to read than one below the row.
_LEAST = 16
#: What is to be typed as it stands: `provider: local`.
_TYPED = re.compile(r"`[^`]{1,40}`")
#: In the place of a space that no line ends at.
_TIED = "\0"

#: Paints a cell by the name of its column; the text is padded already.
Paint = Callable[[str, str], str]


@dataclass(frozen=True)
class Sheet:
    """A table as it goes to one place."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: Columns of the terminal; None: a row is a line, however long.
    width: int | None = None
    #: Columns that go below their row where the width is too small, the first of them first.
    under: Collection[str] = ()
    paint: Paint = lambda name, text: text
    dim: Callable[[str], str] = lambda text: text
    bold: Callable[[str], str] = lambda text: text

    def lines(self) -> list[str]:
        """The head and each row. Nothing of a cell is left out; no line but of one long word is wider than `width`."""
        natural = [max(len(cell) for cell in column) for column in zip(self.head, *self.rows, strict=True)]
        shown, widths = self._fitted(natural)
        found = [self.bold(_joined([self.head[at] for at in shown], widths))]
        below = [at for at in range(len(self.head)) if at not in shown]
        for row in self.rows:
            found += self._row([row[at] for at in shown], shown, widths)
            cells = [f"{self.head[at]} {row[at]}".rstrip() for at in below if row[at]]
            found += [self.dim(line) for line in _packed(cells, self.width)] if self.width else []
        return found

    def _fitted(self, natural: Sequence[int]) -> tuple[list[int], list[int]]:
        """Which columns stand side by side, and how wide each of them is."""
        shown = list(range(len(self.head)))
        leaving = [self.head.index(name) for name in self.under]
        leaving += [at for at in reversed(shown) if at not in leaving and at != 0]
        while True:
            widths = [natural[at] for at in shown]
            if self.width is None or _total(widths) <= self.width:
                return shown, widths
            # What may go below goes before anything is wrapped.
            named = bool(leaving) and self.head[leaving[0]] in self.under
            if not named and (narrow := self._wrapped(shown, widths)) is not None:
                return shown, narrow
            if not leaving:
                return shown, widths
            shown.remove(leaving.pop(0))

    def _wrapped(self, shown: Sequence[int], widths: Sequence[int]) -> list[int] | None:
        """The widths when cells are wrapped between words, the widest first; None: that is not enough."""
        assert self.width is not None
        least = [
            min(wide, max(_LEAST, *(_longest(row[at]) for row in (self.head, *self.rows))))
            for at, wide in zip(shown, widths, strict=True)
        ]
        found = list(widths)
        for _ in range(_total(widths) - self.width):
            spare = [at for at in range(len(found)) if found[at] > least[at]]
            if not spare:
                return None
            found[max(spare, key=found.__getitem__)] -= 1
        return found

    def _row(self, cells: Sequence[str], shown: Sequence[int], widths: Sequence[int]) -> list[str]:
        parts = [wrapped(cell, wide) if self.width else [cell] for cell, wide in zip(cells, widths, strict=True)]
        lines = []
        for number in range(max(len(each) for each in parts)):
            texts = [each[number] if number < len(each) else "" for each in parts]
            padded = [text.ljust(wide) for text, wide in zip(texts, widths, strict=True)]
            painted = [self.paint(self.head[at], text) for at, text in zip(shown, padded, strict=True)]
            lines.append(_GAP.join(painted).rstrip())
        return lines


def wrapped(text: str, width: int | None, hang: str = "") -> list[str]:
    """The text in lines of `width`, all but the first behind `hang`; words, addresses and `what is typed` stay whole.

    One line where there is no width, or it fits.
    """
    if width is None or len(text) <= width:
        return [text]
    indent = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(
        _tied(text.lstrip()),
        max(width, len(hang) + 1),
        initial_indent=indent,
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_TIED, " ") for line in lines]


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell.ljust(wide) for cell, wide in zip(cells, widths, strict=True)).rstrip()


def _packed(cells: Sequence[str], width: int) -> list[str]:
    """As many to a line as fit, each whole where it fits at all."""
    lines: list[str] = []
    for cell in cells:
        if lines and len(lines[-1]) + len(_GAP) + len(cell) <= width:
            lines[-1] += _GAP + cell
        else:
            lines += wrapped(_UNDER + cell, width, _UNDER + _GAP)
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _tied(text: str) -> str:
    return _TYPED.sub(lambda found: found[0].replace(" ", _TIED), text)


def _longest(text: str) -> int:
    return max((len(word) for word in _tied(text).split()), default=0)
