"""Together's layout of preferences: OpenAI's keys, with messages as Together has them in conversations.

By https://docs.together.ai/docs/fine-tuning/preference-tuning and togethercomputer/skills, references/data-formats.md,
as of 2026-08: one message of the assistant in each output, tools in `input`. The file check of the SDK (2.36) only
wants JSON objects; the rules that its version 2.0 had hold for conversations and preferences alike, so prompt and
answers are looked at, read and written as one conversation here. Not read: the `weight` of a whole row.

Normal form of a round trip: that of conversations (`finetune.data.formats.together`).
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from finetune.data.example import Chat, Preference
from finetune.data.faults import Fault, anything, inside
from finetune.data.formats import openai, openai_dpo, together
from finetune.data.formats.base import Format, Row
from finetune.data.formats.pairs import one

#: Prompt and answers are looked at together, the rest by its keys.
_FRAME: Final = openai_dpo.layout(anything, one, tools=anything)
#: The names of fields of the conversation, in fields and in sentences.
_MESSAGE: Final = re.compile(r"(^|`)messages\[(\d+)\]")
_TOOLS: Final = re.compile(r"(^|`)tools\b")


def shape(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a row."""
    yield from _FRAME(value, where)
    asked = value.get("input") if isinstance(value, dict) else None
    if not isinstance(asked, dict):
        return
    places: list[str] = []
    said: list[Any] = []
    for messages, place in [
        (asked.get("messages"), inside(where, "input.messages")),
        *((value.get(key), inside(where, key)) for key in openai_dpo.OUTPUTS),
    ]:
        for position, each in enumerate(messages if isinstance(messages, list) else ()):
            places.append(f"{place}[{position}]")
            said.append(each)
    if "messages" in asked and not (isinstance(asked["messages"], list) and asked["messages"]):
        yield from openai.MESSAGES(asked["messages"], inside(where, "input.messages"))
    elif said:
        tools = {"tools": asked["tools"]} if "tools" in asked else {}
        for fault in together.DIALECT({"messages": said, **tools}, ""):
            yield _renamed(fault, places, inside(where, "input.tools"))


def _renamed(fault: Fault, places: list[str], tools: str) -> Fault:
    """The fault with the fields of the row in place of those of the conversation."""
    field, what = (
        _TOOLS.sub(rf"\g<1>{tools}", _MESSAGE.sub(lambda found: found[1] + places[int(found[2])], text))
        for text in (fault.field, fault.what)
    )
    return fault._replace(field=field, what=what)


def read(row: Row) -> Preference:
    """A row without faults."""
    asked = row["input"]
    said = [*asked["messages"], *(row[key][0] for key in openai_dpo.OUTPUTS)]
    chat = together.read({**asked, "messages": said})
    *prompt, chosen, rejected = chat.messages
    return Preference(prompt, [chosen], [rejected], chat.tools)


def write(example: Preference) -> dict[str, Any]:
    """The row. Of an answer of several messages only the last is there; answers have no weights."""
    row = together.write(_one_chat(example))
    *prompt, chosen, rejected = row["messages"]
    for each in (chosen, rejected):
        each.pop("weight", None)
    return {"input": {**row, "messages": prompt}, "preferred_output": [chosen], "non_preferred_output": [rejected]}


def losses(example: Preference) -> list[str]:
    """What `write` leaves out."""
    return list(dict.fromkeys([*together.FORMAT.losses(_one_chat(example)), *openai_dpo.losses(example)]))


def _one_chat(example: Preference) -> Chat:
    messages = [*example.prompt, example.chosen[-1], example.rejected[-1]]
    return Chat(messages, example.tools, example.parallel_tool_calls)


FORMAT: Final = Format(
    name="together-preference",
    title="Together preferences (DPO)",
    kind="preference",
    sample=openai_dpo.SAMPLE,
    # OpenAI's rows have the same keys: only a recipe that names it means this one.
    recognises=lambda row: False,
    shape=shape,
    read=read,
    write=write,
    losses=losses,
    harmless=openai.HARMLESS,
)
