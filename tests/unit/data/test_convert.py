"""Lines in a target's layout: nothing is lost silently, and equal examples give equal lines."""

import json
import pickle
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.codes import CODES
from finetune.data.convert import Writer
from finetune.data.example import (
    KINDS,
    Chat,
    Function,
    FunctionCall,
    Label,
    Message,
    Preference,
    Tool,
    ToolCall,
    canonical,
)
from finetune.data.findings import LINES
from finetune.data.formats import FORMATS
from tests.support.examples import chats, labels, preferences

USER = Message("user", "q")
GOOD = Message("assistant", "good")
BAD = Message("assistant", "bad")
CHAT = Chat([USER, GOOD])
PAIR = Preference([Message("user", "p"), Message("assistant", "r"), USER], [GOOD], [BAD])
LABEL = Label([USER], [GOOD], True)
#: Loses the setting in all of TRL's layouts.
PARALLEL = Preference([USER], [GOOD], [BAD], parallel_tool_calls=True)

WRITTEN = [name for name, format in FORMATS.items() if format.write]
EXAMPLES: dict[str, st.SearchStrategy[Any]] = {"chat": chats(), "preference": preferences(), "label": labels()}


def writer(name: str, lossy: bool = False) -> Writer:
    return Writer(FORMATS[name], lossy)


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_line_is_the_row_that_the_format_writes(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    drawn = data.draw(EXAMPLES[format.kind])
    # With the keys of schemas in their settled order, which shows where they are written as text.
    example = msgspec.json.decode(canonical(drawn), type=type(drawn))
    assert example == drawn
    losses = format.losses(example)

    strict, lossy = writer(name), writer(name, lossy=True)
    refused, line = strict.line(1, drawn), lossy.line(1, drawn)

    assert line is not None
    assert b"\n" not in line
    assert format.write is not None
    assert json.loads(line) == json.loads(json.dumps(format.write(example)))
    assert refused == (None if losses else line)
    for found, level in ((strict.problems("a"), "error"), (lossy.problems("a"), "warning")):
        assert [(each.code, each.level, each.line, each.count) for each in found] == [("E247", level, 1, 1)] * len(
            losses
        )


def test_a_chat_for_openai_is_written_as_it_is() -> None:
    line = writer("openai").line(1, CHAT)

    assert line == canonical(CHAT)
    assert line == b'{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"good"}]}'


@pytest.mark.parametrize("name", WRITTEN)
def test_the_order_of_keys_in_a_schema_does_not_show(name: str) -> None:
    def example(parameters: dict[str, Any]) -> Any:
        tools = [Tool(Function("f", parameters=parameters))]
        kinds: dict[str, Any] = {"chat": Chat, "preference": Preference, "label": Label}
        rest = {"chat": ([USER, GOOD],), "preference": ([USER], [GOOD], [BAD]), "label": ([USER], [GOOD], True)}
        return kinds[FORMATS[name].kind](*rest[FORMATS[name].kind], tools=tools)

    one = example({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}})
    other = example({"properties": {"b": {"type": "string"}, "a": {"type": "string"}}, "type": "object"})

    assert one == other
    assert writer(name, lossy=True).line(1, one) == writer(name, lossy=True).line(1, other)


def test_what_would_be_lost_is_told_once_with_all_its_rows() -> None:
    strict = writer("preference")

    assert [strict.line(number, each) for number, each in enumerate([PAIR, PARALLEL, PARALLEL, PAIR], 1)][1:3] == [
        None,
        None,
    ]
    (problem,) = strict.problems("rows.jsonl", "say so")

    assert (problem.code, problem.level, problem.file) == ("E247", "error", "rows.jsonl")
    assert (problem.line, problem.count, problem.also) == (2, 2, (3,))
    assert "settings of parallel tool calls" in problem.what
    assert problem.fix == "say so"


def test_what_is_lost_on_purpose_is_a_warning() -> None:
    lossy = writer("preference", lossy=True)
    line = lossy.line(7, PARALLEL)

    assert line is not None
    assert "parallel_tool_calls" not in json.loads(line)
    (problem,) = lossy.problems("rows.jsonl")
    assert (problem.code, problem.level, problem.line, problem.count) == ("E247", "warning", 7, 1)


def test_each_loss_of_a_row_is_told() -> None:
    example = replace_prompt(PARALLEL, weight=0)
    strict = writer("preference")
    strict.line(1, example)

    assert [each.what.rpartition(" for ")[2] for each in strict.problems("a")] == [
        "message weights",
        "settings of parallel tool calls",
    ]


def replace_prompt(example: Preference, weight: Any) -> Preference:
    prompt = [Message("user", "p"), Message("assistant", "r", weight=weight), *example.prompt]
    return Preference(prompt, example.chosen, example.rejected, example.tools, example.parallel_tool_calls)


def test_problems_stand_in_the_order_of_the_rows() -> None:
    strict = writer("preference")
    for number, example in enumerate([PAIR, CHAT, PARALLEL, LABEL], 1):
        strict.line(number, example)

    assert [(each.line, each.code) for each in strict.problems("a")] == [(2, "E249"), (3, "E247"), (4, "E249")]


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize(
    ("to", "example"),
    [
        ("openai-dpo", CHAT),
        ("openai-dpo", LABEL),
        ("gemini-preference", CHAT),
        ("kto", CHAT),
        ("kto", PAIR),
    ],
)
def test_what_cannot_be_made_is_refused(to: str, example: Any, lossy: bool) -> None:
    target = writer(to, lossy)

    assert target.line(3, example) is None
    (problem,) = target.problems("a")

    assert (problem.code, problem.level, problem.line) == ("E249", "error", 3)
    kind = KINDS[type(example)]
    assert all(FORMATS[name].kind == kind for name in problem.fix.rpartition(": ")[2].split(", "))
    assert problem.code in CODES


def test_better_answers_become_chats_when_that_is_meant() -> None:
    strict, lossy = writer("openai"), writer("openai", lossy=True)

    assert strict.line(1, PAIR) is None
    line = lossy.line(1, PAIR)

    assert [(each.code, each.level) for each in strict.problems("a")] == [("E249", "error")]
    assert "--lossy" in strict.problems("a")[0].fix
    assert line is not None
    assert json.loads(line) == {
        "messages": [
            {"role": "user", "content": "p"},
            # Only the answer itself is learned.
            {"role": "assistant", "content": "r", "weight": 0},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "good"},
        ]
    }
    (problem,) = lossy.problems("a")
    assert (problem.code, problem.level) == ("E247", "warning")
    assert "rejected answers" in problem.what
    assert PAIR.prompt[1].weight is None


def test_good_answers_become_chats_when_that_is_meant() -> None:
    lossy = writer("openai", lossy=True)

    lines = [lossy.line(1, LABEL), lossy.line(2, Label([USER], [BAD], False))]

    assert lines == [canonical(CHAT), None]
    (problem,) = lossy.problems("a")
    assert (problem.code, problem.level, problem.line, problem.count) == ("E247", "warning", 1, 2)
    assert "bad" in problem.what


def test_accounts_of_parts_add_up() -> None:
    whole, parts = writer("preference"), [writer("preference") for _ in range(3)]
    rows = [(number, CHAT if number % 5 == 0 else PARALLEL) for number in range(1, 61)]
    for number, example in rows:
        whole.line(number, example)
        parts[number // 21].line(number, example)

    first, *later = (pickle.loads(pickle.dumps(each)) for each in parts)
    for each in later:
        first.merge(each)

    assert first.problems("a") == whole.problems("a")
    lost, refused = whole.problems("a")
    assert (lost.count, refused.count) == (48, 12)
    assert len(lost.also) == LINES


def test_a_writer_that_was_sent_writes_on() -> None:
    sent = pickle.loads(pickle.dumps(writer("openai-dpo", lossy=True)))

    assert sent.line(1, PARALLEL) == writer("openai-dpo", lossy=True).line(1, PARALLEL)


def test_a_format_that_is_only_read_cannot_be_written() -> None:
    only_read = replace(FORMATS["openai"], write=None)

    with pytest.raises(ValueError, match="only read"):
        Writer(only_read, lossy=False)


def test_texts_stand_in_a_line_as_utf8() -> None:
    call = ToolCall("1", FunctionCall("f", '{"a": "ß"}'))
    example = Preference([Message("user", "ß\u2028\U0001f600")], [Message("assistant", tool_calls=[call])], [BAD])

    line = writer("openai-dpo").line(1, example)

    assert line is not None
    assert "ß\u2028\U0001f600".encode() in line
    assert json.loads(line)["preferred_output"][0]["tool_calls"][0]["function"]["arguments"] == '{"a": "ß"}'
