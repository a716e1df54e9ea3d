"""A prompt and its completion: two texts, or two lists of messages as TRL has them (conversational).

Read, the prompt is what the user says and the completion is learned. Of messages the completion is learned and the
prompt is not, so answers in the prompt get weight 0. Written are texts only, so that all rows of a file are alike;
that holds one question and one answer.

Normal form of a round trip: content in text parts is one text, its parts joined with line feeds; weight 1, which is
the default, is left out. A row of messages becomes one of texts.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from finetune.data.example import Chat
from finetune.data.faults import BAD_FIELD, BAD_WEIGHT, Fault, Object, Words, inside
from finetune.data.formats import exchanges, losses, openai, trl
from finetune.data.formats.base import Format, Row

EARLIER: Final = "earlier turns"

SAMPLE: Final = '{"prompt": "...", "completion": "..."}'
HARMLESS: Final = openai.HARMLESS | {"prompt_id"}
#: Keys that rows of other layouts have beside a prompt.
_OTHERS: Final = ("label", "chosen", "rejected", "messages", "conversations", "contents", "instruction")
_MAP: Final = "If it is the completion under another name, say so: dataset.field_map"
_ELSEWHERE: Final = {
    **dict.fromkeys(("response", "answer", "output", "text", "target"), _MAP),
    "system": "The instructions of the system are the first message of `prompt`",
    "parallel_tool_calls": "TRL's layout does not have it",
}


def _prompt(value: Any, where: str) -> Iterator[Fault]:
    # A model may well be asked nothing: only the completion has to say something.
    yield from Words()(value, where) if isinstance(value, str) else trl.said(value, where)
    for position, each in enumerate(value if isinstance(value, list) else ()):
        if isinstance(each, dict) and each.get("role") == "assistant" and each.get("weight") == 1:
            place = f"{where}[{position}].weight"
            why = "Nothing of a prompt is learned"
            yield Fault(BAD_WEIGHT, place, f"`{place}` makes an answer in the prompt count", why, "remove it", "1")


_KEYS: Final = Object(
    {"prompt": _prompt, "completion": trl.said, **trl.TOOL_KEYS},
    ("prompt", "completion"),
    SAMPLE,
    BAD_FIELD,
    HARMLESS,
    _ELSEWHERE,
)


def shape(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a row."""
    found = list(_KEYS(value, where))
    yield from found
    if found:
        return
    prompt, completion = value["prompt"], value["completion"]
    place = inside(where, "completion")
    if isinstance(prompt, str) != isinstance(completion, str):
        what = f"of `{inside(where, 'prompt')}` and `{place}` one is text and one a list"
        yield Fault(BAD_FIELD, place, what, "Both are written alike", f"write {SAMPLE}")
    elif isinstance(completion, list):
        yield from trl.answer(completion, place, 0, "write the question into `prompt`")


def recognises(row: Row) -> bool:
    """A row with a prompt or a completion, and nothing that other layouts have beside them."""
    return ("prompt" in row or "completion" in row) and not any(key in row for key in _OTHERS)


def read(row: Row) -> Chat:
    """A row without faults."""
    asked = trl.messages_of(row["prompt"], "user")
    answered = trl.messages_of(row["completion"], "assistant", asked)
    asked = [{**each, "weight": 0} if each["role"] == "assistant" else each for each in asked]
    return msgspec.convert({"messages": [*asked, *answered], **trl.read_tools(row)}, Chat)


def write(chat: Chat) -> dict[str, Any]:
    """The last question that has a learned answer, and that answer."""
    last = [each for each in exchanges.exchanges(chat) if each.learned][-1]
    learned = [each for each in last.answered if each.weight != 0]
    return {"prompt": exchanges.text(last.asked), "completion": exchanges.text(learned)}


def _more(chat: Chat) -> Iterator[str]:
    if len([each for each in chat.messages if each.role in ("user", "assistant")]) > 2:
        yield EARLIER
    yield from exchanges.order(chat)


FORMAT: Final = Format(
    name="completion",
    title="prompt and completion",
    kind="chat",
    sample=SAMPLE,
    recognises=recognises,
    shape=shape,
    read=read,
    write=write,
    losses=losses.lacking(
        losses.SYSTEM,
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
