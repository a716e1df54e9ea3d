"""Layouts of preferences and labels: what they hold they give back, and what they write is sound."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.example import (
    Audio,
    Document,
    File,
    Function,
    FunctionCall,
    Image,
    ImageUrl,
    Label,
    Message,
    Preference,
    Refusal,
    Sound,
    Text,
    Tool,
    ToolCall,
    lists,
    plain,
)
from finetune.data.faults import Fault
from finetune.data.formats import FORMATS, Format, recognise
from finetune.data.formats.calls import as_object, as_text
from tests.support.examples import labels, preferences
from tests.support.mutants import mutants

NAMES = ("openai-dpo", "preference", "kto", "gemini-preference", "together-preference", "fireworks-dpo")
#: Their keys are OpenAI's, so they are read only when a recipe names them.
NAMED_ONLY = ("together-preference", "fireworks-dpo")

ASKED = [{"role": "user", "content": "q"}]
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}


def examples(name: str) -> st.SearchStrategy[Any]:
    of = labels if FORMATS[name].kind == "label" else preferences
    plainly = of(tools=False, media=False, images=False, names=False, refusals=False, weights=False, system="first")
    return of() | plainly


def as_read(row: Any) -> Any:
    """What a file holds after the row was written to it."""
    return json.loads(json.dumps(row))


def faults(format: Format, row: Any) -> list[Fault]:
    assert format.shape is not None
    return list(format.shape(row, ""))


def without_ones(message: Message) -> None:
    """A weight of 1 says what holds without it."""
    message.weight = None if message.weight == 1 else message.weight


def plain_arguments(message: Message) -> None:
    """Arguments that are an object have one way of writing."""
    for each in message.tool_calls or ():
        said = as_object(each.function.arguments)
        each.function.arguments = each.function.arguments if said is None else as_text(said)


def joined(message: Message) -> None:
    """Text parts are one text."""
    if isinstance(message.content, list) and all(isinstance(part, Text) for part in message.content):
        message.content = plain(message.content)


def one_part(message: Message) -> None:
    """One text part is that text."""
    if isinstance(message.content, list) and len(message.content) == 1:
        joined(message)


def none_beside_calls(message: Message) -> None:
    """An empty content beside calls is none."""
    if message.tool_calls and not message.content:
        message.content = None


#: What a layout makes of messages without a loss, by its docstring.
NORMAL: dict[str, tuple[Callable[[Message], None], ...]] = {
    "openai-dpo": (),
    "preference": (without_ones, plain_arguments),
    "kto": (without_ones, plain_arguments),
    "gemini-preference": (without_ones, one_part),
    "together-preference": (one_part, none_beside_calls),
    "fireworks-dpo": (without_ones, joined),
}


def normal(name: str, example: Any) -> Any:
    """The normal form that the layout of this name states."""
    out = msgspec.convert(msgspec.to_builtins(example), type(example))
    for parts in lists(out):
        for message in parts:
            for change in NORMAL[name]:
                change(message)
    if isinstance(out, Preference):
        for message in (out.chosen[-1], out.rejected[-1]):
            without_ones(message)
    if name in ("together-preference", "gemini-preference"):
        out.tools = out.tools or None
    if name == "together-preference":
        every = [message for parts in lists(out) for message in parts]
        listed = [part for each in every if isinstance(each.content, list) for part in each.content]
        for message in every if not any(isinstance(each, Image) for each in listed) else ():
            joined(message)
            none_beside_calls(message)
    return out


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_written_is_sound_and_read_again(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    example = data.draw(examples(name))
    assert format.write is not None
    assert format.read is not None

    row = as_read(format.write(example))

    assert faults(format, row) == []
    assert format.recognises(row) == (name not in NAMED_ONLY)
    if not format.losses(example):
        assert format.read(row) == normal(name, example)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_a_shape_lets_through_can_be_read_and_written(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    assert format.write is not None
    assert format.read is not None
    row = data.draw(mutants(examples(name).map(format.write)))  # type: ignore[arg-type]
    before = json.dumps(row)

    found = faults(format, row)

    assert json.dumps(row) == before
    for fault in found:
        assert fault.what
        assert fault.fix
        assert fault.code.startswith("E")
    if not found:
        example = format.read(row)
        assert faults(format, as_read(format.write(example))) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_is_sound(name: str) -> None:
    format = FORMATS[name]
    row = json.loads(format.sample)

    assert faults(format, row) == []
    assert format.read is not None
    assert isinstance(format.read(row), Label if format.kind == "label" else Preference)


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_recognised_as_their_own(name: str) -> None:
    found = recognise(json.loads(FORMATS[name].sample))

    assert found is not None
    assert found.name == ("openai-dpo" if name in NAMED_ONLY else name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "row",
    [
        {},
        {"messages": [*ASKED, GOOD]},
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "response": "a"},
        {"text": "a"},
        {"instruction": "q", "output": "a"},
        {"contents": [{"role": "user", "parts": [{"text": "q"}]}]},
        {"prompt": "q", "completions": ["a", "b"], "labels": [True, False]},
    ],
)
def test_rows_of_other_layouts_are_not_claimed(name: str, row: dict[str, Any]) -> None:
    assert not FORMATS[name].recognises(row)


def test_ultrafeedback_is_told_from_a_chat() -> None:
    row = {"prompt": "q", "messages": [*ASKED, GOOD], "chosen": [*ASKED, GOOD], "rejected": [*ASKED, BAD]}

    found = recognise(row)

    assert found is not None
    assert found.name == "preference"


PAIR = Preference([Message("user", "q")], [Message("assistant", "good")], [Message("assistant", "bad")])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": ASKED, "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "q", "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": ASKED, "chosen": "good", "rejected": "bad"},
        {"chosen": [*ASKED, GOOD], "rejected": [*ASKED, BAD]},
        {"prompt": None, "tools": None, "chosen": [*ASKED, {**GOOD, "name": None}], "rejected": [*ASKED, BAD]},
        {"chosen": [{**ASKED[0], "name": None}, GOOD], "rejected": [*ASKED, BAD]},
        # UltraFeedback's.
        {
            "prompt": " q\n", "prompt_id": "1", "messages": [*ASKED, GOOD], "score_chosen": 8.5, "score_rejected": 1,
            "chosen": [*ASKED, GOOD], "rejected": [*ASKED, BAD],
        },
    ],
)  # fmt: skip
def test_all_ways_to_write_a_preference(row: dict[str, Any]) -> None:
    format = FORMATS["preference"]

    assert faults(format, row) == []
    assert format.read is not None
    assert format.read(row) == PAIR


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "answers"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is", (" blue.", " green.")),
        ("It is blue", "It is black", "It is", (" blue", " black")),
        ("Q: a\n\nA: Yes", "Q: a\n\nA: You", "Q: a\n\nA:", (" Yes", " You")),
        ("Q\n\nyes", "Q\n\nno", "Q\n\n", ("yes", "no")),
        ("a b", "a b c", "a", (" b", " b c")),
    ],
)
def test_an_implicit_prompt_of_texts_ends_with_a_word(
    chosen: str, rejected: str, prompt: str, answers: tuple[str, str]
) -> None:
    format = FORMATS["preference"]
    row = {"chosen": chosen, "rejected": rejected}

    assert faults(format, row) == []
    assert format.read is not None
    example = format.read(row)
    assert isinstance(example, Preference)
    assert example.prompt == [Message("user", prompt)]
    assert (example.chosen[0].content, example.rejected[0].content) == answers


def call(arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look", "arguments": arguments}, **more}


def test_calls_as_chat_templates_have_them() -> None:
    format = FORMATS["kto"]
    row = {
        "prompt": [
            *ASKED,
            {"role": "assistant", "tool_calls": [call({"a": 1}), call({"b": 2})]},
            {"role": "tool", "name": "look", "content": "1"},
            {"role": "tool", "name": "look", "content": "2"},
        ],
        "completion": [
            {"role": "assistant", "content": None, "tool_calls": [call('{"c":3}', id=None)]},
            {"role": "tool", "name": "look", "content": "3"},
            GOOD,
        ],
        "label": True,
        "tools": '[{"type": "function", "function": {"name": "look"}}]',
    }

    assert faults(format, row) == []
    assert format.read is not None
    example = format.read(row)
    assert isinstance(example, Label)
    ids = [(each.tool_calls[0].id if each.tool_calls else each.tool_call_id) for each in example.completion[:2]]
    assert ids == ["call_3", "call_3"]
    assert [each.tool_call_id for each in example.prompt[2:]] == ["call_1", "call_2"]
    assert example.prompt[1].tool_calls is not None
    assert example.prompt[1].tool_calls[0].function.arguments == '{"a": 1}'
    assert example.completion[0].tool_calls is not None
    assert example.completion[0].tool_calls[0].function.arguments == '{"c":3}'
    assert example.tools is not None
    assert example.tools[0].function.name == "look"


CALL = ToolCall("1", FunctionCall("look", "no JSON"))
PICTURE = Image(ImageUrl("https://a.example/a.png", "low"))
#: With all that some layout has no place for.
FULL = Preference(
    [
        Message("system", "s"),
        Message("user", [Text("a"), PICTURE], name="n"),
        Message("assistant", "", weight=0),
        Message("assistant", [Text(" ")], weight=1),
        Message("assistant", tool_calls=[CALL]),
        Message("tool", "r", tool_call_id="1"),
        Message("system", "late"),
        Message("user", [Audio(Sound("AAAA", "wav")), File(Document(file_id="f"))]),
    ],
    [Message("assistant", "b", weight=1), Message("assistant", "c", weight=1)],
    [Message("assistant", [Refusal("no")], refusal="never", weight=0)],
    [Tool(Function("look", strict=True))],
    True,
)
LOST = {
    "openai-dpo": ["messages before the last of an answer", "message weights"],
    "preference": ["message weights", "settings of parallel tool calls"],
    "kto": ["message weights", "settings of parallel tool calls"],
    "gemini-preference": [
        "several system messages",
        "system messages after the first turn",
        "message weights",
        "names of speakers",
        "images",
        "audio",
        "files",
        "refusals as such",
        "tool calls and their results",
        "tools",
        "settings of parallel tool calls",
        "answers in the prompt that say nothing",
        "messages before the last of an answer",
    ],
    "together-preference": [
        "several system messages",
        "system messages after the first turn",
        "names of speakers",
        "levels of detail of images",
        "audio",
        "files",
        "refusals as such",
        "strict flags of tools",
        "settings of parallel tool calls",
        "images other than a data: URL of a PNG, JPEG or WEBP in base64",
        "arguments of tool calls that are no JSON object",
        "messages before the last of an answer",
        "message weights",
    ],
    "fireworks-dpo": [
        "message weights",
        "names of speakers",
        "images",
        "audio",
        "files",
        "refusals as such",
        "tool calls and their results",
        "strict flags of tools",
        "settings of parallel tool calls",
        "earlier turns",
        "messages before the last of an answer",
    ],
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_lost_is_said_and_the_rest_is_sound(name: str) -> None:
    format = FORMATS[name]
    example: Any = FULL
    if format.kind == "label":
        example = Label(FULL.prompt, FULL.chosen, True, FULL.tools, FULL.parallel_tool_calls)
    assert format.write is not None
    assert format.read is not None

    row = as_read(format.write(example))

    assert format.losses(example) == LOST[name]
    assert faults(format, row) == []
    again = format.read(row)
    assert format.losses(again) == []
    assert as_read(format.write(again)) == row
    answers = [each for part in lists(again)[1:] for each in part]
    assert all(each.weight is None for each in answers)


def test_texts_of_a_row_are_what_was_said() -> None:
    format = FORMATS["fireworks-dpo"]
    assert format.write is not None

    assert format.write(FULL) == {
        "input": {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "system", "content": "late"},
                {"role": "user", "content": ""},
            ],
            "tools": [{"type": "function", "function": {"name": "look"}}],
        },
        "preferred_output": [{"role": "assistant", "content": "c"}],
        "non_preferred_output": [{"role": "assistant", "content": "no\nnever"}],
    }
