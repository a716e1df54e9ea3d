"""What is said when a recipe is no YAML that we read, or a value is nothing that a recipe can hold."""

from typing import Any, Final, NamedTuple

import yaml

from finetune.errors import Problem


class Fault(NamedTuple):
    """A fault of one key or value: its code and its three sentences. `what` has a place for the value."""

    code: str
    what: str
    why: str
    fix: str


DUPLICATE: Final = Fault("E111", "the key `{}` is there twice", "", "remove one of the two")
KEY: Final = Fault(
    "E112",
    "the key {} is not text",
    "Every key is the name of a field",
    "put quotes around it, if it is one of provider_options",
)
TAG: Final = Fault(
    "E113",
    "the tag {} does not fit its value, or is not one of YAML's core",
    "A recipe holds text, numbers, true and false, lists and mappings, and never makes objects",
    "remove the tag",
)
MERGE: Final = Fault(
    "E113",
    "the merge key {} is not read",
    "It hides which fields a recipe sets",
    "write the fields out; a plain alias (*name) as a value is fine",
)
NOT_FINITE: Final = Fault("E114", "{} is not a finite number", "Nothing can be trained with it", "write a number")
TOO_LONG: Final = Fault("E114", "{} is too long for a number", "No field takes it", "write a smaller number")
SURROGATE: Final = Fault(
    "E115",
    "a text{} has half of a character in it",
    "An escape from \\ud800 to \\udfff alone stands for nothing and cannot be written to a file",
    "remove the escape, or write the character itself",
)

#: What PyYAML says, by a piece of its sentence, and what we say instead.
_SAYINGS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "mapping values are not allowed",
        "there is a `: ` where none can be: the second in its line, or after a line that has none, or indented too far",
        "put quotes around a value that holds `: `, and align the key with those of its section",
    ),
    (
        "could not find expected ':'",
        "this line has no `:` followed by a blank",
        "write it as `key: value`",
    ),
    (
        "found unexpected end of stream",
        "a quotation mark is opened and never closed",
        "close it",
    ),
    (
        "expected <block end>",
        "this line does not fit the indentation of those above it",
        "align it with the keys of its section",
    ),
    (
        "expected the node content",
        "something is missing here: a value, or a closing bracket",
        "write it",
    ),
    (
        "expected '<document start>'",
        "this line is indented less than the first",
        "align it with the keys above it",
    ),
    (
        "expected ',' or",
        "a bracket is opened and not closed, or a comma is missing",
        "close the bracket, and put commas between the entries",
    ),
    (
        "cannot start any token",
        "the value begins with a character that has a meaning in YAML",
        "put quotes around the value",
    ),
    (
        "found undefined alias",
        "`*` begins an alias, and there is no such anchor",
        "put quotes around the value, if it is text",
    ),
    (
        "found duplicate anchor",
        "this anchor is there twice",
        "give one of the two another name",
    ),
    (
        "unknown escape character",
        "there is a backslash in double quotes that YAML does not know",
        "use single quotes, or double the backslash",
    ),
    (
        "escape sequence of",
        "there is a broken \\x or \\u escape in double quotes",
        "use single quotes, or double the backslash",
    ),
)


def unreadable(error: yaml.YAMLError, text: str, file: str) -> Problem:
    """The Problem for what PyYAML raised."""
    if isinstance(error, yaml.reader.ReaderError):
        return _control_character(error, text, file)
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    said = str(getattr(error, "problem", None) or "it breaks off")
    if line is not None and column is not None and (tab := _tab(text, line, column)):
        return Problem(
            code="E108",
            what="there is a tab where YAML takes only blanks",
            why="A tab is as wide as each editor likes, so it cannot say what belongs to what",
            fix="replace it with blanks; editors do that when told to indent with spaces",
            file=file,
            line=line,
            column=tab,
        )
    what, fix = next(
        (saying[1:] for saying in _SAYINGS if saying[0] in said),
        (f"this cannot be read ({said})", "compare the line with the recipe that `ft init` writes"),
    )
    return Problem(
        code="E107",
        what=what,
        why="So the file is not valid YAML, and nothing after this point can be read",
        fix=fix,
        file=file,
        line=line,
        column=column,
    )


def _tab(text: str, line: int, column: int) -> int:
    """The column of a tab in the line's indentation, or at `column`; 0 if there is none."""
    lines = text.splitlines()
    at = lines[line - 1] if line <= len(lines) else ""
    indentation = at[: len(at) - len(at.lstrip())]
    return indentation.find("\t") + 1 or (column if at[column - 1 : column] == "\t" else 0)


def _control_character(error: yaml.reader.ReaderError, text: str, file: str) -> Problem:
    before = text[: error.position]
    return Problem(
        code="E104",
        what=f"there is a character that no text has (U+{ord(text[error.position]):04X})",
        why="A recipe is plain text; this may be another kind of file, or a slip of the keyboard",
        fix="remove the character",
        file=file,
        line=before.count("\n") + 1,
        column=error.position - (before.rfind("\n") + 1) + 1,
    )


def no_such_character(file: str) -> Problem:
    """An escape that names no character."""
    return Problem(
        code="E107",
        what="there is an escape in double quotes that stands for no character",
        why="So the file is not valid YAML",
        fix="use single quotes, or double the backslash",
        file=file,
    )


def too_much(file: str) -> Problem:
    """Too long, too deep, or grown by aliases."""
    return Problem(
        code="E105",
        what="the recipe is too large, nests too deeply, or its aliases make it so",
        why="A recipe has some dozens of lines; this guards against files that grow without end when read",
        fix="check that this is the right file: training data goes into a file of its own, under dataset.path",
        file=file,
    )


def second_document(file: str, mark: Any) -> Problem:
    """More than one `---`."""
    return Problem(
        code="E109",
        what="a second document begins here",
        why="One file is one recipe; two in one file would be two jobs",
        fix="put it into a file of its own, or remove the line `---`",
        file=file,
        line=mark.line + 1,
        column=mark.column + 1,
    )
