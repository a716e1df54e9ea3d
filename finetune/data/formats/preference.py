"""TRL's layout of preferences: prompt, chosen and rejected, as texts or as messages; the prompt may be implicit.

An implicit prompt is what `chosen` and `rejected` begin with in common. Of texts it ends where a word ends: a blank
behind it belongs to the answers, a line feed to the prompt. Rows with a prompt as text beside whole conversations
(UltraFeedback's) are read as TRL does: the prompt is in them. Parts of OpenAI's (images) are carried as they are.
"""

from collections.abc import Iterator
from os.path import commonprefix
from typing import Any, Final

import msgspec

from finetune.data.example import Preference
from finetune.data.faults import BAD_FIELD, UNKNOWN_KEY, Fault, Object, anything, inside
from finetune.data.formats import openai, trl
from finetune.data.formats.base import Format, Row
from finetune.data.formats.pairs import NOT_AN_ANSWER

SAMPLE: Final = '{"prompt": "...", "chosen": "better", "rejected": "worse"}'
_ANSWERS: Final = ("chosen", "rejected")
#: What common data sets (UltraFeedback, Tulu 3) note about the two answers; none of it is shown to a model.
HARMLESS: Final = openai.HARMLESS | {
    "prompt_id",
    *(f"{what}_{which}" for what in ("score", "rating", "model") for which in _ANSWERS),
    *(f"{which}_{what}" for what in ("score", "rating", "model") for which in _ANSWERS),
}
_ELSEWHERE: Final = {
    "images": "Images stand in the messages, as parts of type image_url",
    "image": "Images stand in the messages, as parts of type image_url",
    "conversations": "It is ShareGPT's; here the conversation is `prompt`",
    "instruction": "It is Alpaca's; if it is the whole prompt, name it: field_map: {prompt: instruction}",
    "system": "The instructions of the system are the first message of `prompt`",
}
_KEYS: Final = Object(
    {"prompt": anything, "chosen": anything, "rejected": anything, "messages": anything, **trl.TOOL_KEYS},
    (),
    SAMPLE,
    BAD_FIELD,
    HARMLESS,
    _ELSEWHERE,
)


def shape(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a row."""
    yield from _KEYS(value, where)
    if not isinstance(value, dict):
        return
    found: list[Fault] = []
    for key in ("prompt", *_ANSWERS):
        if value.get(key) is not None:
            found += trl.said(value[key], inside(where, key))
        elif key != "prompt":
            place = inside(where, key)
            found.append(Fault(BAD_FIELD, place, f"the row has no `{place}`", "", f"write {SAMPLE}"))
    yield from found or _arranged(value, where)
    if value.get("messages") is not None and value["messages"] != value.get("chosen"):
        place = inside(where, "messages")
        why = "It would be left out; only where it repeats `chosen` nothing is lost"
        yield Fault(UNKNOWN_KEY, place, f"`{place}` says something else than `chosen`", why, "remove the key")


def _arranged(row: Row, where: str) -> Iterator[Fault]:
    """Faults between the three fields of a row that has none in them."""
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) != isinstance(rejected, str):
        place = inside(where, "rejected")
        what = f"of `chosen` and `{place}` one is text and one a list"
        yield Fault(BAD_FIELD, place, what, "Both answers are written alike", f"write {SAMPLE}")
        return
    common, repeats = 0, "write the question into `prompt`"
    if _whole(row):
        common = _common(chosen, rejected)
        yield from _implicit(row, where, common)
        if not common:
            return
    elif isinstance(row["prompt"], list):
        repeats = "leave out `prompt`, or what repeats it here"
    for key in _ANSWERS:
        if isinstance(row[key], list) and len(row[key]) > common:
            yield from trl.answer(row[key], inside(where, key), common, repeats)


def _implicit(row: Row, where: str, common: int) -> Iterator[Fault]:
    prompt = row.get("prompt")
    place = inside(where, "prompt")
    if not common or (isinstance(row["chosen"], str) and not row["chosen"][:common].strip()):
        what = "the row has no `prompt`" if prompt is None else f"`{place}` is not in `chosen` and `rejected`"
        why = "Without it both answers begin with the prompt, and these two have no beginning in common"
        yield Fault(BAD_FIELD, place, what, why, f"write {SAMPLE}")
    elif isinstance(prompt, str) and not any(_says(each, prompt) for each in row["chosen"][:common]):
        why = "It would be left out: the prompt is what both conversations begin with"
        fix = "remove `prompt`, or what repeats it in `chosen` and `rejected`"
        yield Fault(BAD_FIELD, place, f"`{place}` is not in `chosen` and `rejected`", why, fix)
    for key in _ANSWERS:
        if len(row[key]) <= common:
            what = f"`{inside(where, key)}` has no answer of its own"
            why = "All of it is the beginning of the other one, too"
            yield Fault(NOT_AN_ANSWER, inside(where, key), what, why, "write both answers, or remove the row")


def _says(message: dict[str, Any], text: str) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return any((each.get("text") or "").strip() == text.strip() for each in parts)


def _whole(row: Row) -> bool:
    """True if `chosen` and `rejected` are whole conversations, or texts with the prompt in them."""
    prompt = row.get("prompt")
    if prompt is None:
        return True
    return isinstance(prompt, str) and any(
        isinstance(row[key], list) and row[key][0]["role"] not in ("assistant", "tool") for key in _ANSWERS
    )


def _common(chosen: Any, rejected: Any) -> int:
    """How long the common beginning of two texts or of two lists of messages is."""
    if isinstance(chosen, str):
        # Character by character is what is meant here.
        same = commonprefix([chosen, rejected])  # noqa: RUF071
        blank = max((at for at, each in enumerate(same) if each.isspace()), default=-1)
        return blank if same[blank : blank + 1] == " " else blank + 1
    for position, (one, other) in enumerate(zip(chosen, rejected, strict=False)):
        if _bare(one) != _bare(other):
            return position
    return min(len(chosen), len(rejected))


def _bare(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if value is not None}


def recognises(row: Row) -> bool:
    """A row with a chosen and a rejected answer."""
    return "chosen" in row and "rejected" in row


def read(row: Row) -> Preference:
    """A row without faults."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if _whole(row):
        common = _common(chosen, rejected)
        prompt, chosen, rejected = chosen[:common], chosen[common:], rejected[common:]
    asked = trl.messages_of(prompt, "user")  # type: ignore[arg-type]
    answers = (trl.messages_of(each, "assistant", asked) for each in (chosen, rejected))
    said = dict(zip(_ANSWERS, answers, strict=True))
    return msgspec.convert({"prompt": asked, **said, **trl.read_tools(row)}, Preference)


FORMAT: Final = Format(
    name="preference",
    title="TRL preferences",
    kind="preference",
    sample=SAMPLE,
    recognises=recognises,
    shape=shape,
    read=read,
    write=trl.written,
    losses=trl.losses,
    harmless=HARMLESS,
)
