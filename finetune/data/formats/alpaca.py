"""Alpaca's layout: instruction, input and output; with `system` and `history` as LLaMA-Factory has them.

The user says the instruction and, if there is one, the input after an empty line (Alpaca's own prompt puts a heading
between them, LLaMA-Factory one line feed). The answers of the history are learned too, as LLaMA-Factory does. The
`text` of the original data set is the prompt and the answer once more, as one string, and is left out.

Normal form of a round trip: the input stands in the instruction; content in text parts is one text, its parts joined
with line feeds; weight 1 is left out. A system prompt of blanks is none.
"""

from collections.abc import Iterator
from typing import Any, Final

from finetune.data.example import Chat, Message, plain
from finetune.data.faults import BAD_FIELD, Fault, ListOf, Object, Words
from finetune.data.formats import exchanges, losses, openai
from finetune.data.formats.base import Format, Row

BLANK_SYSTEM: Final = "system messages of nothing"

SAMPLE: Final = '{"instruction": "...", "input": "...", "output": "..."}'
HARMLESS: Final = openai.HARMLESS | {"text"}
_PAIR: Final = '["the question", "the answer"]'
_PREFERENCES: Final = "This is a layout of preferences, for dpo; as messages: `prompt`, `chosen` and `rejected`"
_ELSEWHERE: Final = {
    "response": "If it is the output under another name, say so: dataset.field_map",
    "images": "Images are read from messages in OpenAI's layout only",
    "tools": "Tools are read from messages in OpenAI's layout, or from ShareGPT's",
    "chosen": _PREFERENCES,
    "rejected": _PREFERENCES,
}


def _pair(value: Any, where: str) -> Iterator[Fault]:
    if not isinstance(value, list) or len(value) != 2:
        yield Fault(BAD_FIELD, where, f"`{where}` is not a question and its answer", "", f"write {_PAIR}")
        return
    yield from Words()(value[0], f"{where}[0]")
    yield from Words(filled=True)(value[1], f"{where}[1]")


def _history(value: Any, where: str) -> Iterator[Fault]:
    if value is not None:
        yield from ListOf(_pair, example=f"[{_PAIR}]")(value, where)


SHAPE: Final = Object(
    {
        "instruction": Words(),
        "input": Words(nullable=True),
        "output": Words(filled=True),
        "system": Words(nullable=True),
        "history": _history,
    },
    ("instruction", "output"),
    SAMPLE,
    BAD_FIELD,
    HARMLESS,
    _ELSEWHERE,
)


def recognises(row: Row) -> bool:
    """A row with an instruction, or with an input and an output, and without two answers or a label."""
    if any(key in row for key in ("chosen", "rejected", "kto_tag", "label")):
        return False
    return "instruction" in row or ("input" in row and "output" in row)


def read(row: Row) -> Chat:
    """A row without faults."""
    system = row.get("system") or ""
    messages = [Message("system", system)] if system.strip() else []
    for question, answer in [*(row.get("history") or ()), (_question(row), row["output"])]:
        messages += [Message("user", question), Message("assistant", answer)]
    return Chat(messages)


def _question(row: Row) -> str:
    instruction: str = row["instruction"]
    more: str = row.get("input") or ""
    if not more.strip():
        return instruction
    return f"{instruction}\n\n{more}" if instruction.strip() else more


def write(chat: Chat) -> dict[str, Any]:
    """The last exchange, with those before it as history."""
    *history, (question, answer) = [
        (exchanges.text(each.asked), exchanges.text(each.answered)) for each in exchanges.exchanges(chat)
    ]
    row: dict[str, Any] = {"instruction": question, "input": "", "output": answer}
    if system := exchanges.text(exchanges.systems(chat)):
        row["system"] = system
    if history:
        row["history"] = [list(pair) for pair in history]
    return row


def _more(chat: Chat) -> Iterator[str]:
    if any(not plain(each.content).strip() for each in exchanges.systems(chat)):
        yield BLANK_SYSTEM
    yield from exchanges.order(chat)


FORMAT: Final = Format(
    name="alpaca",
    title="Alpaca",
    kind="chat",
    sample=SAMPLE,
    recognises=recognises,
    shape=SHAPE,
    read=read,
    write=write,
    losses=losses.lacking(
        losses.SEVERAL_SYSTEM,
        losses.LATE_SYSTEM,
        losses.WEIGHTS,
        losses.NAMES,
        losses.IMAGES,
        losses.AUDIO,
        losses.FILES,
        losses.REFUSALS,
        losses.CALLS,
        losses.TOOLS,
        losses.PARALLEL,
        more=_more,
    ),
    harmless=HARMLESS,
)
