"""The examples that formats are tested with are sound, and as odd as they should be."""

from typing import Any

import msgspec
from hypothesis import Phase, given, settings

from finetune.data import checks
from finetune.data.example import Chat, canonical
from finetune.data.formats import FORMATS, openai
from tests.support.examples import chats, labels, preferences
from tests.unit.data.formats.chats.rows import PATIENT

CALM: dict[str, Any] = {
    "tools": False,
    "images": False,
    "media": False,
    "parts": False,
    "names": False,
    "refusals": False,
    "weights": False,
    "system": "none",
}


@PATIENT
@given(chats() | chats(ordered=True) | preferences() | preferences(ordered=True) | labels())
def test_all_of_them_are_sound(example: Any) -> None:
    assert checks.faults(example, None) == []
    assert msgspec.json.decode(canonical(example), type=type(example)) == example


@PATIENT
@given(chats())
def test_the_chats_are_by_openai_s_rules(chat: Chat) -> None:
    shape = FORMATS["openai"].shape
    assert shape is not None
    assert list(shape(openai.write(chat), "")) == []


@PATIENT
@given(chats(**CALM))
def test_what_is_left_away_is_not_there(chat: Chat) -> None:
    assert chat.tools is None
    for each in chat.messages:
        assert each.role in ("user", "assistant")
        assert isinstance(each.content, str)
        assert (each.name, each.refusal, each.weight, each.tool_calls) == (None, None, None, None)


ODD: dict[str, Any] = {
    "the assistant begins": lambda chat: chat.messages[0].role == "assistant",
    "a late system message": lambda chat: any(each.role == "system" for each in chat.messages[1:]),
    "an answer of nothing": lambda chat: any(each.weight == 0 and not each.content for each in chat.messages),
    "several calls at once": lambda chat: any(len(each.tool_calls or ()) > 1 for each in chat.messages),
    "a text beside calls": lambda chat: any(each.tool_calls and each.content for each in chat.messages),
    "a question of nothing": lambda chat: any(each.role == "user" and each.content == "" for each in chat.messages),
    "a refusal": lambda chat: any(each.refusal for each in chat.messages),
    "an empty list of tools": lambda chat: chat.tools == [],
}


def test_odd_ones_are_among_them() -> None:
    seen: set[str] = set()

    @settings(PATIENT, max_examples=250, database=None, derandomize=True, phases=[Phase.generate])
    @given(chats())
    def look(chat: Chat) -> None:
        seen.update(name for name, has in ODD.items() if has(chat))

    look()
    assert seen == set(ODD)
