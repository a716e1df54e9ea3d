"""Whatever a file holds is judged: nothing is raised, each row is sound or told, and what is sound stays what it is.

Files of random bytes, of JSON made of the keys that layouts have, and of sound rows of all layouts with something done
to them: as values, as text, and as bytes. `FT_FUZZ=40` tries forty times as many (`make fuzz`).
"""

import csv
import gzip
import io
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetune.catalogue import DataRules
from finetune.data import DataReport, DataRequest, inspect, prepare
from finetune.data.example import Example, canonical, lists, plain
from finetune.data.findings import Findings
from finetune.data.formats import FORMATS, Format
from finetune.data.pool import Pool
from finetune.data.reader import Reader
from finetune.data.scan import Look, Scanned
from finetune.data.sources import blocks, places
from finetune.data.sources.lines import is_utf8
from finetune.errors import DataError, Problem
from finetune.ports import PreparedData
from tests.support import examples
from tests.support.broken import CORPUS
from tests.support.mutants import mutants
from tests.support.spoiling import good

Row = dict[str, Any]

READABLE = [each for each in FORMATS.values() if each.read]
WRITABLE = [each for each in FORMATS.values() if each.write]
TIMES = int(os.environ.get("FT_FUZZ", "1"))


def tries(number: int) -> settings:
    """So many examples, or a multiple of them."""
    return settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=number * TIMES)


#: Keys that layouts have, and those of other programs.
KEYS = sorted({
    *"messages role content weight name refusal tool_calls tool_call_id tools id metadata type".split(),
    *"parallel_tool_calls function arguments parameters text image_url url prompt completion".split(),
    *"chosen rejected label input preferred_output non_preferred_output conversations from value system".split(),
    *"instruction output history contents parts systemInstruction functionCall functionResponse schemaVersion".split(),
})  # fmt: skip
WORDS = [
    "",
    " ",
    "user",
    "assistant",
    "system",
    "tool",
    "human",
    "gpt",
    "model",
    "function",
    "text",
    "\ud800",
    '":',
    "ß\0",
]
scalars = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 0.5, 2**63, 2**64, -(2**63) - 1, 1e308, float("inf"), float("nan")]),
    st.integers(),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(st.characters(), max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def rows_of(name: str) -> st.SearchStrategy[Row]:
    """Sound rows of a layout, and such as have something changed."""
    format = FORMATS[name]
    made: Mapping[str, st.SearchStrategy[Any]] = {
        "chat": examples.chats() | examples.chats(ordered=True),
        "preference": examples.preferences() | examples.preferences(ordered=True),
        "label": examples.labels(),
    }
    write = format.write
    assert write is not None
    return made[format.kind].map(lambda example: json.loads(json.dumps(write(example))))


#: Rows that take the short way, or nearly.
plain_rows = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["system", "user", "assistant"]), "content": examples.words},
                optional={"weight": st.sampled_from([0, 1, None, 1.0])},
            ),
            max_size=2,
        ).map(lambda before: [*before, {"role": "assistant", "content": "It is."}])
    },
    optional={"id": scalars, "metadata": values, "source": values, "topic": scalars, "tools": st.none()},
)
sound_rows = st.sampled_from([each.name for each in READABLE if each.write]).flatmap(rows_of)


# What is done to text.

Change = Callable[[bytes, random.Random], bytes]


def _at(raw: bytes, chance: random.Random) -> int:
    return chance.randrange(len(raw) + 1)


def _cut(raw: bytes, chance: random.Random) -> bytes:
    return raw[: _at(raw, chance)]


def _lost(raw: bytes, chance: random.Random) -> bytes:
    at = _at(raw, chance)
    return raw[:at] + raw[at + chance.randrange(1, 9) :]


def _added(raw: bytes, chance: random.Random) -> bytes:
    at = _at(raw, chance)
    odd = [
        b"\0",
        b"\r",
        b"\n",
        b"\r\n",
        b'"',
        b"\\",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\\u0000",
        b"\\ud83d",
        b"9" * 5000,
        b":",
        b",",
        b"{",
        b"]",
    ]
    return raw[:at] + chance.choice(odd) + raw[at:]


def _flipped(raw: bytes, chance: random.Random) -> bytes:
    at = _at(raw, chance)
    return raw[:at] + bytes(each ^ (1 << chance.randrange(8)) for each in raw[at : at + 1]) + raw[at + 1 :]


def _repeated(raw: bytes, chance: random.Random) -> bytes:
    at = _at(raw, chance)
    return raw[:at] + raw[at : at + chance.randrange(1, 40)] * 2 + raw[at + 1 :]


def _twice(raw: bytes, chance: random.Random) -> bytes:
    """A key once more, behind a comma."""
    starts = [at for at in range(len(raw)) if raw[at : at + 1] == b"{"]
    if not starts:
        return raw
    at = chance.choice(starts) + 1
    key = raw[at:].partition(b":")[0]
    return raw[:at] + key + b": " + chance.choice([b"1", b"null", b'""', b"[]"]) + b", " + raw[at:]


def _spaced(raw: bytes, chance: random.Random) -> bytes:
    return raw.replace(b":", chance.choice([b" :", b"\t: ", b"\r:"]))


def _encoded(raw: bytes, chance: random.Random) -> bytes:
    encoding = chance.choice(["latin-1", "utf-16", "utf-16-be", "utf-32", "utf-8-sig", "cp1252"])
    return raw.decode("utf-8", "replace").encode(encoding, "replace")


CHANGES: list[Change] = [_cut, _lost, _added, _flipped, _repeated, _twice, _spaced, _encoded]


def _changed(raw: bytes, seeds: Sequence[tuple[int, int]]) -> bytes:
    for change, seed in seeds:
        raw = CHANGES[change](raw, random.Random(seed))
    return raw


changes = st.lists(st.tuples(st.integers(0, len(CHANGES) - 1), st.integers(0, 2**16)), max_size=2)


def _text(value: Any, escaped: bool) -> bytes:
    return json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")


texts = st.builds(_text, values | mutants(sound_rows) | sound_rows, st.booleans())
lines = st.one_of(st.binary(max_size=30), texts, texts, st.builds(_changed, texts, changes))


# What must hold.

_GZIP = b"\x1f\x8b"


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def looked_at(name: str, raw: bytes, **asked: Any) -> DataReport:
    """The report on a file of these bytes; whatever it tells can be shown."""
    with folder() as at:
        (at / name).write_bytes(raw)
        report = inspect(
            DataRequest(**{"train": name, "folder": at, "kind": None, "every": True, **asked}), processes=1
        )
    for problem in report.problems:
        shown(problem)
        assert problem.file == name
        assert problem.line is None or 0 < problem.line <= raw.count(b"\n") + 1 or raw.startswith(_GZIP)
    assert (report.digest is None) == bool(report.errors)
    return report


def shown(problem: Problem) -> None:
    assert problem.what
    assert problem.fix
    assert all(line.isprintable() for line in problem.lines()), problem.lines()
    "\n".join(problem.lines()).encode("utf-8")


def at_fault(report: DataReport) -> set[int]:
    """The lines that have an error."""
    return {problem.line for problem in report.errors if problem.line is not None}


def judged(raw: bytes, **asked: Any) -> None:
    """Each line of a file is sound or told."""
    report = looked_at("rows.jsonl", raw, **asked)
    # What is no file of lines, or of another layout than was asked for, is told as a whole.
    if any(problem.code == "E222" or problem.line is None for problem in report.problems if problem.code != "E219"):
        assert report.problems
        return
    filled = {number for number, line in enumerate(raw.split(b"\n"), 1) if line and not line.isspace()}
    assert at_fault(report) <= filled
    assert report.train_rows + len(at_fault(report)) == len(filled)


def read_twice(raw: bytes, unread: str | None) -> None:
    """The short way into OpenAI's layout and the thorough one say the same of a row that comes from a file."""
    said = []
    if b"\0" in raw or not is_utf8(raw):
        return
    # A name that no row has changes nothing, and keeps the reader from its short way.
    for names in ((), (("zzz", "yyy"),)):
        findings = Findings("rows.jsonl")
        reader = Reader(FORMATS["openai"], findings, names, unread)
        example = reader.read(raw, 1)
        said.append((example and canonical(example), findings.problems(), reader.left_out))
    assert said[0] == said[1]


def sound(name: str, rows: Sequence[bytes]) -> list[bytes]:
    """Those of the rows that its reader takes, in this layout."""
    reader = Reader(FORMATS[name], Findings("rows.jsonl"), (), None)
    return [each for each in rows if b"\n" not in each and reader.read(each, 1)]


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value that is no key."""
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(each)


def said(example: Example) -> Iterator[str]:
    """What people and models say in a row, piece by piece, and who they are."""
    for message in (message for messages in lists(example) for message in messages if message.role != "tool"):
        content = message.content
        pieces = [content] if isinstance(content, str) else [plain([each]) for each in content or ()]
        yield from (piece for piece in (*pieces, message.refusal, message.name) if piece and piece.strip())


def outcome(asked: DataRequest, out: Path) -> PreparedData | tuple[Problem, ...]:
    """What was written, or all errors; a look says the same before."""
    report = inspect(asked, processes=1)
    made: PreparedData | tuple[Problem, ...]
    try:
        made = prepare(asked, out, processes=1)
    except DataError as error:
        made = error.problems
    if isinstance(made, PreparedData):
        assert (made.digest, made.train_rows, made.warnings) == (report.digest, report.train_rows, report.problems)
    else:
        assert made == report.errors
    return made


def prepared(name: str, rows: Sequence[bytes], target: Any) -> None:
    """Sound rows are written for a target and mean the same there, unless it says that it loses some."""
    with folder() as at:
        (at / "rows.jsonl").write_bytes(b"\n".join(rows))
        about: dict[str, Any] = {"folder": at, "kind": FORMATS[name].kind}
        report = inspect(DataRequest(train="rows.jsonl", format=name, **about), processes=1)
        assert not report.errors, [problem.lines() for problem in report.errors]
        assert report.train_rows == len(rows)
        about["rules"] = DataRules(target="the target", format=target)
        made = outcome(DataRequest(train="rows.jsonl", format=name, **about), at / "out")
        if not isinstance(made, PreparedData):
            assert {problem.code for problem in made} == {"E247"}
            return
        assert (made.digest, made.train_rows) == (report.digest, len(rows))
        written = made.train.read_bytes()
        reader = Reader(FORMATS[name], Findings("rows.jsonl"), (), None)
        for before, after in zip(rows, written.removesuffix(b"\n").split(b"\n"), strict=True):
            example, found = reader.read(before, 1), list(strings(json.loads(after)))
            assert example is not None
            assert [text for text in said(example) if not any(text in each for each in found)] == []
        if FORMATS[target].read:
            again = outcome(DataRequest(train=str(made.train), format=target, **about), at / "again")
            assert isinstance(again, PreparedData)
            assert again.train.read_bytes() == written
            assert again.digest == made.digest or target != "openai"


def alike(rows: Sequence[bytes], name: str) -> None:
    """What holds the rows does not change what they are."""
    text = b"\n".join(rows)
    files = {
        "rows.jsonl": b"\xef\xbb\xbf" + b"\r\n\r\n".join(rows),
        "rows.jsonl.gz": gzip.compress(text) + gzip.compress(b"\n"),
        "rows.json": b" [\n" + b" ,\n".join(rows) + b"\t]\n",
        "data.json": b'{"version": [1], "data": [' + b",".join(rows) + b"]}",
        "more.json": b"\n".join(rows),
    }
    expected = looked_at("rows.ndjson", text, format=name)
    for file, raw in files.items():
        report = looked_at(file, raw, format=name)
        assert (report.train_rows, report.digest) == (expected.train_rows, expected.digest), file


# Rows in files.


@tries(60)
@given(
    raw=st.binary(max_size=200)
    | st.lists(lines, max_size=5).map(b"\n".join)
    | st.lists(texts, max_size=4).map(b"\r\n".join)
)
def test_each_line_of_a_file_is_sound_or_told(raw: bytes) -> None:
    judged(raw)


@tries(25)
@given(raw=st.lists(texts, max_size=4).map(b"\n".join), name=st.sampled_from([each.name for each in READABLE]))
def test_each_line_of_a_file_is_sound_or_told_in_a_layout_that_is_named(raw: bytes, name: str) -> None:
    judged(raw, format=name)


dotted = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(".".join)
limits = st.dictionaries(
    st.sampled_from([each.name for each in fields(DataRules) if each.type == int | None]), st.integers(0, 3)
)
demands = st.dictionaries(
    st.sampled_from([each.name for each in fields(DataRules) if each.type == bool | None]), st.booleans()
)


@tries(25)
@given(
    raw=st.lists(texts, max_size=6).map(b"\n".join),
    asked=st.fixed_dictionaries(
        {},
        optional={
            "group_by": dotted,
            "split": st.sampled_from([0.01, 0.5, 0.99]),
            "field_map": st.dictionaries(dotted, dotted, max_size=2),
            "kind": st.sampled_from(["chat", "preference", "label"]),
            "privacy": st.sampled_from(["warn", "strict"]),
            "near": st.just(True),
            "rules": st.builds(
                lambda limits, demands: DataRules(target="the target", format="openai", **limits, **demands),
                limits,
                demands,
            ),
        },
    ),
)
def test_whatever_is_asked_is_answered(raw: bytes, asked: dict[str, Any]) -> None:
    report = looked_at("rows.jsonl", raw, **asked)

    assert report.problems or report.train_rows + report.validation_rows


NAMES = [
    "rows.json",
    "rows.csv",
    "rows.tsv",
    "rows.parquet",
    "rows.jsonl.gz",
    "rows.json.gz",
    "rows.jsonl.zst",
    "rows",
    "rows.txt",
]


@tries(40)
@given(
    name=st.sampled_from(NAMES),
    raw=st.lists(lines, max_size=5).map(b"\n".join)
    | st.lists(lines, max_size=4).map(lambda rows: b"[" + b",".join(rows) + b"]"),
    packed=st.booleans(),
    seeds=changes,
)
def test_a_file_of_any_name_is_judged(name: str, raw: bytes, packed: bool, seeds: list[tuple[int, int]]) -> None:
    report = looked_at(name, _changed(gzip.compress(raw, mtime=0) if packed else raw, seeds))

    assert report.problems or report.train_rows


def with_metadata(text: str) -> bytes:
    """A row of the short way, with this under a key that is left out."""
    return f'{{"messages": [{{"role": "assistant", "content": "It is."}}], "metadata": {text}}}'.encode()


@tries(60)
@example(with_metadata('[{"a": 1, "a": 2}]'), None)
@example(with_metadata("1e999"), None)
@example(with_metadata("9" * 5000), None)
@example(with_metadata("{}"), "metadata")
@given(
    raw=st.builds(
        _changed, st.builds(_text, plain_rows | mutants(plain_rows) | rows_of("openai"), st.booleans()), changes
    ),
    unread=st.none() | st.sampled_from(["metadata", "topic"]),
)
def test_both_ways_of_reading_say_the_same(raw: bytes, unread: str | None) -> None:
    read_twice(raw, unread)


@tries(30)
@given(data=st.data())
def test_sound_rows_are_written_for_each_target_and_stay_what_they_are(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([each.name for each in READABLE if each.write]))
    target = data.draw(st.sampled_from([each.name for each in WRITABLE if each.kind == FORMATS[name].kind]))
    text = st.builds(_text, rows_of(name) | mutants(rows_of(name)), st.booleans())
    rows = sound(name, data.draw(st.lists(text, min_size=1, max_size=3)))
    if rows:
        prepared(name, rows, target)


@pytest.mark.parametrize("format", READABLE, ids=lambda format: format.name)
def test_rows_may_be_grouped_by_any_of_their_keys(format: Format) -> None:
    for key in json.loads(format.sample):
        report = looked_at("rows.jsonl", format.sample.encode(), format=format.name, group_by=key, split=0.5)
        # One row is on one side.
        assert {problem.code for problem in report.errors} == {"E216"}, key


@tries(15)
@given(data=st.data())
def test_rows_are_the_same_in_whatever_file(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([each.name for each in READABLE if each.write]))
    if rows := sound(name, data.draw(st.lists(rows_of(name).map(lambda row: _text(row, False)), max_size=3))):
        alike(rows, name)


cells = examples.words.filter(lambda text: "\0" not in text)


@tries(25)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"prompt": cells, "completion": cells.filter(str.strip)}), min_size=1, max_size=4
    ),
    delimiter=st.sampled_from(",;\t"),
    # Python's writer takes a carriage return for one that needs quotes only where lines end with it.
    style=st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
    seeds=changes,
)
def test_a_csv_of_rows_is_read_as_they_are(
    rows: list[Row], delimiter: str, style: tuple[str, Any], seeds: list[tuple[int, int]]
) -> None:
    out = io.StringIO()
    end, quoting = style
    writer = csv.DictWriter(out, ["prompt", "completion"], delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    raw = out.getvalue().encode()

    expected = looked_at("rows.jsonl", b"\n".join(_text(each, True) for each in rows))
    assert looked_at("rows.csv", raw).digest == expected.digest

    looked_at("rows.csv", _changed(raw, seeds))


# In several processes.


def told(every: Sequence[Scanned]) -> list[Any]:
    """All that scans say, to be compared."""
    return [
        (
            each.findings,
            each.tally,
            each.digests,
            each.lines,
            each.written,
            each.long,
            each.left_out,
            each.seen,
            each.read,
        )
        for each in every
    ]


def test_several_processes_find_what_one_finds(tmp_path: Path) -> None:
    for broken in CORPUS:
        if broken.line == 2 and set(broken.files) == {"rows.jsonl"}:
            broken.files["rows.jsonl"](tmp_path / "one.jsonl")
            raw = (tmp_path / "one.jsonl").read_bytes()
            if len(raw) < 1 << 20:
                with (tmp_path / "rows.jsonl").open("ab") as file:
                    file.write(raw + b"\n".join(good(number).encode() for number in range(50)) + b"\n")
    look = Look(
        format="openai",
        split=0.3,
        rules=DataRules(target="x", format="openai", max_messages=2),
        write="mistral",
        longer=90,
    )

    def scans(processes: int) -> list[Scanned]:
        (place,) = places("rows.jsonl", tmp_path, fetch=False, found=found.append)
        with Pool(processes) as pool:
            return list(pool.scans(blocks(place, found.append, target_bytes=4096), look, None))

    found: list[Problem] = []
    one = scans(1)
    of_one, found = found, []
    two = scans(2)

    assert len(one) > 20
    assert told(one) == told(two)
    assert [each.writer and each.writer.problems("x") for each in one] == [
        each.writer and each.writer.problems("x") for each in two
    ]
    assert of_one == found
