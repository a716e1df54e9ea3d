"""Vertex AI's layout of preferences for Gemini: `contents`, and two `completions` with scores.

By https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/tuning/preference-tuning/prepare-data as of
2026-11: contents as in supervised tuning, of text only; two completions, each one turn of the model, one with the
score 1 and one with 0; beside them only the instruction of the system. Keys may be in snake_case.

Normal form of a round trip: that of contents (`finetune.data.formats.gemini`).
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from finetune.data.example import Message, Preference, Text
from finetune.data.faults import BAD_CONTENT, BAD_FIELD, NO_MESSAGES, Fault, ListOf, anything, inside
from finetune.data.formats import exchanges, gemini, gemini_shape, losses
from finetune.data.formats.base import Format, Row
from finetune.data.formats.pairs import NOT_AN_ANSWER, lacking, several
from finetune.data.formats.proto import Proto, spelled, take

EMPTY: Final = "answers in the prompt that say nothing"

SAMPLE: Final = (
    '{"contents": [{"role": "user", "parts": [{"text": "..."}]}], "completions": ['
    '{"score": 1, "completion": {"role": "model", "parts": [{"text": "better"}]}}, '
    '{"score": 0, "completion": {"role": "model", "parts": [{"text": "worse"}]}}]}'
)
_ONE: Final = '{"score": 1, "completion": {"role": "model", "parts": [{"text": "..."}]}}'
_BOTH: Final = "One is the better one, with the score 1, and one the worse, with 0"
#: Stands for the contents where there are none to look at.
_SAID: Final = {"role": "user", "parts": [{"text": ""}]}
_CONTENT: Final = re.compile(r"(^|`)contents\[(\d+)\]")


def _score(value: Any, where: str) -> Iterator[Fault]:
    if type(value) not in (int, float) or value not in (0, 1):
        yield Fault(BAD_FIELD, where, f"`{where}` must be 1 or 0", _BOTH, 'write "score": 1')


_COMPLETION: Final = Proto({"score": _score, "completion": anything}, ("score", "completion"), _ONE)


def _completions(value: Any, where: str) -> Iterator[Fault]:
    yield from ListOf(_COMPLETION, example=f"[{_ONE}, ...]")(value, where)
    if not isinstance(value, list):
        return
    if len(value) != 2:
        yield Fault(NOT_AN_ANSWER, where, f"`{where}` has {len(value)} answers", _BOTH, f"write {SAMPLE}")
        return
    scores = [each.get("score") for each in value if isinstance(each, dict)]
    if len(scores) == 2 and scores[0] in (0, 1) and scores[0] == scores[1]:
        yield Fault(NOT_AN_ANSWER, where, f"`{where}` have the same score", _BOTH, "give the worse one the score 0")


_FRAME: Final = Proto(
    {
        "systemInstruction": anything,
        "contents": ListOf(anything, 1, SAMPLE, NO_MESSAGES),
        "completions": _completions,
    },
    ("contents", "completions"),
    SAMPLE,
    harmless=gemini_shape.HARMLESS,
    elsewhere={
        "tools": "Preferences of Gemini are of text only, without functions",
        **dict.fromkeys(("generationConfig", "toolConfig", "safetySettings"), "It is a setting of requests, not data"),
    },
)


def shape(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a row. Contents and completions are looked at as one conversation."""
    yield from _FRAME(value, where)
    if not isinstance(value, dict):
        return
    said = list(_said(value, where))
    one: dict[str, Any] = {"contents": [each for each, _ in said] or [_SAID]}
    if (system := take(value, "systemInstruction")) is not None:
        one[spelled(value, "systemInstruction")] = system
    told = []
    for fault in gemini_shape.shape(one, ""):
        renamed = _renamed(fault, [place for _, place in said])
        told.append(renamed.field)
        yield renamed
    for content, place in said:
        yield from (each for each in _plainly(content, place) if not _told(each.field, told))


def _said(row: Row, where: str) -> Iterator[tuple[Any, str]]:
    """Contents and completions, each with its place."""
    for position, each in enumerate(row["contents"] if isinstance(row.get("contents"), list) else ()):
        yield each, f"{inside(where, 'contents')}[{position}]"
    for position, each in enumerate(row["completions"] if isinstance(row.get("completions"), list) else ()):
        if isinstance(each, dict) and each.get("completion") is not None:
            yield each["completion"], f"{inside(where, 'completions')}[{position}].completion"


def _renamed(fault: Fault, places: list[str]) -> Fault:
    """The fault with the fields of the row in place of those of the conversation."""
    field, what = (
        _CONTENT.sub(lambda found: found[1] + places[int(found[2])], text) for text in (fault.field, fault.what)
    )
    return fault._replace(field=field, what=what)


def _told(field: str, told: list[str]) -> bool:
    return any(each.startswith(field) or field.startswith(each) for each in told if each)


def _plainly(content: Any, where: str) -> Iterator[Fault]:
    """What contents may have in supervised tuning, and not here."""
    if not isinstance(content, dict):
        return
    if ".completion" in where and content.get("role") != "model":
        place = inside(where, "role")
        fix = 'write "role": "model"'
        yield Fault(NOT_AN_ANSWER, place, f"`{place}` is not model", "Answers are the model's", fix)
    for position, part in enumerate(content["parts"] if isinstance(content.get("parts"), list) else ()):
        if isinstance(part, dict) and take(part, "text") is None:
            place = f"{where}.parts[{position}]"
            why = "Preferences of Gemini are of text only"
            yield Fault(BAD_CONTENT, place, f"`{place}` is not text", why, 'write {"text": "..."}')


def recognises(row: Row) -> bool:
    """A row with completions beside contents, or beside Gemini's key for the system prompt."""
    return "completions" in row and any(key in row for key in ("contents", "systemInstruction", "system_instruction"))


def read(row: Row) -> Preference:
    """A row without faults."""
    better, worse = sorted(row["completions"], key=lambda each: -each["score"])
    contents = [*row["contents"], better["completion"], worse["completion"]]
    chat = gemini.read({"systemInstruction": take(row, "systemInstruction"), "contents": contents})
    *prompt, chosen, rejected = chat.messages
    return Preference(prompt, [chosen], [rejected])


def write(example: Preference) -> dict[str, Any]:
    """The row, all of text: calls as JSON, their results as what the user says; the last message of each answer."""
    systems = [part for each in example.prompt if each.role == "system" for part in _parts(each)]
    turns = [each for each in example.prompt if each.role != "system" and _speaks(each)]
    contents = [{"role": "model" if each.role == "assistant" else "user", "parts": _parts(each)} for each in turns]
    answers = [(1, example.chosen[-1]), (0, example.rejected[-1])]
    row: dict[str, Any] = {}
    if systems and contents:
        row["systemInstruction"] = {"parts": systems}
    row["contents"] = contents or [{"role": "user", "parts": systems or [{"text": ""}]}]
    row["completions"] = [
        {"score": score, "completion": {"role": "model", "parts": _parts(each)}} for score, each in answers
    ]
    return row


def _parts(message: Message) -> list[dict[str, str]]:
    content = message.content
    if isinstance(content, list) and not message.tool_calls and message.refusal is None:
        texts = [{"text": part.text} for part in content if isinstance(part, Text)]
        if len(texts) == len(content):
            return texts
    return [{"text": exchanges.said(message)}]


def _speaks(message: Message) -> bool:
    """False for an answer in the prompt that would be refused, because it says nothing."""
    return message.role != "assistant" or bool(exchanges.said(message).strip())


def _more(example: Preference) -> Iterator[str]:
    if not all(map(_speaks, example.prompt)):
        yield EMPTY
    if all(each.role == "system" or not _speaks(each) for each in example.prompt):
        yield losses.SYSTEM
    yield from several(example)


FORMAT: Final = Format(
    name="gemini-preference",
    title="Gemini preferences",
    kind="preference",
    sample=SAMPLE,
    recognises=recognises,
    shape=shape,
    read=read,
    write=write,
    losses=lacking(
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
    harmless=gemini_shape.HARMLESS,
)
