"""OpenAI's layout of preferences, by its published schema of a training line; Together and Fireworks have its keys."""

from typing import Any, Final

import msgspec

from finetune.data.example import Preference
from finetune.data.faults import BAD_FIELD, NO_MESSAGES, Object, Shape
from finetune.data.formats import openai
from finetune.data.formats.base import Format, Row
from finetune.data.formats.losses import WEIGHTS
from finetune.data.formats.pairs import one_answer, several

SAMPLE: Final = (
    '{"input": {"messages": [{"role": "user", "content": "..."}]}, '
    '"preferred_output": [{"role": "assistant", "content": "better"}], '
    '"non_preferred_output": [{"role": "assistant", "content": "worse"}]}'
)
#: The keys of the better and the worse answer.
OUTPUTS: Final = ("preferred_output", "non_preferred_output")
_OURS: Final = ("chosen", "rejected")


def layout(messages: Shape, output: Shape, **tools: Shape) -> Object:
    """The shape of a row with these keys: such messages and keys of tools in `input`, and two such outputs."""
    asked = Object(
        {"messages": messages, **tools},
        ("messages",),
        '{"messages": [{"role": "user", "content": "..."}]}',
        NO_MESSAGES,
        elsewhere=openai.ELSEWHERE,
    )
    beside = dict.fromkeys(("messages", *openai.TOOL_KEYS), "It belongs into `input`")
    return Object(
        {"input": asked, **dict.fromkeys(OUTPUTS, output)},
        ("input", *OUTPUTS),
        SAMPLE,
        BAD_FIELD,
        openai.HARMLESS,
        {**openai.ELSEWHERE, **beside},
    )


def recognises(row: Row) -> bool:
    """A row with one of the two outputs."""
    return any(key in row for key in OUTPUTS)


def read(row: Row) -> Preference:
    """A row without faults."""
    asked = row["input"]
    said = {"prompt": asked["messages"], "chosen": row["preferred_output"], "rejected": row["non_preferred_output"]}
    return msgspec.convert({**said, **openai.tools(asked)}, Preference)


def write(example: Preference) -> dict[str, Any]:
    """The row. Of an answer of several messages only the last is there; answers have no weights."""
    asked = msgspec.to_builtins(example)
    outputs = [{key: value for key, value in asked.pop(which)[-1].items() if key != "weight"} for which in _OURS]
    return {
        "input": {"messages": asked.pop("prompt"), **asked},
        **{key: [output] for key, output in zip(OUTPUTS, outputs, strict=True)},
    }


def losses(example: Preference) -> list[str]:
    """What `write` leaves out."""
    found = [*several(example)]
    if example.chosen[-1].weight == 0 or example.rejected[-1].weight == 0:
        found.append(WEIGHTS)
    return found


FORMAT: Final = Format(
    name="openai-dpo",
    title="OpenAI preferences (DPO)",
    kind="preference",
    sample=SAMPLE,
    recognises=recognises,
    shape=layout(openai.MESSAGES, one_answer, **openai.TOOL_KEYS),
    read=read,
    write=write,
    losses=losses,
    harmless=openai.HARMLESS,
)
