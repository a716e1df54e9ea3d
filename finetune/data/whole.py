"""What is to be said of a file, or of all rows together, once they have been read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from finetune.data.example import PLURALS, Kind
from finetune.data.findings import Findings
from finetune.data.formats import Format
from finetune.data.near import NearFound, Pair
from finetune.data.repeats import Found, Repeat, unpack
from finetune.data.tally import Tally
from finetune.errors import Problem

NO_ROWS: Final = "E204"
REPEATED: Final = "E215"
EMPTY_SIDE: Final = "E216"
ON_BOTH_SIDES: Final = "E217"
LEFT_OUT: Final = "E219"
ONE_SIDED: Final = "E245"
WRONG_KIND: Final = "E249"
NEARLY: Final = "E250"
UNMAPPED: Final = "E253"
UNKNOWN: Final = "E257"

_LEARNS: Final[Mapping[Kind, str]] = {
    "chat": "sft learns from chats",
    "preference": "dpo learns from preferences",
    "label": "kto learns from labelled answers",
}

#: An answer that this share of the rows has is told, of at least so many rows.
_SAME_SHARE: Final = 0.5
_SAME_ROWS: Final = 10


def of_file(findings: Findings, seen: int, left_out: Mapping[str, int]) -> None:
    """Tell of a file without rows, and of keys that are not read."""
    if not seen and not findings.errors:
        what, why = "the file has no rows", "It is empty, or has nothing but blank lines"
        findings.tell(Problem(code=NO_ROWS, what=what, why=why, fix="write one JSON object a line", file=findings.file))
    for key, count in sorted(left_out.items()):
        findings.tell(
            Problem(
                code=LEFT_OUT,
                what=f"the key `{key}` is left out (rows: {count})",
                why="It says nothing to a model",
                fix="nothing needs to be done; remove the key from the rows, if this is noise",
                level="warning",
                file=findings.file,
                field=key,
            )
        )


def of_kind(format: Format, kind: Kind | None, file: str, detected: bool) -> Problem | None:
    """A file whose rows are not of the kind that the method learns from."""
    if kind is None or format.kind == kind:
        return None
    how = "found out from the rows" if detected else "by dataset.format"
    return Problem(
        code=WRONG_KIND,
        what=f"the rows are {PLURALS[format.kind]} in the layout of {format.title} ({how}); {_LEARNS[kind]}",
        why="The method learns from another kind of rows",
        fix="choose the method that fits, or name the layout with dataset.format",
        file=file,
        field="method",
    )


def of_no_kind(keys: Sequence[str], file: str, read_as: Format) -> Problem:
    """A file whose first rows look like no layout."""
    return Problem(
        code=UNKNOWN,
        what=f"the rows look like no layout that is known: their keys are {', '.join(f'`{key}`' for key in keys)}",
        why=f"They are read as {read_as.title}, and what is missing for that follows",
        fix="name the layout with dataset.format, and odd names with dataset.field_map: {prompt: question}; "
        "`ft data formats` shows a row of each",
        file=file,
    )


def unmapped(ours: str, theirs: str, file: str) -> Problem:
    """A name of `dataset.field_map` that the file does not have."""
    return Problem(
        code=UNMAPPED,
        what=f"dataset.field_map names `{theirs}` for `{ours}`, and the first rows have no such key",
        why="The rows would be read without it",
        fix="write the file's own name on the right: {messages: dialog, messages.role: dialog.who}",
        file=file,
        field=f"dataset.field_map.{ours}",
    )


def repeated(found: Found, files: Sequence[str]) -> Iterator[Problem]:
    """Rows that are there twice, and rows on both sides."""
    if found.repeated:
        yield _pairs(
            REPEATED,
            found.first,
            found.repeated,
            files,
            what=f"rows that repeat an earlier one: {found.repeated}; this is the first",
            why="They count that many times in training; copies are never on two sides of a split",
            fix="remove the copies, if they are not meant",
        )
    if found.shared:
        yield _pairs(
            ON_BOTH_SIDES,
            found.first_shared,
            found.shared,
            files,
            what=f"validation rows that are training rows too: {found.shared}; this is the first",
            why="A model is good at what it was trained on, so the measure would look better than it is",
            fix="remove them from one of the two",
        )


def nearly(found: NearFound, files: Sequence[str]) -> Iterator[Problem]:
    """Rows that are nearly the same, and those that are so on both sides."""
    if found.rows:
        what = f"rows that are nearly the same as another one: {found.rows}, groups: {found.groups}; this is the first"
        why = "They teach the same again, and a copy in validation makes the measure look better than it is"
        fix = "keep one of each, if that is not meant"
        yield _pairs(NEARLY, found.first, found.rows, files, what=what, why=why, fix=fix)
    if found.shared:
        what = f"validation rows that are nearly the same as a training row: {found.shared}; this is the first"
        why = "A model is good at what it was trained on, so the measure would look better than it is"
        fix = "keep what belongs together on one side: validation.group_by"
        yield _pairs(NEARLY, found.first_shared, found.shared, files, what=what, why=why, fix=fix)


def empty_side(file: str, split: float, train: int, held: int) -> Iterator[Problem]:
    """A split that leaves one side without rows."""
    if train and held:
        return
    yield Problem(
        code=EMPTY_SIDE,
        what=f"validation.split {split} leaves no rows for {'training' if held else 'validation'}",
        why=f"Rows are chosen by their content, each with that chance, and there are {train + held}",
        fix="add rows, change validation.split, or name a file with validation.path",
        file=file,
        field="validation.split",
        value=str(split),
    )


def one_sided(tallies: Iterable[Tally], file: str) -> Iterator[Problem]:
    """Rows that all teach the same answer, or the same label."""
    tally = Tally()
    for each in tallies:
        tally.merge(each)
    if tally.rows < _SAME_ROWS:
        return
    if tally.labels and len(tally.labels) == 1:
        what = f"all {tally.rows} rows have the same label"
        yield _one_sided(what, "Without good and bad answers there is nothing to tell apart", file)
    elif tally.answers:
        ((_, count),) = tally.answers.most_common(1)
        if count > _SAME_SHARE * tally.rows:
            what = f"{count} of {tally.rows} rows have the same answer"
            yield _one_sided(what, "The model learns to give it whatever is asked", file)


def one_file(file: str) -> Problem:
    """Training and validation name the same file."""
    return Problem(
        code=ON_BOTH_SIDES,
        what="training and validation are the same file",
        why="A model is good at what it was trained on, so the measure would say nothing",
        fix="write validation: {split: 0.1} to hold rows back from it",
        file=file,
    )


def _one_sided(what: str, why: str, file: str) -> Problem:
    fix = "add rows with other answers, if that is not meant"
    return Problem(code=ONE_SIDED, what=what, why=why, fix=fix, level="warning", file=file)


def _pairs(
    code: str, pairs: Sequence[Repeat | Pair], count: int, files: Sequence[str], *, what: str, why: str, fix: str
) -> Problem:
    first = unpack(pairs[0].place)
    of = unpack(pairs[0].of)
    origin = f"line {of.line}" if files[of.file] == files[first.file] else f"{files[of.file]}:{of.line}"
    places = [unpack(each.place) for each in pairs]
    return Problem(
        code=code,
        what=f"{what}, of {origin}",
        why=why,
        fix=fix,
        level="warning",
        file=files[first.file],
        line=first.line,
        count=count,
        also=tuple(place.line for place in places[1:] if place.file == first.file),
    )
