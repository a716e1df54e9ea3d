"""Data with something wrong or odd in it: how it is made, what is asked of it, and what must be said of it.

Every code of training data has at least one entry. What a user sees of the first of each stands in docs/data.md.
"""

import gzip
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from finetune.catalogue import DataRules
from finetune.data import DataRequest, inspect
from finetune.data.example import Example, lists, plain
from finetune.data.near import available
from finetune.data.tokens import Count, Range, Tokens, Uncounted
from finetune.errors import Level, Problem
from tests.support import spoiling
from tests.support.spoiling import ASK, MIB, TELL, Make, about, deep, good, parquet, row, says, second, write

_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One thing to be told of data, and what is told with it."""

    name: str
    code: str
    #: None when the problem is at no line.
    line: int | None
    level: Level
    #: Makes the files of these names.
    files: Mapping[str, Make]
    #: Fields of DataRequest; `{url}` in them is the address of the server.
    ask: Mapping[str, Any]
    #: The codes of what is told beside it.
    beside: frozenset[str] = frozenset()
    #: What looks at the data.
    look: "Callable[[Broken, DataRequest], Sequence[Problem]]" = field(default_factory=lambda: _inspected)
    #: Opens what counts tokens.
    tokens: Callable[[], Tokens] | None = None
    #: Done to the files of these names when the first rows have been read.
    meanwhile: Mapping[str, Make] = field(default_factory=dict)
    #: Packages that are not to be had.
    without: tuple[str, ...] = ()
    #: Starts a server; gives its address.
    server: Callable[[], AbstractContextManager[str]] = field(default=lambda: nullcontext(""))
    #: Run in a process of its own: for packages that are missing, and for a library that reads its settings once.
    apart: bool = False


def run(broken: Broken, folder: Path) -> tuple[Problem, ...]:
    """Make the data in an empty folder and look at it: everything found, in which the folder is not named."""
    _done(broken.files, folder)
    with broken.server() as url:
        return _in_a_child(broken, folder, url) if broken.apart else _run(broken, folder, url)


def _done(makes: Mapping[str, Make], folder: Path) -> None:
    for name, make in makes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make(folder / name)


def _run(broken: Broken, folder: Path, url: str) -> tuple[Problem, ...]:
    asked: dict[str, Any] = {
        key: each.format(url=url) if isinstance(each, str) else each for key, each in broken.ask.items()
    }
    return tuple(broken.look(broken, DataRequest(folder=folder, **asked)))


def _in_a_child(broken: Broken, folder: Path, url: str) -> tuple[Problem, ...]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": url, "HF_HOME": str(folder / ".hf")}
    argv = [sys.executable, "-m", "tests.support.broken", broken.name, str(folder), url]
    out = subprocess.run(argv, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=120).stdout
    found: tuple[Problem, ...] = pickle.loads(out)
    return found


def _child(name: str, folder: str, url: str) -> None:
    (broken,) = (each for each in CORPUS if each.name == name)
    # None tells an import, and whoever asks whether one would succeed, that there is no such package.
    sys.modules.update(dict.fromkeys(broken.without))  # type: ignore[arg-type]
    sys.stdout.buffer.write(pickle.dumps(_run(broken, Path(folder), url)))


def _inspected(broken: Broken, request: DataRequest) -> Sequence[Problem]:
    waiting = [broken.meanwhile]

    def progress(read: int, total: int | None) -> None:
        while waiting:
            _done(waiting.pop(), request.folder)

    return inspect(request, broken.tokens, progress=progress, processes=1).problems


def _near(broken: Broken, request: DataRequest) -> Sequence[Problem]:
    # A walk tells this as a note of its report, and as no problem.
    return [missing] if (missing := available()) else []


class _Words:
    """Counts words."""

    name = "a counter of words"
    exact = True

    def count(self, rows: Sequence[Example]) -> list[Count | Uncounted]:
        counts = [sum(len(plain(each.content).split()) for part in lists(row) for each in part) for row in rows]
        return [Count(Range(each, each), Range(each, each)) for each in counts]

    def learned(self, rows: Sequence[Example]) -> list[Range | Uncounted]:
        return [Range(1, 1) for _ in rows]


class _Speechless(_Words):
    """Can count nothing."""

    def count(self, rows: Sequence[Example]) -> list[Count | Uncounted]:
        return [Uncounted("the chat template refuses it") for _ in rows]


def _told(
    code: str, name: str, files: Make | Mapping[str, Make], line: int | None = None, beside: str = "", **more: Any
) -> Broken:
    """An entry. One file without a name is `rows.jsonl`; what is looked at is the first, if nothing else is said."""
    made = files if isinstance(files, Mapping) else {"rows.jsonl": files}
    fields = {"level": "error", "apart": "without" in more, **more}
    ask = {"train": next(iter(made), "rows.jsonl"), **fields.pop("ask", {})}
    return Broken(code=code, name=name, files=made, line=line, beside=frozenset(beside.split()), ask=ask, **fields)


_warned = partial(_told, level="warning")


def _away(code: str, name: str, train: str, **more: Any) -> Broken:
    """An entry of data that is not in a file here."""
    return _told(code, name, {}, ask={"train": train}, **more)


def _web(code: str, name: str, status: int) -> Broken:
    """An entry of a page; the server answers with this status."""
    return _away(code, name, "{url}/rows.jsonl", server=partial(spoiling.answers, status))


def _rules(**limits: Any) -> Mapping[str, Any]:
    sources = {key: "https://a.example/limits" for key in limits}
    return {"rules": DataRules(**{"target": "the target", "format": "openai", "sources": sources, **limits})}


_CALL: Final = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
_PAIR: Final = '{"prompt": "What is it?", "chosen": "%s", "rejected": "%s"}'
_LABEL: Final = '{"prompt": "What is %d?", "completion": "It is %d.", "label": true}'
_TURNS: Final = '{"conversations": [{"from": "human", "value": "What?"}, {"from": "%s", "value": "This."}]}'
_GPT: Final = '{"from": "gpt", "value": "So."}'
_COLUMNS: Final = {"prompt": ["What is it?"] * 9, "completion": [f"It is {number}." for number in range(9)]}
#: A layout, its kind, a row with an empty list of messages, and what is told beside a wrong role.
_WIDE: Final = (
    ("openai", "chat", '{"messages": []}', "E212"),
    ("sharegpt", "chat", '{"conversations": []}', "E212"),
    ("completion", "chat", '{"prompt": [], "completion": []}', "E212"),
    ("preference", "preference", '{"prompt": [], "chosen": [], "rejected": []}', "E212"),
    ("kto", "label", '{"prompt": [], "completion": [], "label": true}', "E212"),
    ("gemini-preference", "preference", '{"contents": [], "completions": []}', "E210 E239"),
)
_KEYS: Final = [f"z{one}{other}" for one in "abcdefghij" for other in "abcdefghijklm"]
_GIB: Final = 1 << 30
_LONG: Final = "x" * (17 * MIB)
_MANY: Final = "\n".join(map(good, range(200))) + "\n"


def _listed(text: str) -> str:
    """A list of three elements in three lines, of which this is the second and the others are sound."""
    return f"[\n{good(1)},\n{text},\n{good(2)}]"


def _counted(first: int, last: int) -> str:
    return " ".join(map(str, range(first, last)))


def _changed(raw: bytes) -> bytes:
    return raw[:99] + b"\xff\xff" + raw[101:]


def _durations(arrow: Any) -> Mapping[str, Any]:
    return {**_COLUMNS, "took": arrow.array([1] * 9, arrow.duration("s"))}


#: The second of three lines, of which the others are sound: its code, and what is wrong with it.
_ROWS: Final[tuple[tuple[str, str, str | bytes], ...]] = (
    ("E205", "a line of another encoding", about("Grüße").encode("latin-1")),
    ("E205", "a NUL in a line", about("What is it?").encode().replace(b"it", b"\0")),
    ("E205", "a line of NUL bytes", b"\0" * 99),
    ("E205", "a character that is cut", about("ü").encode().partition(b"\xbc")[0]),
    ("E205", "a surrogate as three bytes", about("a?b").encode().replace(b"?", b"\xed\xa0\x80")),
    ("E205", "a character in more bytes than it takes", about("a?b").encode().replace(b"?", b"\xc0\xaf")),
    ("E205", "rows divided by carriage returns", f"{good(3)}\r{good(4)}\r{good(5)}"),
    ("E206", "a long line", about(_LONG)),
    ("E207", "a line that is cut", good(3)[:-20]),
    ("E207", "a comma at the end", good(3) + ","),
    ("E207", "two rows in a line", good(3) + good(4)),
    ("E207", "single quotes", "{'messages': []}"),
    ("E207", "a comment", "// " + good(3)),
    ("E207", "NaN", row(ASK, TELL, id=float("nan"))),
    ("E207", "infinity", row(ASK, TELL, id=float("-inf"))),
    ("E207", "an escape that is none", r'{"messages": [{"role": "user", "content": "\x41"}]}'),
    ("E207", "a tab in a text", good(3).replace("about ", "about\t")),
    ("E207", "a byte order mark in the middle", b"\xef\xbb\xbf" + good(3).encode()),
    ("E207", "a number that is too large", good(3)[:-1] + ', "id": 1e999}'),
    ("E207", "a number of 10,000 digits", good(3)[:-1] + f', "id": {"9" * 10_000}}}'),
    ("E207", "lists 10,000 deep", f'{{"messages": {deep(10_000)}}}'),
    ("E207", "lists 10,000 deep under a key that is left out", good(3)[:-1] + f', "metadata": {deep(10_000)}}}'),
    ("E207", "lists a million deep, and not closed", '{"messages": ' + "[" * 1_000_000),
    ("E208", "a list", f"[{good(3)}]"),
    ("E208", "a text", '"What is it?"'),
    ("E208", "a number", "1"),
    ("E208", "null", "null"),
    ("E209", "an unknown key", row(ASK, TELL, topic="it")),
    ("E209", "an unknown key in a message", row(ASK, {**TELL, "tone": "kind"})),
    ("E209", "100,000 unknown keys", row(ASK, TELL, **{f"key {number}": 0 for number in range(100_000)})),
    ("E209", "an unknown key of control characters", row(ASK, TELL, **{"\x1b[31m\x07": 1})),
    ("E210", "no messages", "{}"),
    ("E210", "an empty list of messages", row()),
    ("E210", "a million messages that are none", f'{{"messages": [0{", 0" * 1_000_000}]}}'),
    ("E210", "messages that are a text", '{"messages": "What is it?"}'),
    ("E211", "a role of another layout", row(ASK, {**TELL, "role": "gpt"})),
    ("E211", "a role in capitals", row({**ASK, "role": "User"}, TELL)),
    ("E212", "an answer that is null", row(ASK, says("assistant", None))),
    ("E212", "an answer of blanks", row(ASK, says("assistant", " \n"))),
    ("E212", "half of a character", row(ASK, TELL).replace("this", r"\ud83d")),
    ("E212", "half of a character in a key", row(ASK, TELL, metadata={}).replace("{}", r'{"\udc00": 1}')),
    ("E212", "an image in an answer", row(ASK, says("assistant", [{"type": "image_url", "image_url": {"url": "x"}}]))),
    ("E213", "a weight of one half", row(ASK, {**TELL, "weight": 0.5})),
    ("E213", "a weight of a question", row({**ASK, "weight": 1}, TELL)),
    ("E214", "a question at the end", row(ASK, TELL, ASK)),
    ("E214", "no answer that counts", row(ASK, {**TELL, "weight": 0})),
    ("E221", "a key twice", good(3)[:-1] + ', "messages": []}'),
    ("E221", "a key twice in a message", row(ASK, TELL).replace('"role"', '"content": "x", "role"')),
    ("E221", "a key twice, once with an escape", good(3)[:-1] + r', "m\u0065ssages": []}'),
    ("E221", "a key twice under a key that is left out", good(3)[:-1] + ', "metadata": {"a": 1, "a": 2}}'),
    ("E236", "a row of another layout", _TURNS % "gpt"),
    ("E237", "a name that is no text", row(ASK, {**TELL, "name": 7})),
    ("E238", "a call without its id", row(ASK, {**TELL, "tool_calls": [{**_CALL, "id": ""}]})),
    ("E238", "a result of no call", row(ASK, says("tool", "1", tool_call_id="c9"), TELL)),
    ("E238", "arguments that are an object", row(ASK, {**TELL, "tool_calls": [_CALL]}).replace('"{}"', "{}")),
)

#: The same, of what is odd.
_ODD_ROWS: Final[tuple[tuple[str, str, str], ...]] = (
    ("E242", "arguments that are no JSON", row(ASK, {**TELL, "tool_calls": [_CALL]}).replace('"{}"', '"the first"')),
    ("E242", "a call of a tool that is not listed", row(ASK, {**TELL, "tool_calls": [_CALL]}, tools=[])),
    ("E243", "control characters", about("What \x1b[31mis\x1b[0m it?").replace("\x1b", r"\u001b")),
    ("E255", "mangled characters", about("GrÃ¼ÃŸe â€™")),
    ("E255", "the sign for what was not read", about("Gr\ufffd\ufffde")),
)

_PLACES: Final = (
    _told("E201", "no file", {}),
    _told("E201", "no folder above the file", spoiling.lines(good(1)), ask={"train": "rows.jsonl/rows.jsonl"}),
    _told("E201", "a link to nothing", spoiling.link("nothing")),
    _told(
        "E201",
        "a file that goes while another one is read",
        {"rows.jsonl": write(good(1)), "other.jsonl": write(good(2))},
        ask={"validation": "other.jsonl"},
        meanwhile={"other.jsonl": Path.unlink},
    ),
    _web("E201", "no such page", 404),
    _told("E202", "a pipe", os.mkfifo),
    _told("E202", "a socket", spoiling.listener),
    _told("E202", "a pipe in a folder", {"rows/rows.jsonl": os.mkfifo}, ask={"train": "rows"}),
    _away("E202", "a device", "/dev/zero"),
    _away("E202", "an address without encryption", "http://a.example/rows.jsonl"),
    _away("E202", "an address of another kind", "ftp://a.example/rows.jsonl"),
    _away("E202", "a password in an address", "s3://user:secret@bucket/rows.jsonl"),
    _away("E202", "half of a name of the hub", "hf:name"),
    _told("E203", "a link to itself", spoiling.link("rows.jsonl")),
    _away("E203", "a name that is too long", "x" * 300),
    _away("E203", "a NUL in a name", "rows\0.jsonl"),
    _told("E224", "a file that grows", write(good(1)), meanwhile={"rows.jsonl": spoiling.append("\n" + good(2))}),
    _told(
        "E224",
        "a file that shrinks",
        spoiling.lines(*(about(f"{number} {'x' * 100_000}") for number in range(60))),
        beside="E207 E245",
        meanwhile={"rows.jsonl": spoiling.cut(10)},
    ),
    _told(
        "E224", "a list that grows", {"rows.json": write(f"[{good(1)}]")}, meanwhile={"rows.json": spoiling.append(" ")}
    ),
    _told("E229", "a folder without data", {"rows/README.md": write("")}, beside="E230", ask={"train": "rows"}),
    _away("E229", "a pattern that fits nothing", "*.jsonl"),
    _warned(
        "E230",
        "a file that is no data",
        {"rows/a.jsonl": write(good(1)), "rows/README.md": write("")},
        ask={"train": "rows"},
    ),
    _warned("E231", "data on another machine", {}, ask={"train": "s3://bucket/rows.jsonl", "fetch": False}),
    _away("E232", "a server that does not answer", "{url}/rows.jsonl", server=spoiling.nobody),
    _web("E232", "a server that fails", 500),
    _web("E233", "a server that refuses", 403),
    _web("E233", "a server that asks for a password", 401),
    _told("E234", "no library for Parquet", {"rows.parquet": parquet(lambda _: _COLUMNS)}, without=("pyarrow",)),
    _told("E234", "no library for zstd", {"rows.jsonl.zst": spoiling.framed(_MANY)}, without=("zstandard",)),
    _away(
        "E235",
        "a data set of several splits",
        "hf:owner/name",
        server=partial(spoiling.hub, train=_MANY, test=_MANY),
        apart=True,
    ),
)

_FILES: Final = (
    _told("E204", "nothing", write("")),
    _told("E204", "blank lines", write("\n \n\t\n")),
    _told("E204", "a byte order mark and nothing else", write("\ufeff"), beside="E218"),
    _told("E204", "an empty list", {"rows.json": write("[]")}),
    _told("E204", "names of columns only", {"rows.csv": write("prompt,completion\n")}),
    _told("E204", "nothing, compressed", {"rows.jsonl.gz": spoiling.packed("")}),
    _told("E204", "Parquet without rows", {"rows.parquet": parquet(lambda _: {"prompt": [], "completion": []})}),
    _told("E205", "UTF-16", write(_MANY.encode("utf-16"))),
    _told("E205", "UTF-16 without a mark", write(_MANY.encode("utf-16-le"))),
    _told("E205", "UTF-32", write(_MANY.encode("utf-32"))),
    _told("E205", "a zip archive", write(b"PK\x03\x04" + bytes(99))),
    _told("E205", "bzip2", write(b"BZh91AY&SY" + bytes(99))),
    _told("E205", "a picture", write(b"\x89PNG\r\n\x1a\n" + bytes(99))),
    _told("E205", "a gigabyte of NUL bytes", spoiling.with_holes("", _GIB)),
    _told("E205", "CSV of another encoding", {"rows.csv": write("prompt,completion\nGrüße,x\n".encode("latin-1"))}, 2),
    _told("E205", "an element of another encoding", {"rows.json": write(_listed(about("ü")).encode("latin-1"))}, 3),
    _told("E206", "a line of a gigabyte", spoiling.with_holes('{"messages": "' + "x" * 99, _GIB), 1),
    _told("E206", "a line of a gigabyte in 4 MB of gzip", {"rows.jsonl.gz": spoiling.bomb('{"messages": "', 64)}, 1),
    _told("E206", "a long element", {"rows.json": write(_listed(about(_LONG)))}, 3),
    _told(
        "E206",
        "a long value in Parquet",
        {"rows.parquet": parquet(lambda _: {"prompt": ["a", _LONG]})},
        2,
        beside="E237",
    ),
    _told("E207", "an element that is no JSON", {"rows.json": write(_listed("{'a': 1}"))}, 3),
    _told("E207", "an element 10,000 deep", {"rows.json": write(_listed(deep(10_000)))}, 3),
    _warned("E218", "a byte order mark", write("\ufeff" + good(1))),
    _warned("E218", "lines that end as on Windows", write(f"{good(1)}\r\n\r\n{good(2)}\r\n")),
    _warned("E222", "gzip without its name", spoiling.packed(_MANY)),
    _warned("E222", "a list in a file of lines", write(f"[{good(1)}]")),
    _warned("E222", "rows under a key", {"rows.json": write(f'{{"rows": [{good(1)}], "version": 1}}')}),
    _warned("E222", "Parquet without its name", parquet(lambda _: _COLUMNS)),
    _told("E223", "gzip that is cut", {"rows.jsonl.gz": spoiling.packed(_MANY, lambda raw: raw[:-9])}),
    _told("E223", "gzip with a changed byte", {"rows.jsonl.gz": spoiling.packed(_MANY, _changed)}),
    _told("E223", "gzip that is none", {"rows.jsonl.gz": write(_MANY)}),
    _told("E223", "gzip twice", {"rows.jsonl.gz": spoiling.packed(_MANY, gzip.compress)}),
    _told("E223", "zstd that is cut", {"rows.jsonl.zst": spoiling.framed(_MANY, lambda raw: raw[:-9])}),
    _told("E223", "zstd that is gzip", {"rows.jsonl.zst": spoiling.packed(_MANY)}),
    _told("E223", "Parquet that is cut", {"rows.parquet": parquet(lambda _: _COLUMNS, lambda raw: raw[:-9])}),
    _told("E223", "Parquet that is none", {"rows.parquet": write(_MANY)}),
    _told("E225", "a list that is not closed", {"rows.json": write(f"[\n{good(1)},\n{good(2)}")}, 3),
    _told("E225", "an element that is not closed", {"rows.json": write(_listed(good(3)[:-1]))}, 4, beside="E207"),
    _told("E225", "a comma at the end of a list", {"rows.json": write(f"[{good(1)},\n]")}, 2),
    _told("E225", "two elements without a comma", {"rows.json": write(f"[{good(1)}\n{good(2)}]")}, 2),
    _told("E225", "lists 200,000 deep, and not closed, in a list", {"rows.json": write("[\n" + "[" * 200_000)}, 2),
    _told("E226", "a column without a name", {"rows.csv": write(",prompt,completion\n0,a,b\n")}, 1),
    _told("E226", "a column twice", {"rows.csv": write("prompt,completion,prompt\na,b,c\n")}, 1),
    _told("E227", "a row of more cells", {"rows.csv": write("prompt,completion\na,b\nc,d, and e\n")}, 3),
    _told("E227", "a quote that is not closed", {"rows.csv": write('prompt,completion\na,b\n"c,d\ne,f\n')}, 3),
    _told(
        "E227", "a long row of CSV", {"rows.csv": write('prompt,completion\na,"' + f"{'x' * 1023}\n" * 20_000)}, 16_385
    ),
    _told("E228", "a column of durations", {"rows.parquet": parquet(_durations)}),
)

_WHOLE: Final = (
    _warned("E215", "copies", spoiling.lines(good(1), good(2), good(1)), 3),
    _told("E216", "a split that holds nothing back", write(good(1)), ask={"split": 0.1}),
    _told("E217", "one file for both", write(good(1)), ask={"validation": "rows.jsonl"}),
    _warned(
        "E217",
        "a row on both sides",
        {"rows.jsonl": write(good(1)), "other.jsonl": spoiling.lines(good(2), good(1))},
        2,
        ask={"validation": "other.jsonl"},
    ),
    _warned("E219", "keys that say nothing", write(row(ASK, TELL, id=1))),
    _told("E220", "130 kinds of faults", spoiling.lines(*(row(ASK, TELL, **{key: 1}) for key in _KEYS)), beside="E209"),
    _told("E239", "two answers that are the same", write(_PAIR % ("This.", "This.")), 1, ask={"kind": "preference"}),
    _warned("E240", "a payment card", second(about("My card is 4111 1111 1111 1111.")), 2, ask={"privacy": "warn"}),
    _told("E240", "a mail address", second(about("I am ada.lovelace@gmail.com.")), 2, ask={"privacy": "strict"}),
    _told(
        "E241",
        "no library for personal data",
        write(good(1)),
        ask={"privacy": "strict"},
        without=("stdnum", "phonenumbers"),
    ),
    *(
        _told(
            "E211",
            f"200,000 messages that are none in {format}",
            write(text.replace("[]", f"[{'{}, ' * 200_000}{{}}]", 1)),
            1,
            beside,
            ask={"kind": kind, "format": format},
        )
        for format, kind, text, beside in _WIDE
    ),
    _warned(
        "E244",
        "two names for one role",
        write(_TURNS.replace("]", ', {"from": "user", "value": "Why?"}, %s]') % ("gpt", _GPT)),
        1,
    ),
    _warned("E245", "one answer to everything", spoiling.lines(*(about(f"And {number}?") for number in range(20)))),
    _warned(
        "E245",
        "one label for everything",
        spoiling.lines(*(_LABEL % (each, each) for each in range(20))),
        ask={"kind": "label"},
    ),
    _warned("E246", "a row that is too long", second(about("word " * 99)), 2, ask={"max_tokens": 50}, tokens=_Words),
    _told(
        "E247",
        "a name that the target has no place for",
        second(row({**ASK, "name": "Ada"}, TELL)),
        2,
        ask=_rules(format="bedrock"),
    ),
    _told("E248", "too many messages", second(row(ASK, TELL, ASK, TELL)), 2, ask=_rules(max_messages=3)),
    _told("E248", "too many tokens", second(about("word " * 99)), 2, ask=_rules(max_row_tokens=50), tokens=_Words),
    _told("E248", "too few rows", write(good(1)), ask=_rules(min_rows=10)),
    _told("E248", "too many bytes", write(good(1)), ask=_rules(max_file_bytes=10)),
    _told("E249", "preferences for sft", write(_PAIR % ("This.", "That."))),
    _warned(
        "E250",
        "a row that is nearly another",
        spoiling.lines(*(about(_counted(at, at + 200)) for at in range(2))),
        2,
        ask={"near": True},
    ),
    _warned("E251", "no library for near duplicates", write(good(1)), without=("rensa",), look=_near),
    _told(
        "E253",
        "a name that the rows do not have",
        write('{"talk": []}'),
        beside="E209 E210 E257",
        ask={"field_map": {"messages": "dialog"}},
    ),
    _told("E257", "keys of no layout", write('{"question": "q", "reply": "a"}'), beside="E209 E210"),
    _told(
        "E254",
        "a row without its group",
        spoiling.lines(row(ASK, TELL, user=1), good(1)),
        2,
        ask={"split": 0.5, "group_by": "user"},
    ),
    _warned(
        "E256", "a row that the chat template refuses", write(good(1)), 1, ask={"max_tokens": 5}, tokens=_Speechless
    ),
    _told("E257", "odd keys of no layout", write(r'{"\u001b[31m%s": 1}' % ("x" * 999)), beside="E209 E210"),
)

CORPUS: Final = (
    *_PLACES,
    *(_told(code, name, second(text), 2) for code, name, text in _ROWS),
    *(_warned(code, name, second(text), 2) for code, name, text in _ODD_ROWS),
    *_FILES,
    *_WHOLE,
)

if __name__ == "__main__":
    _child(*sys.argv[1:])
