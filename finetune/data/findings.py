"""Faults gathered, grouped by kind and capped, so that a file with a million faults is told on one screen."""

import re
from dataclasses import dataclass, field
from typing import Final

from finetune.data.faults import Fault
from finetune.errors import Problem

#: Further lines that are named with the first fault of its kind; the rest are counted.
LINES: Final = 20
#: Kinds of faults of one file that are told; the rest are counted.
GROUPS: Final = 100

TOO_MANY: Final = "E220"

_DIGITS: Final = re.compile(r"\d+")


@dataclass
class Group:
    """Faults of one kind in one file: the first in full, the others by their line."""

    fault: Fault
    line: int | None
    column: int | None
    count: int = 1
    #: Lines of the others, at most LINES; a row may have several.
    also: list[int] = field(default_factory=list)


@dataclass
class Findings:
    """The faults of one file. Pickles, and merges with those of a later part of the file."""

    file: str
    #: Tell each fault on its own, however many there are.
    every: bool = False
    #: Errors in all, the hidden ones too.
    errors: int = 0
    #: Problems of the file itself, which no row has.
    told: list[Problem] = field(default_factory=list)
    _groups: dict[tuple[str, ...], Group] = field(default_factory=dict)
    _hidden: int = 0

    def tell(self, problem: Problem) -> None:
        """Keep a problem of the file itself."""
        self.told.append(problem)
        self.errors += problem.level == "error"

    def add(self, fault: Fault, line: int | None, column: int | None = None) -> None:
        """Keep a fault of a row, or count it."""
        self.errors += fault.level == "error"
        key: tuple[str, ...] = (fault.level, fault.code, _DIGITS.sub("#", fault.what))
        if self.every:
            key = (*key, str(len(self._groups)))
        self._put(key, Group(fault, line, column))

    def merge(self, later: "Findings") -> None:
        """Take over what was found behind everything here."""
        self.told.extend(later.told)
        self.errors += later.errors
        self._hidden += later._hidden
        for key, group in later._groups.items():
            self._put((*key[:3], str(len(self._groups))) if self.every else key, group)

    def problems(self) -> tuple[Problem, ...]:
        """Those of the file, then one for each kind of fault by its first line, then what is not shown."""
        shown = sorted(self._groups.values(), key=lambda group: group.line or 0)
        out = [*self.told, *(self._problem(group) for group in shown)]
        if self._hidden:
            out.append(
                Problem(
                    code=TOO_MANY,
                    what=f"{self._hidden} more errors and warnings in this file are not shown",
                    why=f"only {GROUPS} kinds of them are",
                    fix="mend those and check again, or see every one with `ft validate --all`",
                    level="error" if self.errors else "warning",
                    file=self.file,
                )
            )
        return tuple(out)

    def _put(self, key: tuple[str, ...], group: Group) -> None:
        known = self._groups.get(key)
        if known is None:
            if self.every or len(self._groups) < GROUPS:
                self._groups[key] = group
            else:
                self._hidden += group.count
            return
        known.count += group.count
        lines = ([] if group.line is None else [group.line]) + group.also
        room = LINES - len(known.also)
        if room > 0:
            known.also.extend([line for line in lines if line != known.line and line not in known.also][:room])

    def _problem(self, group: Group) -> Problem:
        fault = group.fault
        return Problem(
            code=fault.code,
            what=fault.what,
            why=fault.why,
            fix=fault.fix,
            level="error" if fault.level == "error" else "warning",
            file=self.file,
            line=group.line,
            column=group.column,
            field=fault.field or None,
            value=fault.value,
            count=group.count,
            also=tuple(group.also),
        )
