"""What must hold in every example, whatever layout it came from, and what is odd in one.

Order of turns, answers that say something, calls that are answered. The places are those of the typed example; a
format whose list of messages has the same positions lends its name to them.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from finetune.data.example import Chat, Example, Label, Message, Preference, lists, plain, texts
from finetune.data.faults import BAD_CONTENT, BAD_TOOLS, NOTHING_TO_LEARN, Fault
from finetune.data.formats.calls import is_object

SAME_ANSWERS: Final = "E239"
BAD_ARGUMENTS: Final = "E242"
CONTROL: Final = "E243"
MANGLED: Final = "E255"

#: Control characters other than tab, line feed and carriage return.
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
#: UTF-8 that was read as Latin-1 or Windows-1252 and written as UTF-8 again; and the sign for what could not be read.
_MANGLED: Final = re.compile(
    "\xc3[\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u2019]|\xe2(?:\x80|\u20ac)|\ufffd"
)


def faults(example: Example, turns: str | None) -> list[Fault]:
    """Everything that keeps a typed row from being trained on. `turns` names the list of messages, as in `Format`."""
    if isinstance(example, Chat):
        return list(_chat(example, turns))
    return list(_answers(example))


def oddities(example: Example, text: bytes) -> Iterator[Fault]:
    """Warnings about one sound row, whose canonical bytes are `text`."""
    control = b"\\u00" in text
    mangled = False
    for each in texts(example):
        # To look for one character is fast, and most rows have none of these.
        control = control or "\b" in each or "\f" in each or "\x7f" in each
        mangled = mangled or "\xc3" in each or "\xe2" in each or "\ufffd" in each
    if control and any(map(_CONTROL.search, texts(example))):
        why = "They are mostly left over from another program, and the model learns to write them"
        yield _warning(CONTROL, "the row has control characters in its texts", why, "remove them")
    if mangled and any(map(_MANGLED.search, texts(example))):
        why = "The text was read in the wrong encoding before it came here, and the model learns to write it so"
        yield _warning(MANGLED, "the row has mangled characters in its texts", why, "export it anew as UTF-8")
    if type(example) is not Chat or example.tools or any(message.tool_calls for message in example.messages):
        yield from _odd_calls(example)


def _chat(chat: Chat, turns: str | None) -> Iterator[Fault]:
    messages = chat.messages
    learned = calls = False
    for position, each in enumerate(messages):
        if each.role == "assistant":
            calls = calls or each.tool_calls is not None
            if says(each):
                learned = learned or each.weight != 0
            elif each.weight != 0:
                yield _empty(_place(turns, position, ".content"), position)
                learned = True
        elif each.role == "tool":
            calls = True
    last = messages[-1].role
    if last != "assistant":
        what = f"the last message is the {last}'s; sft needs an answer of the assistant there"
        why = "What is learned is the answer of the assistant, at the end"
        fix = "add the answer, or remove what comes after the last one"
        yield Fault(NOTHING_TO_LEARN, _place(turns, len(messages) - 1, ""), what, why, fix)
    elif not learned:
        why = "Every answer has weight 0, so nothing would be learned from the row"
        yield Fault(NOTHING_TO_LEARN, turns or "", "no answer counts", why, 'give one of them "weight": 1')
    if calls:
        yield from _calls(messages, turns)


def _answers(example: Preference | Label) -> Iterator[Fault]:
    prompt, *answers = lists(example)
    if not prompt:
        yield Fault(NOTHING_TO_LEARN, "", "the prompt is empty", "An answer answers something", "write the prompt")
    elif prompt[-1].role == "assistant":
        why = "The answers would follow an answer"
        yield Fault(
            NOTHING_TO_LEARN, "", "the prompt ends with an answer of the assistant", why, "end it with a question"
        )
    named = ("chosen", "rejected") if isinstance(example, Preference) else ("completion",)
    for name, answer in zip(named, answers, strict=True):
        if not answer or answer[-1].role != "assistant" or not says(answer[-1]):
            why = "Both answers of a preference, and the one of a label, say something"
            yield Fault(NOTHING_TO_LEARN, "", f"the {name} answer is empty or not the assistant's", why, "write it")
        else:
            yield from _calls([*prompt, *answer], None)
    if isinstance(example, Preference) and example.chosen == example.rejected:
        why = "Nothing can be learned from two answers that are equal"
        yield Fault(SAME_ANSWERS, "", "the chosen and the rejected answer are the same", why, "remove the row")


def _calls(messages: Sequence[Message], turns: str | None) -> Iterator[Fault]:
    """A tool's message answers a call that the assistant made before."""
    made: set[str] = set()
    for position, each in enumerate(messages):
        if each.tool_calls:
            made.update(call.id for call in each.tool_calls)
        elif each.role == "tool" and each.tool_call_id not in made:
            place = _place(turns, position, ".tool_call_id")
            what = f"message {position + 1} is a tool's and answers no call before it"
            why = "`tool_call_id` repeats the `id` of the call that the assistant made"
            yield Fault(BAD_TOOLS, place, what, why, "give it the id of that call, or remove the message")


def _odd_calls(example: Example) -> Iterator[Fault]:
    declared = None if example.tools is None else {tool.function.name for tool in example.tools}
    for messages in lists(example):
        for each in messages:
            for call in each.tool_calls or ():
                name = call.function.name
                if not is_object(call.function.arguments):
                    what = "a tool call's arguments are no JSON object"
                    why = "The model learns to write calls that no program can read"
                    yield _warning(BAD_ARGUMENTS, what, why, "write them as JSON, or remove the row")
                if declared is not None and name not in declared:
                    what = "a tool is called that `tools` does not list"
                    yield _warning(
                        BAD_ARGUMENTS, what, "The model learns to call what is not there", "list it in `tools`"
                    )


def says(answer: Message) -> bool:
    """True if the model would learn to say or call something from this answer."""
    content = answer.content
    if isinstance(content, str):
        if content and not content.isspace():
            return True
    elif content and plain(content).strip():
        return True
    return bool(answer.tool_calls) or bool(answer.refusal and answer.refusal.strip())


def _empty(place: str, position: int) -> Fault:
    what = f"message {position + 1}, an answer of the assistant, is empty"
    return Fault(BAD_CONTENT, place, what, "The model would learn to say nothing", 'write the answer, or "weight": 0')


def _place(turns: str | None, position: int, inner: str) -> str:
    return f"{turns}[{position}]{inner}" if turns else ""


def _warning(code: str, what: str, why: str, fix: str) -> Fault:
    return Fault(code, "", what, why, fix, level="warning")
