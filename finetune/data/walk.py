"""A walk over all rows of a request: places are found, their blocks looked at, and what they held is put together."""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from finetune.data import privacy, rules, whole
from finetune.data.convert import Writer
from finetune.data.faults import printable
from finetune.data.findings import Findings
from finetune.data.formats import FORMATS, Format, Row, recognise
from finetune.data.mapping import mapped, value_at
from finetune.data.parse import Unread, parse
from finetune.data.parts import Parts
from finetune.data.repeats import pack
from finetune.data.report import DataReport, FileReport
from finetune.data.request import DataRequest
from finetune.data.scan import Look, Scanned
from finetune.data.sketches import available
from finetune.data.sources import Block, Place, blocks, places
from finetune.data.tally import Tally
from finetune.errors import Problem

#: Rows that are looked at to find out the format of a file.
_FIRST: Final = 20
#: Keys that are named of rows that look like no format.
_KEYS: Final = 8
#: In more than this near duplicates are looked for only when asked: it takes longer than all the rest.
_NEAR_BYTES: Final = 64 << 20
#: The format of rows that look like none, and of those written for a target of which nothing is known.
USUAL: Final = {"chat": "openai", "preference": "openai-dpo", "label": "kto"}


@dataclass
class _File:
    """One file as it is read."""

    side: int
    place: Place
    findings: Findings
    format: Format | None = None
    detected: bool = False
    seen: int = 0
    tally: Tally = field(default_factory=Tally)
    left_out: Counter[str] = field(default_factory=Counter)
    writer: Writer | None = None


def written_as(request: DataRequest) -> str:
    """The format in which rows are written for the target of the request."""
    return request.rules.format if request.rules else USUAL[request.kind or "chat"]


def format_of(first: Block, request: DataRequest) -> tuple[Format, bool]:
    """The format of a file by its first block, and whether it was found out from the rows."""
    if request.format != "auto":
        return FORMATS[request.format], False
    for row in _sample(first, request):
        if format := recognise(row):
            return format, True
    return FORMATS[USUAL[request.kind or "chat"]], False


def _sample(first: Block, request: DataRequest) -> Iterator[Row]:
    for raw in first.rows[:_FIRST]:
        try:
            yield mapped(parse(raw), request.field_map.items())
        except Unread:
            continue


class Walk:
    """One look at all rows. Used once."""

    def __init__(self, request: DataRequest, parts: Parts) -> None:
        self._request, self._parts = request, parts
        self._general: list[Problem] = []
        self._files: list[_File] = []
        self._notes: list[str] = []
        self._read = 0
        self._near = False
        self._privacy: str | None = None

    def run(self) -> DataReport:
        """Look at everything. Never raises for what the rows say; raises StateError for this machine's troubles."""
        request, parts = self._request, self._parts
        sources = [(0, request.train)] + ([(1, request.validation)] if request.validation else [])
        found = [(side, place) for side, spec in sources for place in self._places(spec)]
        if same := next((place for side, place in found if side and (0, place) in found), None):
            self._general.append(whole.one_file(same.file))
            found.remove((1, same))
        sizes = [place.size for _, place in found]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        self._near = self._looks_for_near(total)
        self._privacy = self._looks_for_privacy()
        for side, place in found:
            file = _File(side, place, Findings(place.file, request.every))
            self._files.append(file)
            for scanned in self._scans(file):
                self._take(file, scanned)
                parts.progress(self._read, total)
            whole.of_file(file.findings, file.seen, file.left_out)
            for problem in file.writer.problems(place.file, parts.allow) if file.writer else ():
                file.findings.tell(problem)
        self._general.extend(self._together())
        return self._report()

    def _looks_for_near(self, total: int | None) -> bool:
        if self._request.near is False:
            return False
        large = total is None or total > _NEAR_BYTES
        if missing := available():
            self._notes.append(f"near duplicates are not looked for: {missing.what}; {missing.fix}")
        elif self._request.near is None and large:
            self._notes.append("near duplicates are not looked for in this much data; --near does, and takes its time")
        return missing is None and (self._request.near is True or not large)

    def _looks_for_privacy(self) -> str | None:
        level = {"off": None, "warn": "warning", "strict": "error"}[self._request.privacy]
        missing = privacy.available() if level else None
        if missing:
            self._general.append(replace(missing, level="error" if level == "error" else "warning"))
        return None if missing else level

    def _places(self, spec: str) -> list[Place]:
        return places(spec, self._request.folder, fetch=self._request.fetch, found=self._general.append)

    def _scans(self, file: _File) -> Iterator[Scanned]:
        source = blocks(file.place, file.findings.tell)
        first = next(source, None)
        if first is None:
            return
        file.format, file.detected = format_of(first, self._request)
        if wrong := whole.of_kind(file.format, self._request.kind, file.place.file, file.detected):
            file.findings.tell(wrong)
            file.seen = len(first.rows)
            return
        if missing := self._unmapped(file, first):
            file.findings.tell(missing)
        if keys := self._unrecognised(file, first):
            file.findings.tell(whole.of_no_kind(keys, file.place.file, file.format))
        yield from self._parts.pool.scans(chain([first], source), self._look(file.format), file.place.size)

    def _look(self, format: Format) -> Look:
        request, parts = self._request, self._parts
        return Look(
            format=format.name,
            field_map=tuple(request.field_map.items()),
            split=request.split,
            group_by=request.group_by,
            rules=request.rules,
            privacy=self._privacy,
            write=format.name if parts.write == "" else parts.write,
            redact=parts.redact,
            keep=parts.sides.train.wants,
            lossy=parts.lossy,
            longer=parts.lengths.longer if parts.lengths else None,
            near=self._near,
            every=request.every,
        )

    def _unrecognised(self, file: _File, first: Block) -> list[str]:
        """Keys of the first row, if the format was to be found out and no row looked like any."""
        row = next(_sample(first, self._request), None)
        if file.detected or self._request.format != "auto" or row is None:
            return []
        return [printable(key) for key in list(row)[:_KEYS]]

    def _unmapped(self, file: _File, first: Block) -> Problem | None:
        """A name of `dataset.field_map` that none of the first rows has."""
        rows = list(_sample(first, self._request))
        # A list on the way is looked into by `mapped` only; such names are not judged here.
        plain = [ours for ours in self._request.field_map if "." not in ours]
        absent = [ours for ours in plain if rows and all(value_at(row, ours) is None for row in rows)]
        return whole.unmapped(absent[0], self._request.field_map[absent[0]], file.place.file) if absent else None

    def _take(self, file: _File, scanned: Scanned) -> None:
        parts, number = self._parts, len(self._files) - 1
        self._read += scanned.read
        file.findings.merge(scanned.findings)
        file.seen += scanned.seen
        file.tally.merge(scanned.tally)
        file.left_out.update(scanned.left_out)
        if file.writer is None:
            file.writer = scanned.writer
        elif scanned.writer is not None:
            file.writer.merge(scanned.writer)
        for held in (0, 1):
            # Rows of a validation file are all of that side; only a split has rows of both.
            side = max(file.side, held)
            target = parts.sides.validation if side else parts.sides.train
            if target is None or not scanned.lines[held]:
                continue
            base = pack(side, number, 0)
            digests, at = bytes(scanned.digests[held]), [base + line for line in scanned.lines[held]]
            target.add(digests, scanned.written[held], scanned.sizes[held])
            parts.repeats.add(digests, array("Q", at).tobytes())
            if scanned.sketches:
                parts.near.add_sketches(scanned.sketches[held], at)
        if parts.lengths is not None:
            parts.lengths.add(file.findings, scanned.long)

    def _together(self) -> Iterator[Problem]:
        """What is to be said of all rows together."""
        request, parts = self._request, self._parts
        names = [file.place.file for file in self._files]
        yield from whole.repeated(parts.repeats.found(), names)
        if self._near:
            yield from whole.nearly(parts.near.found(), names)
        sides = parts.sides
        held = sides.validation.rows if sides.validation else 0
        if request.split is not None and not any(file.findings.errors for file in self._files) and names:
            yield from whole.empty_side(names[0], request.split, sides.train.rows, held)
        if names:
            yield from whole.one_sided([file.tally for file in self._files if file.side == 0], names[0])
        if request.rules is not None and names and not any(file.findings.errors for file in self._files):
            written = sides.train.written, sides.validation.written if sides.validation else 0
            yield from rules.of_all(request.rules, names[0], (sides.train.rows, held), written)

    def _report(self) -> DataReport:
        problems = (*chain.from_iterable(file.findings.problems() for file in self._files), *self._general)
        tally = Tally()
        for file in self._files:
            tally.merge(file.tally)
        sides = self._parts.sides
        faulty = any(problem.level == "error" for problem in problems)
        return DataReport(
            problems=problems,
            train_rows=sides.train.rows,
            validation_rows=sides.validation.rows if sides.validation else 0,
            digest=None if faulty or not self._files else sides.digest,
            files=tuple(_told(file) for file in self._files),
            tally=tally,
            notes=tuple(self._notes),
            unseen=not self._files and not faulty,
        )


def _told(file: _File) -> FileReport:
    return FileReport(
        name=file.place.file,
        format=file.format.name if file.format else None,
        title=file.format.title if file.format else None,
        detected=file.detected,
        seen=file.seen,
        rows=file.tally.rows,
    )
