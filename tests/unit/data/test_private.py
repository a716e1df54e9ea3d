"""Personal data in whole rows: found in every text, and taken out of all of them."""

import json

from hypothesis import given, settings

from finetune.data.example import Chat, FunctionCall, Label, Message, Preference, Refusal, Text, ToolCall, texts
from finetune.data.private import faults, redacted
from tests.support.examples import chats

MAIL = "ann.lee@mail.acme.org"
CARD = "4242 4242 4242 4242"


def call(arguments: str) -> Message:
    return Message("assistant", tool_calls=[ToolCall("c1", FunctionCall("pay", arguments))])


def test_each_kind_is_told_once_and_never_the_value() -> None:
    row = Chat([Message("user", f"{MAIL} and bob@mail.acme.org"), Message("assistant", f"card {CARD}")])
    found = list(faults(row, "warning"))
    assert [(each.code, each.level) for each in found] == [("E240", "warning")] * 2
    assert not any(secret in str(each) for each in found for secret in (MAIL, "4242"))


def test_every_text_of_every_kind_of_row_is_looked_at() -> None:
    mail = Message("assistant", MAIL)
    rows = [
        Chat([Message("assistant", [Text(MAIL)])]),
        Chat([Message("assistant", [Refusal(MAIL)])]),
        Chat([Message("assistant", refusal=MAIL)]),
        Chat([call(json.dumps({"to": MAIL}))]),
        Preference([mail], [Message("assistant", "a")], [Message("assistant", "b")]),
        Preference([Message("user", "q")], [mail], [Message("assistant", "b")]),
        Preference([Message("user", "q")], [Message("assistant", "a")], [mail]),
        Label([Message("user", "q")], [mail], True),
    ]
    for row in rows:
        assert list(faults(row, "error")), row
        clean = redacted(row)
        assert MAIL not in "".join(texts(clean))
        assert "[EMAIL_1]" in "".join(texts(clean))
        assert not list(faults(clean, "error"))
        assert type(clean) is type(row)


def test_what_is_the_same_gets_the_same_placeholder_all_through_a_row() -> None:
    row = Chat([Message("user", f"{MAIL}, bob@mail.acme.org"), Message("assistant", f"To {MAIL}.")])
    assert [message.content for message in redacted(row).messages] == ["[EMAIL_1], [EMAIL_2]", "To [EMAIL_1]."]


def test_arguments_stay_json_even_where_a_number_goes() -> None:
    arguments = json.dumps({"card": 4242424242424242, "amount": 12, "note": f"for {MAIL}", "list": [MAIL, True, None]})
    (message,) = redacted(Chat([call(arguments)])).messages
    assert message.tool_calls is not None
    assert json.loads(message.tool_calls[0].function.arguments) == {
        "card": "[CARD_1]",
        "amount": 12,
        "note": "for [EMAIL_1]",
        "list": ["[EMAIL_1]", True, None],
    }


@settings(max_examples=60, deadline=None)
@given(row=chats())
def test_a_row_without_personal_data_stays_as_it_is(row: Chat) -> None:
    if not list(faults(row, "error")):
        assert redacted(row) == row
