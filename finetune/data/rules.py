"""What a target takes, held against rows and against the whole: every limit with the page that publishes it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from finetune.catalogue import DataRules
from finetune.data.example import Audio, Chat, Example, File, Image, Message, lists
from finetune.data.faults import Fault
from finetune.errors import Problem

LIMIT: Final = "E248"

_Messages = Sequence[Message]

#: Limit, what is counted, and its name.
_MOST: Final[tuple[tuple[str, Callable[[_Messages], int], str], ...]] = (
    ("max_messages", len, "messages"),
    ("max_turns", lambda every: sum(each.role == "user" for each in every), "messages of the user"),
    ("max_images", lambda every: _parts(every, Image), "images"),
)


def _parts(every: _Messages, kind: type[Any]) -> int:
    return sum(isinstance(part, kind) for each in every if isinstance(each.content, list) for part in each.content)


#: What may be forbidden: limit, whether these messages have it, and its name.
_FORBIDDEN: Final[tuple[tuple[str, Callable[[_Messages], bool], str], ...]] = (
    ("tools", lambda every: any(each.tool_calls for each in every), "tool calls"),
    ("parallel_tool_calls", lambda every: any(len(each.tool_calls or ()) > 1 for each in every), "parallel tool calls"),
    ("weights", lambda every: any(each.weight is not None for each in every), "message weights"),
    ("images", lambda every: _parts(every, Image) > 0, "images"),
    ("audio", lambda every: _parts(every, Audio) > 0, "audio"),
    ("files", lambda every: _parts(every, File) > 0, "files"),
)


def _system_late(every: _Messages) -> bool:
    return any(each.role == "system" for each in every[1:])


def _starts_otherwise(every: _Messages) -> bool:
    first = next((each for each in every if each.role != "system"), None)
    return first is not None and first.role != "user"


def _twice_in_turn(every: _Messages) -> bool:
    spoken = [each.role for each in every if each.role in ("user", "assistant")]
    return any(one == other for one, other in pairwise(spoken))


#: What may be demanded: limit, whether these messages break it, and how.
_DEMANDED: Final[tuple[tuple[str, Callable[[_Messages], bool], str], ...]] = (
    ("system_first", _system_late, "a system message that is not the first"),
    ("starts_with_user", _starts_otherwise, "another first message than the user's"),
    ("alternates", _twice_in_turn, "two messages of one role in turn"),
)


def against(rules: DataRules, example: Example, size: int) -> Iterator[Fault]:
    """What the target refuses about one row, of `size` bytes as canonical JSON."""
    every = example.messages if isinstance(example, Chat) else [one for part in lists(example) for one in part]
    yield from _sizes(rules, every, size)
    for field, has, named in _FORBIDDEN:
        if getattr(rules, field) is False and has(every):
            yield _row(rules, field, f"the row has {named}", "remove them, or choose another target")
    # In a preference the answers stand beside each other, not after each other.
    for field, breaks, how in _DEMANDED if isinstance(example, Chat) else ():
        if getattr(rules, field) and breaks(every):
            yield _row(rules, field, f"the row has {how}", "change it, or choose another target")
    if rules.roles is not None:
        for role in sorted({message.role for message in every} - rules.roles):
            yield _row(rules, "roles", f"the row has a message of the {role}", "remove it, or choose another target")


def _sizes(rules: DataRules, every: _Messages, size: int) -> Iterator[Fault]:
    for field, count, named in _MOST:
        limit = getattr(rules, field)
        if limit is not None and count(every) > limit:
            yield _row(rules, field, f"the row has more than {limit} {named}", "split or shorten it")
    if rules.min_messages is not None and len(every) < rules.min_messages:
        yield _row(rules, "min_messages", f"the row has fewer than {rules.min_messages} messages", "remove it")
    if rules.max_row_bytes is not None and size > rules.max_row_bytes:
        yield _row(rules, "max_row_bytes", f"the row is longer than {rules.max_row_bytes} bytes", "shorten it")


def of_all(rules: DataRules, file: str, rows: tuple[int, int], written: tuple[int, int]) -> Iterator[Problem]:
    """What the target refuses about all rows: their number, and their bytes as written, of training and validation."""
    measures = (
        ("min_rows", -rows[0], f"{rows[0]} training rows", "add rows, or hold fewer back"),
        ("min_rows_total", -sum(rows), f"{sum(rows)} rows", "add rows"),
        ("max_rows", rows[0], f"{rows[0]} training rows", "take a part of them with `ft data split`"),
        ("max_rows_total", sum(rows), f"{sum(rows)} rows", "take a part of them with `ft data split`"),
        ("max_validation_rows", rows[1], f"{rows[1]} validation rows", "hold fewer back"),
        ("max_file_bytes", written[0], f"{written[0]} bytes of training rows", "take a part with `ft data split`"),
        ("max_validation_bytes", written[1], f"{written[1]} bytes of validation rows", "hold fewer back"),
    )
    for field, size, named, fix in measures:
        limit = getattr(rules, field)
        least = field.startswith("min")
        if limit is not None and size > (-limit if least else limit):
            what = f"{rules.target} takes at {'least' if least else 'most'} {limit}, and there are {named}"
            yield Problem(code=LIMIT, what=what, why=source(rules, field), fix=fix, file=file)


def _row(rules: DataRules, field: str, what: str, fix: str) -> Fault:
    return Fault(LIMIT, "", f"{what}, which {rules.target} does not take", source(rules, field), fix)


def source(rules: DataRules, field: str) -> str:
    """The sentence that says where a limit is published; empty if nobody knows."""
    url = rules.sources.get(field)
    return f"The limit is published at {url}" if url else ""
