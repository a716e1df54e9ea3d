"""Sound examples of all kinds, as odd as the checks allow: what formats and checks are tested with.

Each keyword leaves a part of what an example may have away; all are there by default.
"""

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from finetune.data.example import (
    Audio,
    Chat,
    Document,
    File,
    Function,
    FunctionCall,
    Image,
    ImageUrl,
    Label,
    Message,
    Part,
    Preference,
    Refusal,
    Sound,
    Text,
    Tool,
    ToolCall,
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", " ", "a\nb", "\u2028", "ß"]
)
filled = words.filter(str.strip)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(words, _values, max_size=3)
_odd_arguments = st.sampled_from(
    [
        "",
        " ",
        "no JSON",
        "[1]",
        "1",
        '"text"',
        "{",
        '{"a": 1, "a": 2}',
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": "\\ud800"}',
    ]
)
_odd_objects = st.sampled_from(
    ['{"a":1}', ' {"a": 1}', '{"a":\n[1 , 2]}', '{"a": 1.10}', '{"a": 0.1000000000000000055}']
)
arguments = objects.map(json.dumps) | _odd_objects | _odd_arguments
#: Arguments that are an object in whatever reader, and without a choice of how to write it.
plain_arguments = st.dictionaries(words, st.integers(-99, 99) | words | st.booleans(), max_size=2).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)

_PLACES = (
    "data:image/png;base64,AAAA",
    "data:image/jpeg;base64,AA+/",
    "data:image/webp;base64,AAA=",
    "data:image/gif;base64,AAAA",
    "data:image/png,AAAA",
    "data:application/pdf;base64,AAAA",
    "https://a.example/a.png",
    "https://a.example/a.JPG?size=1",
    "https://a.example/a",
    "gs://bucket/a b.webp",
    "gs://bucket/a.tiff",
    "s3://bucket/a.jpeg",
    "s3://bucket.png/a",
)
_places = st.sampled_from(_PLACES)
_schemas = st.sampled_from(
    [
        None,
        {},
        {"type": "object", "properties": {"type": {"type": "string", "enum": ["a"]}}, "required": ["type"]},
        {"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "items": {"type": "Integer"}}}},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        {"type": "object", "properties": {}, "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "integer"}}},
        {"items": 1, "anyOf": {}, "properties": []},
    ]
)
_NAMES = ("look_up", "add", "a.b")


@dataclass(frozen=True)
class _With:
    tools: bool = True
    images: bool = True
    #: Audio and files.
    media: bool = True
    #: Content in several text parts.
    parts: bool = True
    names: bool = True
    refusals: bool = True
    weights: bool = True
    #: No system message ("none"), at most one and that first ("first"), or any of them anywhere ("any").
    system: str = "any"
    #: Questions and answers in turn, calls answered in their order, arguments that every reader reads alike.
    ordered: bool = False
    #: How many questions or answers at most before the last ones.
    turns: int = 3

    def name(self) -> st.SearchStrategy[str | None]:
        return st.none() | st.none() | filled if self.names else st.none()

    def weight(self) -> st.SearchStrategy[Any]:
        return st.sampled_from([None, None, None, 0, 1]) if self.weights else st.none()

    def text(self, least: int = 0) -> st.SearchStrategy[Any]:
        """The content of a message that says text only, and with `least` = 1 something."""
        one = filled if least else words
        if not self.parts:
            return one
        several = st.lists(st.builds(Text, words), min_size=1, max_size=3)
        return one | (several.filter(lambda every: any(each.text.strip() for each in every)) if least else several)

    def asked(self) -> st.SearchStrategy[Any]:
        kinds: list[st.SearchStrategy[Part]] = [st.builds(Text, words)]
        if self.images:
            detail = st.sampled_from([None, None, None, "auto", "low", "high"])
            kinds.append(st.builds(Image, st.builds(ImageUrl, _places, detail)))
        if self.media:
            kinds.append(st.builds(Audio, st.builds(Sound, st.just("AAAA"), st.sampled_from(["wav", "mp3"]))))
            kinds.append(st.builds(File, st.builds(Document, st.none() | words, st.none() | words, st.none() | words)))
        rich = st.lists(st.one_of(kinds), min_size=1, max_size=3)
        return self.text() | rich if len(kinds) > 1 else self.text()


class _Ids:
    """Ids of the calls of one conversation, all in one manner."""

    def __init__(self, draw: st.DrawFn, ordered: bool) -> None:
        manners = ["call_{}", "{:09}", "abc{:06}", "id {}\n", "chatcmpl-tool-0123456789abcdef{}"]
        self._manner = draw(st.sampled_from([*manners, "again"]) if not ordered else st.sampled_from(manners))
        self._count = 0

    def next(self, place: int) -> str:
        """Different from all others; in a conversation that counts anew in each message, from those of the message."""
        self._count += 1
        return f"again {place}" if self._manner == "again" else self._manner.format(self._count)


@st.composite
def _calls(draw: st.DrawFn, has: _With, ids: _Ids) -> list[Message]:
    """An answer with calls, and results."""
    said = st.none() | st.just("") if has.ordered else st.none() | st.none() | has.text()
    given = plain_arguments if has.ordered else arguments
    calls = [
        ToolCall(ids.next(place), FunctionCall(draw(st.sampled_from(_NAMES)), draw(given)))
        for place in range(draw(st.integers(1, 3)))
    ]
    # A content with refusing parts is one of refusals; that is the other kind of answer.
    call = Message("assistant", draw(said), draw(has.name()), weight=draw(has.weight()), tool_calls=calls)
    results = [_result(draw, has, each) for each in calls]
    if has.ordered:
        return [call, *results]
    results = results[: draw(st.integers(0, len(results)))]
    return [call, *draw(st.permutations(results) | st.just(results))]


def _result(draw: st.DrawFn, has: _With, call: ToolCall) -> Message:
    name = st.just(call.function.name) if has.ordered else st.sampled_from([call.function.name, "other"])
    odd = st.sampled_from(['{"output": "a"}', '{"output": 1}', '{"a":1.0}'])
    said = has.text() | objects.map(json.dumps) | odd
    return Message("tool", draw(said), draw(st.none() | name if has.names else st.none()), tool_call_id=call.id)


@st.composite
def _answer(draw: st.DrawFn, has: _With, weight: Any) -> Message:
    """An answer of the assistant; one that counts says something."""
    name = draw(has.name())
    if has.refusals and draw(st.integers(0, 5)) == 0:
        content = draw(st.none() | has.text())
        return Message("assistant", content, name, draw(filled), weight)
    said = has.text() if weight == 0 else has.text(least=1)
    if has.refusals and draw(st.integers(0, 5)) == 0:
        said = st.lists(st.builds(Refusal, filled) | st.builds(Text, words), min_size=1, max_size=2).filter(
            lambda every: weight == 0 or any(not isinstance(each, Text) or each.text.strip() for each in every)
        )
    return Message("assistant", draw(said), name, None, weight)


@st.composite
def _turns(draw: st.DrawFn, has: _With, ids: _Ids, most: int) -> list[Message]:
    """Messages that may stand before an answer."""
    asked = st.builds(Message, st.just("user"), has.asked(), has.name())
    out: list[Message] = []
    for _ in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(["ask", "answer", "call"]))
        if has.ordered or kind == "ask":
            out.append(draw(asked))
        if has.tools and (kind == "call" or (has.ordered and draw(st.booleans()))):
            out += draw(_calls(has, ids))
        if has.ordered or kind == "answer":
            out.append(draw(_answer(has, draw(has.weight()))))
    if has.ordered or draw(st.booleans()):
        out.append(draw(asked))
    return out


@st.composite
def _with_systems(draw: st.DrawFn, has: _With, messages: list[Message]) -> list[Message]:
    # An ordered one says something, where others may be blank.
    said = has.text(least=1) if has.ordered else has.text()
    one = st.builds(Message, st.just("system"), said, has.name())
    out = list(messages)
    if has.system == "none":
        return out
    if draw(st.booleans()):
        out.insert(0, draw(one))
    if has.system == "any" and draw(st.integers(0, 3)) == 0:
        out.insert(draw(st.integers(0, max(0, len(out) - 1))), draw(one))
    return out


@st.composite
def _tools(draw: st.DrawFn, has: _With) -> tuple[list[Tool] | None, bool | None]:
    if not has.tools:
        return None, None
    strict = st.none() if has.ordered else st.sampled_from([None, None, True, False])
    function = st.builds(Function, st.sampled_from(_NAMES), st.none() | words, _schemas, strict)
    listed = draw(st.none() | st.lists(st.builds(Tool, function), max_size=2))
    return listed, draw(st.none() if has.ordered else st.sampled_from([None, None, None, True, False]))


@st.composite
def chats(draw: st.DrawFn, **has: Any) -> Chat:
    """Conversations in which an answer is learned. Keywords: the fields of `_With`."""
    of = _With(**has)
    turns = draw(_turns(of, _Ids(draw, of.ordered), of.turns))
    counts = any(each.role == "assistant" and each.weight != 0 for each in turns)
    weight = draw(of.weight())
    messages = [*turns, draw(_answer(of, weight if counts or weight != 0 else None))]
    return Chat(draw(_with_systems(of, messages)), *draw(_tools(of)))


@st.composite
def _prompts(draw: st.DrawFn, has: _With, ids: _Ids) -> list[Message]:
    turns = draw(_turns(has, ids, has.turns))
    asked = draw(st.builds(Message, st.just("user"), has.asked(), has.name()))
    turns = turns if turns and turns[-1].role == "user" else [*turns, asked]
    return draw(_with_systems(has, turns[:-1])) + turns[-1:]


@st.composite
def _endings(draw: st.DrawFn, has: _With, ids: _Ids) -> list[Message]:
    before = draw(_calls(has, ids)) if has.tools and draw(st.integers(0, 3)) == 0 else []
    return [*before, draw(_answer(has, draw(has.weight().filter(lambda weight: weight != 0))))]


@st.composite
def preferences(draw: st.DrawFn, **has: Any) -> Preference:
    """Conversations with two answers that differ. Keywords: the fields of `_With`."""
    of = _With(**has)
    ids = _Ids(draw, of.ordered)
    prompt, chosen = draw(_prompts(of, ids)), draw(_endings(of, ids))
    rejected = draw(_endings(of, ids).filter(lambda answer: answer != chosen))
    return Preference(prompt, chosen, rejected, *draw(_tools(of)))


@st.composite
def labels(draw: st.DrawFn, **has: Any) -> Label:
    """Conversations with an answer that is good or bad. Keywords: the fields of `_With`."""
    of = _With(**has)
    ids = _Ids(draw, of.ordered)
    return Label(draw(_prompts(of, ids)), draw(_endings(of, ids)), draw(st.booleans()), *draw(_tools(of)))
