"""Fireworks' layout of preferences: OpenAI's keys, and less in them.

One question, system messages before it, and two answers, all of plain text, by
https://docs.fireworks.ai/fine-tuning/dpo-fine-tuning ("one-turn conversations"; its sample has `tools`) and by
the check in fw-ai/cookbook, skills/fireworks-training/references/choose-method.md, both as of 2026-08.

Normal form of a round trip: content in text parts is one text, its parts joined with line feeds.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from finetune.data.example import Message, Preference
from finetune.data.faults import BAD_CONTENT, BAD_FIELD, BAD_ROLE, UNKNOWN_KEY, Fault, inside
from finetune.data.formats import dialect, exchanges, losses, openai, openai_dpo
from finetune.data.formats.base import Format
from finetune.data.formats.pairs import lacking, one_answer, several, whole

EARLIER: Final = "earlier turns"

_TEXTS: Final = "Fireworks' preferences are texts: each message has a role and a content"
_LACKS: Final = ("name", "refusal", "weight", "tool_calls", "tool_call_id")


def _plainly(message: Any, where: str) -> Iterator[Fault]:
    """What OpenAI's layout lets through in a message, and this one does not."""
    if not isinstance(message, dict):
        return
    content, place = message.get("content"), inside(where, "content")
    if isinstance(content, list):
        yield Fault(BAD_CONTENT, place, f"`{place}` is not text", _TEXTS, 'write the text itself: "content": "..."')
    elif content is None and message.get("role") == "assistant" and message.keys() & {"tool_calls", "refusal"}:
        yield Fault(BAD_CONTENT, place, f"`{where}` has no content", _TEXTS, 'write "content": "..."')
    for key in _LACKS:
        if message.get(key) is not None:
            place = inside(where, key)
            yield Fault(UNKNOWN_KEY, place, f"unknown key `{place}`", _TEXTS, "remove the key from the rows")


def _question(value: Any, where: str) -> Iterator[Fault]:
    yield from openai.MESSAGES(value, where)
    if not isinstance(value, list):
        return
    for position, each in enumerate(value):
        yield from _plainly(each, f"{where}[{position}]")
        if isinstance(each, dict) and each.get("role") == "tool":
            place = f"{where}[{position}].role"
            yield Fault(BAD_ROLE, place, f"`{place}` is tool", _TEXTS, 'write "system" or "user"', "tool")
    roles = [each.get("role") for each in value if isinstance(each, dict)]
    if "assistant" in roles or roles.count("user") > 1:
        why = "Fireworks compares answers to one question, with nothing said before it but system messages"
        yield Fault(BAD_FIELD, where, f"`{where}` has more turns than one", why, "keep the last question only")
    elif "user" in roles and roles[-1] == "system":
        place = f"{where}[{len(value) - 1}]"
        yield Fault(BAD_FIELD, place, f"`{place}` is a system message behind the question", "", "put it first")


def _tools(value: Any, where: str) -> Iterator[Fault]:
    yield from openai.TOOL_KEYS["tools"](value, where)
    for position, each in enumerate(value if isinstance(value, list) else ()):
        function = each.get("function") if isinstance(each, dict) else None
        if isinstance(function, dict) and function.get("strict") is not None:
            place = f"{where}[{position}].function.strict"
            why = "Fireworks has no strict functions"
            yield Fault(UNKNOWN_KEY, place, f"unknown key `{place}`", why, "remove the key from the rows")


def _answer(value: Any, where: str) -> Iterator[Fault]:
    yield from one_answer(value, where)
    for position, each in enumerate(value if isinstance(value, list) else ()):
        yield from _plainly(each, f"{where}[{position}]")


def _text(message: Message, role: str) -> dict[str, str]:
    return {"role": role, "content": exchanges.said(message)}


def write(example: Preference) -> dict[str, Any]:
    """The system messages, the last question, and the last message of each answer, as texts."""
    systems = [each for each in example.prompt if each.role == "system"]
    turns = [each for each in example.prompt if each.role != "system"]
    question = ([each for each in turns if each.role == "user"] or turns)[-1:]
    asked: dict[str, Any] = {"messages": [_text(each, "system") for each in systems]}
    asked["messages"] += [_text(each, "user") for each in question]
    if example.tools is not None:
        asked["tools"] = msgspec.to_builtins(dialect.bare(whole(example)))
    return {
        "input": asked,
        "preferred_output": [_text(example.chosen[-1], "assistant")],
        "non_preferred_output": [_text(example.rejected[-1], "assistant")],
    }


def _more(example: Preference) -> Iterator[str]:
    roles = [each.role for each in example.prompt]
    if len(roles) - roles.count("system") > 1:
        yield EARLIER
    elif roles[-1:] == ["system"] and "user" in roles:
        yield losses.LATE_SYSTEM
    yield from several(example)


FORMAT: Final = Format(
    name="fireworks-dpo",
    title="Fireworks preferences (DPO)",
    kind="preference",
    sample=openai_dpo.SAMPLE,
    # OpenAI's rows have the same keys: only a recipe that names it means this one.
    recognises=lambda row: False,
    shape=openai_dpo.layout(_question, _answer, tools=_tools),
    read=openai_dpo.read,
    write=write,
    losses=lacking(
        losses.WEIGHTS,
        losses.NAMES,
        losses.IMAGES,
        losses.AUDIO,
        losses.FILES,
        losses.REFUSALS,
        losses.CALLS,
        losses.STRICT,
        losses.PARALLEL,
        more=_more,
    ),
    harmless=openai.HARMLESS,
)
