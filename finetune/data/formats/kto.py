"""TRL's layout of labelled answers (KTO, "unpaired preference"): prompt and completion as texts or messages."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from finetune.data.example import Label
from finetune.data.faults import BAD_FIELD, Fault, Object, TypeOf, inside
from finetune.data.formats import openai, trl
from finetune.data.formats.base import Format, Row

SAMPLE: Final = '{"prompt": "...", "completion": "...", "label": true}'
HARMLESS: Final = openai.HARMLESS | {"prompt_id", "score", "rating", "model"}

_KEYS: Final = Object(
    {
        "prompt": trl.said,
        "completion": trl.said,
        "label": TypeOf(bool, "true (good) or false (bad)"),
        **trl.TOOL_KEYS,
    },
    ("prompt", "completion", "label"),
    SAMPLE,
    BAD_FIELD,
    HARMLESS,
)


def shape(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a row."""
    found = list(_KEYS(value, where))
    yield from found
    place = inside(where, "completion")
    completion = value.get("completion") if isinstance(value, dict) else None
    if isinstance(completion, list) and not any(each.field.startswith(place) for each in found):
        yield from trl.answer(completion, place, 0, "write the question into `prompt`")


def recognises(row: Row) -> bool:
    """A row with a completion and a label."""
    return "completion" in row and "label" in row


def read(row: Row) -> Label:
    """A row without faults."""
    prompt = trl.messages_of(row["prompt"], "user")
    completion = trl.messages_of(row["completion"], "assistant", prompt)
    said = {"prompt": prompt, "completion": completion, "label": row["label"]}
    return msgspec.convert({**said, **trl.read_tools(row)}, Label)


FORMAT: Final = Format(
    name="kto",
    title="TRL labels (KTO)",
    kind="label",
    sample=SAMPLE,
    recognises=recognises,
    shape=shape,
    read=read,
    write=trl.written,
    losses=trl.losses,
    harmless=HARMLESS,
)
