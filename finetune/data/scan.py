"""One block of rows, looked at whole: parsed, checked, counted, digested, and written for the target.

A pure function of its arguments, so that blocks can be looked at in other processes; all that comes back pickles.
"""

import hashlib
import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from finetune.catalogue import DataRules
from finetune.data import checks
from finetune.data.convert import Writer
from finetune.data.example import Example, canonical, lists, plain
from finetune.data.faults import Fault
from finetune.data.findings import Findings
from finetune.data.formats import FORMATS
from finetune.data.mapping import value_at
from finetune.data.parse import parse
from finetune.data.private import faults, redacted
from finetune.data.reader import Reader
from finetune.data.rules import against
from finetune.data.sides import held_back
from finetune.data.sketches import Sketches, sketches
from finetune.data.sources import Block
from finetune.data.tally import Tally

NO_GROUP: Final = "E254"


@dataclass(frozen=True, kw_only=True)
class Look:
    """How to look at the rows of one file. Pickles."""

    #: Name in FORMATS.
    format: str
    #: Ours to the file's names, dotted.
    field_map: tuple[tuple[str, str], ...] = ()
    #: The share of rows for validation; None: all rows are of one side.
    split: float | None = None
    #: The key, dotted, whose value keeps rows on one side.
    group_by: str | None = None
    rules: DataRules | None = None
    #: What personal data is to be told as, `warning` or `error`; None: it is not looked for.
    privacy: str | None = None
    #: The format to write the rows in; None writes nothing.
    write: str | None = None
    #: Hand back what was written; else it is only tried.
    keep: bool = False
    lossy: bool = False
    #: Put placeholders in the place of personal data.
    redact: bool = False
    #: Hand back the rows that have more bytes than this as canonical JSON; None: none.
    longer: int | None = None
    #: Hand back sketches for the search for near duplicates.
    near: bool = False
    every: bool = False


@dataclass
class Scanned:
    """What a block held."""

    findings: Findings
    tally: Tally = field(default_factory=Tally)
    #: Of each sound row, by side (0 training, 1 held back): sha256, 32 bytes each; its line.
    digests: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    lines: "tuple[array[int], array[int]]" = field(default_factory=lambda: (array("Q"), array("Q")))
    #: Rows in the format asked for, each with a line end, by side.
    written: tuple[list[bytes], list[bytes]] = field(default_factory=lambda: ([], []))
    #: The bytes of these rows, by side, also when they are not kept.
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    #: Its account of what was lost; None when nothing is written.
    writer: Writer | None = None
    #: Rows that may be too long, with their lines.
    long: list[tuple[int, Example]] = field(default_factory=list)
    #: By side, for the search for near duplicates; in the order of `lines`.
    sketches: tuple[Sketches, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    #: All rows, the faulty ones too.
    seen: int = 0
    #: Bytes of the source.
    read: int = 0


def scan(block: Block, look: Look) -> Scanned:
    """Look at every row. Never raises for what a row says."""
    out = Scanned(Findings(block.file, look.every), read=block.read, seen=len(block.rows))
    unread = look.group_by.partition(".")[0] if look.group_by else None
    reader = Reader(FORMATS[look.format], out.findings, look.field_map, unread)
    out.writer = Writer(FORMATS[look.write], look.lossy) if look.write else None
    said: tuple[list[str], list[str]] = ([], [])
    for line, raw in zip(block.numbers, block.rows, strict=True):
        example = reader.read(raw, line)
        if example is None:
            continue
        if look.redact:
            example = redacted(example)
        side = _keep(example, raw, line, look, out)
        if look.near:
            said[side].append(spoken(example))
    out.left_out = reader.left_out
    if look.near:
        out.sketches = tuple(sketches(each) for each in said)
    return out


def spoken(example: Example) -> str:
    """What is said in a row, without the instructions of the system, which many rows share."""
    said = (message for messages in lists(example) for message in messages if message.role != "system")
    return "\n".join(plain(message.content) for message in said)


def _keep(example: Example, raw: bytes, line: int, look: Look, out: Scanned) -> int:
    """Count and check a sound row; returns its side."""
    text = canonical(example)
    digest = hashlib.sha256(text).digest()
    side = 0
    if look.split is not None:
        side = held_back(_group(raw, line, look, out) or digest, look.split)
    out.digests[side].extend(digest)
    out.lines[side].append(line)
    out.tally.add(example, len(text))
    for fault in checks.oddities(example, text):
        out.findings.add(fault, line)
    if look.rules is not None:
        for fault in against(look.rules, example, len(text)):
            out.findings.add(fault, line)
    for fault in faults(example, look.privacy) if look.privacy else ():
        out.findings.add(fault, line)
    if look.longer is not None and len(text) > look.longer:
        out.long.append((line, example))
    if out.writer is not None and (written := out.writer.line(line, example, text)) is not None:
        out.sizes[side] += len(written) + 1
        if look.keep:
            out.written[side].append(written + b"\n")
    return side


def _group(raw: bytes, line: int, look: Look, out: Scanned) -> bytes | None:
    """sha256 of what the row has at `group_by`; None without one, and for a row that lacks it."""
    if look.group_by is None:
        return None
    value = value_at(parse(raw), look.group_by)
    if value is None:
        what = f"the row has no `{look.group_by}`, by which rows are kept together"
        why = "Without it the row would be split by its content, apart from its group"
        out.findings.add(Fault(NO_GROUP, look.group_by, what, why, "add it, or remove validation.group_by"), line)
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
