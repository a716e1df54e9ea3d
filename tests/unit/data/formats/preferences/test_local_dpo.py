"""What the local trainer gets of preferences, and that any other target can be given the same rows."""

import json
from typing import Any

import msgspec
from hypothesis import given

from finetune.data.example import Preference
from finetune.data.formats import FORMATS, recognise
from finetune.training.preferences import PairEncoder
from tests.support import tiny
from tests.support.examples import preferences
from tests.unit.data.formats.chats.rows import PATIENT
from tests.unit.data.formats.preferences.test_preferences import as_read, normal

FORMAT = FORMATS["local-dpo"]


def row_of(example: Preference) -> Any:
    assert FORMAT.write is not None
    return as_read(FORMAT.write(example))


@PATIENT
@given(example=preferences())
def test_the_trainer_takes_every_row_and_each_message_is_one_text(example: Preference) -> None:
    row = row_of(example)
    assert PairEncoder(tiny.tokenizer()).is_row(row)
    assert row.keys() - {"tools"} == {"prompt", "chosen", "rejected"}
    assert row.get("tools", []) == msgspec.json.decode(msgspec.json.encode(example.tools or []))
    for key in ("prompt", "chosen", "rejected"):
        for before, each in zip(getattr(example, key), row[key], strict=True):
            assert each["role"] == before.role
            assert isinstance(each.get("content", ""), str)
            assert not before.refusal or each["content"].endswith(before.refusal)
            assert each.get("weight") == before.weight


@PATIENT
@given(example=preferences(media=False, images=False, names=False, refusals=False, weights=False))
def test_what_was_written_for_the_trainer_is_read_again_as_it_was(example: Preference) -> None:
    """So a training here can be given to another target."""
    row = row_of(example)
    assert recognise(row) is FORMATS["preference"]
    assert FORMATS["preference"].shape is not None
    assert FORMATS["preference"].read is not None
    assert list(FORMATS["preference"].shape(row, "")) == []

    def plainly(one: Any) -> Any:
        made = normal("together-preference", normal("preference", one))
        made.parallel_tool_calls = None
        return made

    assert plainly(FORMATS["preference"].read(row)) == plainly(example)


def test_what_templates_pass_over_is_told() -> None:
    named = {"role": "user", "content": "q", "name": "Ann"}
    answer = {"role": "assistant", "content": "a"}
    row = {"prompt": [named], "chosen": [answer], "rejected": [{**answer, "content": "b"}]}
    example = msgspec.convert({**row, "parallel_tool_calls": False}, Preference)
    assert FORMAT.losses(example) == ["names of speakers", "settings of parallel tool calls"]
    assert json.loads(json.dumps(row_of(example))) == {**row, "prompt": [{"role": "user", "content": "q"}]}
