"""Some rows as their target gets them: in its layout, and as the model reads them, with what is learned marked."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from finetune.data.convert import Writer
from finetune.data.example import KINDS, Chat, Example, plain
from finetune.data.findings import Findings
from finetune.data.formats import FORMATS
from finetune.data.lengths import OpenTokens
from finetune.data.reader import Reader
from finetune.data.request import DataRequest
from finetune.data.sources import blocks, places
from finetune.data.tokens import NotPlaced, Range, Segment, Tokens, Uncounted, sequences
from finetune.data.walk import USUAL, format_of
from finetune.errors import Problem


@runtime_checkable
class Renders(Protocol):
    """A counter that knows the model's chat template."""

    def pieces(self, row: Chat) -> list[Segment]:
        """The text that the model reads, token by token. Raises NotPlaced."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One row."""

    file: str
    line: int
    #: As the target gets it, JSON of one line.
    row: str
    #: As the model reads it; by messages where the target's template is not known.
    segments: tuple[Segment, ...]
    #: True when `segments` are the model's tokens.
    rendered: bool
    #: None when it cannot be told.
    tokens: Range | None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Some rows, and what was wrong with those before them."""

    rows: tuple[Shown, ...]
    problems: tuple[Problem, ...]
    #: Where the numbers of tokens come from.
    counted_by: str


def preview(request: DataRequest, count: int, to: str | None, open_tokens: OpenTokens) -> Preview:
    """The first `count` sound rows in the layout `to`, or the usual one of their kind. Reads no more than that."""
    general: list[Problem] = []
    tokens = open_tokens()
    findings: list[Findings] = []
    shown: list[Shown] = []
    for line, file, example in _examples(request, general, findings):
        shown.append(_shown(example, line, file, to, tokens))
        if len(shown) == count:
            break
    told = (problem for each in findings for problem in each.problems())
    name = tokens.name if tokens.exact else f"{tokens.name} (not counted)"
    return Preview(rows=tuple(shown), problems=(*general, *told), counted_by=name)


def _examples(
    request: DataRequest, general: list[Problem], findings: list[Findings]
) -> Iterator[tuple[int, str, Example]]:
    unread = request.group_by.partition(".")[0] if request.group_by else None
    for place in places(request.train, request.folder, fetch=request.fetch, found=general.append):
        found = Findings(place.file)
        findings.append(found)
        reader: Reader | None = None
        for block in blocks(place, found.tell):
            if reader is None:
                format, _ = format_of(block, request)
                reader = Reader(format, found, tuple(request.field_map.items()), unread)
            for line, raw in zip(block.numbers, block.rows, strict=True):
                if (example := reader.read(raw, line)) is not None:
                    yield line, place.file, example


def _shown(example: Example, line: int, file: str, to: str | None, tokens: Tokens) -> Shown:
    written = Writer(FORMATS[to or USUAL[KINDS[type(example)]]], lossy=True).line(line, example)
    (count,) = tokens.count([example])
    rendered, pieces = False, list(_spoken(sequences(example)[0]))
    if isinstance(tokens, Renders):
        with suppress(NotPlaced):
            rendered, pieces = True, tokens.pieces(sequences(example)[0])
    return Shown(
        file=file,
        line=line,
        row=(written or b"").decode(),
        segments=tuple(pieces),
        rendered=rendered,
        tokens=None if isinstance(count, Uncounted) else count.longest,
    )


def _spoken(chat: Chat) -> Iterator[Segment]:
    for message in chat.messages:
        learned = message.role == "assistant" and message.weight != 0
        calls = "".join(f"\n{call.function.name}({call.function.arguments})" for call in message.tool_calls or ())
        yield Segment(f"{message.role}: ", False, 0)
        yield Segment(f"{plain(message.content)}{message.refusal or ''}{calls}", learned, 0)
        yield Segment("\n", False, 0)
