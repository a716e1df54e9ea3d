"""Layouts of chats: what they hold they give back, what they cannot hold they name, and what they write is sound."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings

from finetune.data import checks
from finetune.data.example import Chat, FunctionCall, Message, Text, ToolCall, canonical
from finetune.data.formats import FORMATS
from tests.support.examples import chats
from tests.support.mutants import mutants
from tests.unit.data.formats.chats.normal import NORMAL, by_first_use
from tests.unit.data.formats.chats.rows import FITTING, NAMES, PATIENT, read, written


def same(name: str, chat: Chat) -> Chat:
    return by_first_use(chat) if name == "mistral" else chat


#: Nothing is said beside the call, in one part.
EMPTY_PART = Chat(
    [
        Message("user", "hello"),
        Message("assistant", [Text("")], tool_calls=[ToolCall("call_1", FunctionCall("look_up", "{}"))]),
        Message("tool", "found", tool_call_id="call_1"),
        Message("assistant", "yes"),
    ]
)


@pytest.mark.parametrize("name", NAMES)
@PATIENT
@given(chat=chats() | chats(ordered=True))
@example(EMPTY_PART)
def test_what_is_written_is_sound_and_loses_only_what_is_named(name: str, chat: Chat) -> None:
    losses = FORMATS[name].losses(chat)
    assert len(losses) == len(set(losses))
    back = read(name, written(name, chat))
    assert checks.faults(back, None) == []
    if losses:
        assert same(name, back) != NORMAL[name](chat), f"nothing is lost, but named are {losses}"
    else:
        assert same(name, back) == NORMAL[name](chat)


@pytest.mark.parametrize("name", NAMES)
def test_most_of_what_a_format_is_for_comes_back(name: str) -> None:
    held = []

    @settings(PATIENT, max_examples=300, database=None)
    @given(chat=chats(**FITTING[name]))
    def holds(chat: Chat) -> None:
        if not FORMATS[name].losses(chat):
            back = read(name, written(name, chat))
            assert same(name, back) == NORMAL[name](chat)
            # And once it is in its normal form, nothing changes any more.
            assert written(name, back) == written(name, chat)
            held.append(len(chat.messages))

    holds()
    assert len(held) >= 15


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_a_shape_lets_through_can_be_read(name: str) -> None:
    let_through = []

    @settings(PATIENT, max_examples=120, database=None)
    @given(row=mutants(chats(**FITTING[name]).map(lambda chat: written(name, chat))))
    def reads(row: dict[str, Any]) -> None:
        shape, reader = FORMATS[name].shape, FORMATS[name].read
        assert shape is not None
        assert reader is not None
        found = list(shape(row, ""))
        for fault in found:
            assert fault.what
            assert fault.fix
            "".join(map(str, fault)).encode()
        if not any(fault.level == "error" for fault in found):
            chat = reader(row)
            assert msgspec.json.decode(canonical(chat), type=Chat) == chat
            let_through.append(row)

    reads()
    assert len(let_through) >= 10
