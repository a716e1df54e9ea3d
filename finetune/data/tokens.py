"""How many tokens a row has for its target: counted where the target's tokenizer is on this machine, else a range.

What a row is to a model: a chat is one sequence; a preference two, its prompt with the better and with the worse
answer; a label one. No counter goes to the network. The local trainer's counter is `finetune.training.tokens`.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from finetune.data.example import Chat, Example, Message, Preference, Refusal, Text, lists


class Range(NamedTuple):
    """A number of tokens: at least `low`, at most `high`. Equal where they are counted."""

    low: int
    high: int


class Count(NamedTuple):
    """Tokens of a row. The same for a row of one sequence."""

    #: Of its longest sequence: what a limit on the length is held against.
    longest: Range
    #: Of all its sequences: what is computed, and paid for.
    total: Range


class Uncounted(NamedTuple):
    """A row that this counter can say nothing of."""

    #: Why, in a few words for people.
    why: str


class Segment(NamedTuple):
    """A piece of a rendered row that begins and ends where tokens do."""

    text: str
    #: True if its tokens carry loss.
    learned: bool
    #: How many; several tokens can stand for one character.
    tokens: int


class NotPlaced(Exception):
    """A chat template cannot render a row, or what is learned cannot be found in what it rendered; says why."""


class NotHere(Exception):
    """The tokenizer is not on this machine, or not to be used: `what` says why, `fix` what helps (or is empty)."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.what, self.fix = what, fix


class Tokens(Protocol):
    """Counts tokens. One answer a row, in the rows' order; rows may come in batches of any size."""

    @property
    def name(self) -> str:
        """What counts, for people: "the tokenizer of Qwen/Qwen3-0.6B"."""
        ...

    @property
    def exact(self) -> bool:
        """True if every count is what the target will count: `low` and `high` are equal."""
        ...

    def count(self, rows: Sequence[Example]) -> list[Count | Uncounted]:
        """The tokens of each row, not truncated."""
        ...

    def learned(self, rows: Sequence[Example]) -> list[Range | Uncounted]:
        """The tokens of each row, in all its sequences, that carry loss. May take longer than `count`."""
        ...


def sequences(example: Example) -> tuple[Chat, ...]:
    """The conversations that a model sees of a row: of a chat itself, of a preference two, of a label one.

    Answers within a prompt have weight 0 there: only the answer that is compared or labelled is learned.
    """
    if isinstance(example, Chat):
        return (example,)
    prompt = [msgspec.structs.replace(m, weight=0) if m.role == "assistant" else m for m in example.prompt]
    ends = (example.chosen, example.rejected) if isinstance(example, Preference) else (example.completion,)
    return tuple(Chat([*prompt, *end], example.tools, example.parallel_tool_calls) for end in ends)


def combined(sequences: Sequence[Range]) -> Count:
    """The count of a row from those of its sequences, at least one."""
    if len(sequences) == 1:
        return Count(sequences[0], sequences[0])
    lows, highs = zip(*sequences, strict=True)
    return Count(Range(max(lows), max(highs)), Range(sum(lows), sum(highs)))


@dataclass(frozen=True)
class _Marks:
    """What stands around the texts of a row, in tokens."""

    #: Around a message, around a tool call, at the ends of a sequence.
    message: Range
    call: Range
    sequence: Range
    #: Around the tools of a row; and their own tokens, as parts of those of their compact JSON.
    tools: Range
    schema: tuple[float, float]


# Chat templates, counted with cl100k and o200k: ChatML, Llama 3, Gemma and Mistral write 1 to 5 around a message, Qwen3
# 4 more for an empty thought; at the start Qwen2.5 writes 21, Llama 3.1 26, gpt-oss 62. Before tools Llama 3.1 writes
# 51 and Qwen3 86; an indented schema has 1.65 to 2.03 times the tokens of a compact one, OpenAI's form 0.68 to 0.79.
_ANY: Final = _Marks(Range(1, 9), Range(2, 24), Range(0, 64), Range(0, 128), (0.4, 2.1))
# OpenAI's cookbook, "How to count tokens with tiktoken": 3 and the role for a message, 1 for a name (below), 3 for the
# start of an answer. Of tool calls it says nothing; a function has up to 12 + 7 beside its schema.
_OPENAI: Final = _Marks(Range(3, 4), Range(0, 16), Range(0, 3), Range(12, 32), (0.4, 1.2))
_NAMED: Final = 1

_LETTERS: Final = (b"abcdefghijklmnopqrstuvwxyz" + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ") + b" "
_ASCII: Final = bytes(range(128))
#: Tokens per byte: of ASCII letters and spaces, of other ASCII, of other UTF-8.
_LEAST: Final = (0.14, 0.24, 0.085)
_MOST: Final = (0.34, 1.05, 0.70)
#: Of texts longer than this one character in 7 is looked at.
_LONG: Final = 512
_STRIDE: Final = 7


def estimate(text: str) -> Range:
    """The tokens of a text for a tokenizer that nobody has asked, from its kinds of bytes. A guess, not a count.

    The bounds were set so that ordinary text lies between them for all of cl100k and o200k (OpenAI), Claude's,
    DeepSeek's, Mistral's v3 (32k) and Tekken (131k); measured in November 2026 on pieces of 150 to 1,500 bytes of
    opensource.guide's articles in 13 languages, of source and JSON files, and of generated logs and tables. Tokens per
    byte, the least and the greatest of the six averages: English 0.20 to 0.23, German 0.21 to 0.29, Spanish 0.23
    to 0.33, Chinese 0.19 to 0.42, Japanese 0.21 to 0.35, Korean 0.21 to 0.43, Russian 0.14 to 0.27, Arabic 0.17 to
    0.50, Hindi 0.12 to 0.41, Tamil 0.12 to 0.68, Python 0.23 to 0.30, C 0.27 to 0.36, JSON 0.29 to 0.48, log lines
    0.48 to 0.69, tables of numbers 0.60 to 1.00. Between 98.3 % and all pieces of each kind were inside. Outside are
    base64, hex and minified code (0.55 to 0.9), and long runs of one character.
    """
    seen = text[::_STRIDE] if len(text) > _LONG else text
    raw = seen.encode("utf-8", "surrogatepass")
    rest = raw.translate(None, _LETTERS)
    letters, others = len(raw) - len(rest), len(rest)
    wide = 0 if seen.isascii() else len(rest.translate(None, _ASCII))
    others -= wide
    scale = len(text) / len(seen) if seen else 1.0
    low = _LEAST[0] * letters + _LEAST[1] * others + _LEAST[2] * wide
    high = _MOST[0] * letters + _MOST[1] * others + _MOST[2] * wide
    return Range(floor(low * scale), ceil(high * scale))


def _estimate_all(texts: Sequence[str]) -> Range:
    return estimate("".join(texts))


class Guess:
    """Says between which numbers the tokens of a row are likely to be, for any target. Never a count."""

    name: Final = "an estimate from the bytes of the text"
    exact: Final = False

    def count(self, rows: Sequence[Example]) -> list[Count | Uncounted]:
        """Ranges (`estimate`), with what chat templates write around texts. Rows with images or audio: none."""
        return [_count(row, _estimate_all, _ANY) for row in rows]

    def learned(self, rows: Sequence[Example]) -> list[Range | Uncounted]:
        """Ranges of the answers that have weight, with their end marks."""
        return [_learned(row, _estimate_all, _ANY) for row in rows]


class Encoding(Protocol):
    """A `tiktoken.Encoding`."""

    @property
    def name(self) -> str:
        """As OpenAI calls it."""
        ...

    def encode_ordinary_batch(self, text: list[str], *, num_threads: int = 8) -> list[list[int]]:
        """Token ids of each text."""
        ...


class _Published(NamedTuple):
    """Where OpenAI publishes an encoding, which is how tiktoken names it in its cache; and the file's sha256."""

    url: str
    sha256: str


# From tiktoken 0.14 (tiktoken_ext/openai_public.py).
_PUBLISHED: Final[Mapping[str, _Published]] = {
    "o200k_base": _Published(
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": _Published(
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}


class Tiktoken:
    """Counts for OpenAI's models: the texts exactly, the marks between them by OpenAI's published rule of thumb.

    So a count is a narrow range, and not exact: OpenAI does not publish how a row becomes tokens. `low` has the texts
    and 3 tokens a message; `high` is the cookbook's formula. What the cookbook does not know (tool calls, schemas) has
    wider bounds. Of rows with images or audio nothing is said.
    """

    exact: Final = False

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self.name = encoding.name

    @classmethod
    def open(cls, model: str, env: Mapping[str, str] = os.environ) -> "Tiktoken":
        """The counter for a model of OpenAI, a tuned one (`ft:...`) too. Blocks for half a second.

        Never downloads: raises NotHere unless tiktoken is installed, knows the model, and has the encoding in its
        cache (TIKTOKEN_CACHE_DIR, or its default) with the published sha256.
        """
        try:
            import tiktoken  # an extra
        except ModuleNotFoundError:
            raise NotHere("tiktoken is not installed", "pip install 'ft-orchestrator[data]'") from None
        # tiktoken takes ft:gpt-4.1 for a gpt-4.
        base = model.removeprefix("ft:").partition(":")[0]
        try:
            name = tiktoken.encoding_name_for_model(base)
        except KeyError:
            raise NotHere(f"tiktoken does not know the model {base}", "update tiktoken") from None
        if name not in _PUBLISHED or not cached(*_PUBLISHED[name], env):
            fix = f"python -c \"import tiktoken; tiktoken.get_encoding('{name}')\" where there is a network"
            raise NotHere(f"the encoding {name} is not in tiktoken's cache", fix)
        return cls(tiktoken.get_encoding(name))

    def count(self, rows: Sequence[Example]) -> list[Count | Uncounted]:
        """Narrow ranges: see the class."""
        measure = self._measured(rows, _count)
        return [_count(row, measure, _OPENAI) for row in rows]

    def learned(self, rows: Sequence[Example]) -> list[Range | Uncounted]:
        """The answers that have weight, with none or all of their marks."""
        measure = self._measured(rows, _learned)
        return [_learned(row, measure, _OPENAI) for row in rows]

    def _measured(self, rows: Sequence[Example], walk: "_Walk") -> "_Measure":
        """What knows the tokens of all texts that `walk` asks for: it walks once to collect them, for one batch."""
        seen: dict[str, None] = {}

        def collect(texts: Sequence[str]) -> Range:
            seen.update(dict.fromkeys(texts))
            return Range(0, 0)

        for row in rows:
            walk(row, collect, _OPENAI)
        ids = self._encoding.encode_ordinary_batch(list(seen), num_threads=os.cpu_count() or 1)
        sizes = dict(zip(seen, map(len, ids), strict=True))

        def look_up(texts: Sequence[str]) -> Range:
            size = sum(map(sizes.__getitem__, texts))
            return Range(size, size)

        return look_up


def cached(url: str, sha256: str, env: Mapping[str, str]) -> bool:
    """True if tiktoken will find the file of this address in its cache, whole, and so will not download it."""
    folder = env.get("TIKTOKEN_CACHE_DIR", env.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    if not folder:
        # To tiktoken this means: no cache.
        return False
    try:
        with (Path(folder) / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


#: The tokens of some texts together.
_Measure = Callable[[Sequence[str]], Range]
_Walk = Callable[[Example, _Measure, _Marks], Any]
_MEDIA: Final = Uncounted("it has images, audio or files, whose tokens only the provider can tell")


def _count(row: Example, measure: _Measure, marks: _Marks) -> Count | Uncounted:
    parts = []
    for messages in lists(row):
        part = _messages(messages, measure, marks)
        if part is None:
            return _MEDIA
        parts.append(part)
    extra = marks.sequence if row.tools is None else _plus(marks.sequence, _tools(row, measure, marks))
    first = _plus(parts[0], extra)
    return combined([_plus(first, end) for end in parts[1:]] or [first])


def _learned(row: Example, measure: _Measure, marks: _Marks) -> Range | Uncounted:
    """Of a chat its answers with weight; of others all answers but those in the prompt."""
    ends = lists(row) if isinstance(row, Chat) else lists(row)[1:]
    answers = [m for messages in ends for m in messages if m.role == "assistant" and m.weight != 0]
    found = _messages(answers, measure, marks)
    # The mark before an answer is given to the model.
    return _MEDIA if found is None else Range(max(found.low - marks.message.low * len(answers), 0), found.high)


def _messages(messages: Sequence[Message], measure: _Measure, marks: _Marks) -> Range | None:
    """All of them with their marks; None if they have more than text."""
    texts: list[str] = []
    calls = named = 0
    for message in messages:
        content = message.content
        # Nearly all messages are of this kind, and one more call for each is seconds in a gigabyte.
        if type(content) is str and not (message.tool_calls or message.refusal or message.name):
            texts.append(content)
            continue
        if isinstance(content, list) and not all(isinstance(part, Text | Refusal) for part in content):
            return None
        texts += _texts(message)
        calls += len(message.tool_calls or ())
        named += message.name is not None
    low, high = measure(texts)
    count = len(messages)
    return Range(
        low + count * marks.message.low + calls * marks.call.low,
        high + count * marks.message.high + calls * marks.call.high + _NAMED * named,
    )


def _texts(message: Message) -> list[str]:
    """All texts of a message, those in parts too."""
    found = [message.content] if isinstance(message.content, str) else []
    for part in message.content if isinstance(message.content, list) else ():
        if isinstance(part, Text | Refusal):
            found.append(part.text if isinstance(part, Text) else part.refusal)
    found += [text for text in (message.refusal, message.name) if text is not None]
    for call in message.tool_calls or ():
        found += [call.function.name, call.function.arguments]
    return found


def _tools(row: Example, measure: _Measure, marks: _Marks) -> Range:
    low, high = measure([msgspec.json.encode(row.tools).decode()])
    return Range(floor(low * marks.schema[0]) + marks.tools.low, ceil(high * marks.schema[1]) + marks.tools.high)


def _plus(one: Range, other: Range) -> Range:
    return Range(one.low + other.low, one.high + other.high)
