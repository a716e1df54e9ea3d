"""What the layouts of preferences and labels have in common: what an answer is, and what a row has in all."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from finetune.data.example import Chat, Label, Preference, lists
from finetune.data.faults import BAD_FIELD, BAD_WEIGHT, Fault, inside
from finetune.data.formats import losses, openai

NOT_AN_ANSWER: Final = "E239"

SEVERAL: Final = "messages before the last of an answer"

_ANSWER: Final = '[{"role": "assistant", "content": "..."}]'


def one_answer(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a list that holds one message of the assistant as OpenAI writes it, and nothing else."""
    for position, each in enumerate(value if isinstance(value, list) else ()):
        yield from openai.message(each, f"{where}[{position}]")
    yield from one(value, where)


def one(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a list that holds one answer, whatever else a message may have."""
    if not isinstance(value, list):
        yield Fault(BAD_FIELD, where, f"`{where}` is not a list", "It holds one message", f"write {_ANSWER}")
        return
    if len(value) != 1:
        what = f"`{where}` has {len(value)} messages"
        yield Fault(NOT_AN_ANSWER, where, what, "It holds exactly one, the answer", f"write {_ANSWER}")
    for position, each in enumerate(value):
        role = each.get("role") if isinstance(each, dict) else None
        if role != "assistant" and role in openai.ROLES:
            place = f"{where}[{position}].role"
            fix = 'write "role": "assistant"'
            yield Fault(NOT_AN_ANSWER, place, f"`{place}` is {role}", "Answers are the assistant's", fix, role)
        why = "An answer that is compared with another is learned from"
        yield from unweighed(each, f"{where}[{position}]", why)


def unweighed(message: Any, where: str, why: str) -> Iterator[Fault]:
    """The fault of an answer with weight 0 where no weights are; 1 says what holds without it."""
    weight = message.get("weight") if isinstance(message, dict) else None
    if type(weight) is int and weight == 0 and message.get("role") == "assistant":
        place = inside(where, "weight")
        yield Fault(BAD_WEIGHT, place, f"`{place}` is 0", why, "remove it", "0")


def whole(example: Preference | Label) -> Chat:
    """All messages of a row as one conversation, to see what is in them."""
    return Chat([each for part in lists(example) for each in part], example.tools, example.parallel_tool_calls)


def lacking(
    *words: str, more: Callable[[Any], Iterator[str]] | None = None
) -> Callable[[Preference | Label], list[str]]:
    """`losses.lacking` for rows that are no chats; `more` gets the example itself."""
    in_messages = losses.lacking(*words)

    def lost(example: Preference | Label) -> list[str]:
        found = in_messages(whole(example))
        if more is not None:
            found += more(example)
        return list(dict.fromkeys(found))

    return lost


def several(example: Preference) -> Iterator[str]:
    """The loss of a layout whose answers are one message each."""
    if len(example.chosen) > 1 or len(example.rejected) > 1:
        yield SEVERAL
