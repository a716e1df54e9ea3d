"""ShareGPT's layout: `conversations` of turns with `from` and `value`, as FastChat, LLaMA-Factory and Axolotl read it.

A `function_call` holds the call as JSON, or a list of calls; an `observation` is the result of the first call of the
last such turn that has none yet. Tools stand in the row, as a list or as JSON in a text, each with or without
OpenAI's `{"type": "function", "function": ...}` around it. A row's `system` is its first turn.

Normal form of a round trip: ids of calls are made anew (see `calls`); content in text parts is one text, its parts
joined with line feeds; an empty content beside calls is none; a tool's name in its result is left out where it is the
call's; no tools are none. Written, a row says `human` and `gpt`, the system is a turn, and tools are JSON in a text.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from finetune.data.example import Chat, FunctionCall, Message, Role, Tool, ToolCall
from finetune.data.faults import (
    BAD_CONTENT,
    BAD_FIELD,
    BAD_ROLE,
    BAD_TOOLS,
    BAD_WEIGHT,
    NO_MESSAGES,
    Fault,
    ListOf,
    Object,
    OneOf,
    Words,
    anything,
    inside,
)
from finetune.data.formats import exchanges, losses, openai
from finetune.data.formats.base import Format, Row
from finetune.data.formats.calls import DISORDERED, MISNAMED, Open, disordered, misnamed

MIXED_NAMES: Final = "E244"

SAMPLE: Final = '{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}'
_CALL_SAMPLE: Final = '"{\\"name\\": \\"...\\", \\"arguments\\": {...}}"'
#: Who speaks, by the names that others give them.
ROLES: Final[Mapping[str, Role | Literal["call"]]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_call": "call",
}
_WRITTEN: Final = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
_ELSEWHERE: Final = {"model": "gpt", "bot": "gpt", "ai": "gpt", "function_response": "observation", "ipython": "tool"}


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    #: As they stand there, so that nothing of them changes.
    arguments: msgspec.Raw


_calls: Final = msgspec.json.Decoder(list[_Call])
_one: Final = msgspec.json.Decoder(_Call)
_strings: Final = msgspec.json.Decoder(str)
_objects: Final = msgspec.json.Decoder(dict[str, Any])


def _parsed(text: str) -> list[tuple[str, str]] | None:
    """Names and arguments of the calls in a value; None if there are none to be read."""
    try:
        found = _calls.decode(text) if text.lstrip()[:1] == "[" else [_one.decode(text)]
        pairs = [(each.name, _arguments(bytes(each.arguments))) for each in found]
    except (ValueError, RecursionError):
        return None
    return pairs if pairs and all(name.strip() for name, _ in pairs) else None


def _arguments(raw: bytes) -> str:
    """Arguments as text: an object as it stands there, a text without its quotes. Raises ValueError for others."""
    if raw[:1] == b'"':
        return _strings.decode(raw)
    _objects.decode(raw)
    return raw.decode()


_TURN: Final = Object(
    {
        "from": OneOf(tuple(ROLES), BAD_ROLE, "Each turn says who speaks", elsewhere=_ELSEWHERE),
        "value": Words(code=BAD_CONTENT),
        "weight": OneOf((0, 1), BAD_WEIGHT, "1: the answer is learned; 0: it is only read", nullable=True),
    },
    (),
    '{"from": "human", "value": "..."}',
    NO_MESSAGES,
    elsewhere={
        "role": "ShareGPT's turns say `from`; name the key in dataset.field_map",
        "content": "ShareGPT's turns say `value`; name the key in dataset.field_map",
    },
)
#: Keys that each turn has, with their codes.
_REQUIRED: Final = (("from", BAD_ROLE), ("value", BAD_CONTENT))


def _turn(value: Any, where: str) -> Iterator[Fault]:
    yield from _TURN(value, where)
    if not isinstance(value, dict):
        return
    for key, code in _REQUIRED:
        if key not in value:
            place = inside(where, key)
            yield Fault(code, place, f"`{where}` has no `{key}`", "", f"write {_TURN.example}")
    role = ROLES.get(value["from"]) if isinstance(value.get("from"), str) else None
    said = value.get("value")
    if role == "assistant" and isinstance(said, str) and not said.strip() and value.get("weight") != 0:
        place = inside(where, "value")
        fix = 'write the answer, or "weight": 0'
        yield Fault(BAD_CONTENT, place, f"`{place}` is empty", "The model would learn to say nothing", fix)
    if role in ("user", "system", "tool") and value.get("weight") is not None:
        place = inside(where, "weight")
        yield Fault(BAD_WEIGHT, place, f"`{place}` is not on an answer", "Only answers are learned", "remove it")
    if role == "call" and isinstance(said, str) and _parsed(said) is None:
        place = inside(where, "value")
        why = "A function_call holds the name of the function and its arguments"
        yield Fault(BAD_TOOLS, place, f"`{place}` is no call as JSON", why, f'write "value": {_CALL_SAMPLE}')


_TURNS: Final = ListOf(_turn, 1, SAMPLE, NO_MESSAGES)


def _tools(value: Any, where: str) -> Iterator[Fault]:
    found = _unpacked(value)
    if found is None:
        what = f"`{where}` is neither a list of tools nor one as JSON in a text"
        yield Fault(BAD_TOOLS, where, what, "", 'write [{"name": "...", "parameters": {...}}]')
        return
    for position, each in enumerate(found):
        # What is put around a bare function here is not in the row, and not in the names of its fields.
        there = f"{where}[0]" if _is_wrapped(each) else f"{where}[0].function"
        here = f"{where}[{position}]"
        for fault in openai.TOOL_KEYS["tools"]([_wrapped(each)], where):
            field = here + fault.field.removeprefix(there)
            yield fault._replace(field=field, what=fault.what.replace(f"`{there}", f"`{here}"))


def _unpacked(value: Any) -> list[Any] | None:
    """The tools of a row as a list; None if they are none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    try:
        found = msgspec.json.decode(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _is_wrapped(tool: Any) -> bool:
    return not isinstance(tool, dict) or "function" in tool or "name" not in tool


def _wrapped(tool: Any) -> Any:
    return tool if _is_wrapped(tool) else {"type": "function", "function": tool}


_ROW: Final = Object(
    {"conversations": _TURNS, "system": Words(nullable=True), "tools": anything},
    ("conversations",),
    SAMPLE,
    NO_MESSAGES,
    openai.HARMLESS,
    {
        **dict.fromkeys(
            ("chosen", "rejected"), "These are preferences, for dpo; as messages: prompt, chosen, rejected"
        ),
        "images": "Images are read from messages in OpenAI's layout only",
        "system_prompt": "If it is the row's system prompt, say so: dataset.field_map",
    },
)


def shape(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a row; warnings where it has two names for one role."""
    yield from _ROW(value, where)
    if not isinstance(value, dict):
        return
    yield from _tools(value.get("tools"), inside(where, "tools"))
    turns = value.get("conversations")
    # Names that cannot be looked up are told above.
    spoken = [
        (position, each["from"], each.get("value"))
        for position, each in enumerate(turns if isinstance(turns, list) else ())
        if isinstance(each, dict) and isinstance(each.get("from"), str) and each["from"] in ROLES
    ]
    place = inside(where, "conversations")
    yield from _results(spoken, place)
    yield from _names(spoken, place)
    if isinstance(value.get("system"), str) and value["system"].strip() and "system" in (name for _, name, _ in spoken):
        system = inside(where, "system")
        what = f"`{system}` stands beside a turn of the system"
        yield Fault(BAD_FIELD, system, what, "A row has one system prompt", "remove one of them")


def _results(spoken: list[tuple[int, str, Any]], where: str) -> Iterator[Fault]:
    calls = Open()
    for position, name, said in spoken:
        if ROLES[name] == "call":
            calls.turn()
            for called, _ in (_parsed(said) if isinstance(said, str) else None) or [("", "")]:
                calls.call(called)
        elif ROLES[name] == "tool" and calls.answer() is None:
            place = f"{where}[{position}]"
            why = "A result follows the function_call that it answers, one for each call"
            yield Fault(
                BAD_TOOLS, place, f"`{place}` is the result of no call", why, "add the call, or remove the turn"
            )


def _names(spoken: list[tuple[int, str, Any]], where: str) -> Iterator[Fault]:
    first: dict[str, str] = {}
    told: set[str] = set()
    for position, name, _ in spoken:
        known = first.setdefault(ROLES[name], name)
        if known != name and name not in told:
            told.add(name)
            place = f"{where}[{position}].from"
            what = f"the row calls one role both {known} and {name}"
            why = "Both are read as one; mostly two sources were mixed here"
            fix = f'write "from": "{known}"'
            yield Fault(MIXED_NAMES, place, what, why, fix, json.dumps(name), "warning")


def recognises(row: Row) -> bool:
    """A row with a list of conversations, whose turns are not OpenAI's, and without two answers."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or "chosen" in row or "rejected" in row:
        return False
    first = turns[0] if turns else None
    return not isinstance(first, dict) or "from" in first or "value" in first


def read(row: Row) -> Chat:
    """A row without faults."""
    system = row.get("system") or ""
    messages = [Message("system", system)] if system.strip() else []
    calls = Open()
    messages += [_message(each, calls) for each in row["conversations"]]
    tools = [_wrapped(each) for each in _unpacked(row.get("tools")) or ()]
    return Chat(messages, msgspec.convert(tools, list[Tool]) or None)


def _message(turn: dict[str, Any], calls: Open) -> Message:
    role, said, weight = ROLES[turn["from"]], turn["value"], turn.get("weight")
    if role == "call":
        calls.turn()
        made = [ToolCall(calls.call(name), FunctionCall(name, arguments)) for name, arguments in _parsed(said) or ()]
        return Message("assistant", weight=weight, tool_calls=made)
    if role == "tool":
        return Message("tool", said, tool_call_id=calls.answer())
    return Message(role, said, weight=weight)


def write(chat: Chat) -> dict[str, Any]:
    """The row: each message a turn, one with a text and calls two of them."""
    row: dict[str, Any] = {"conversations": [turn for each in chat.messages for turn in _turns(each)]}
    if chat.tools:
        row["tools"] = msgspec.json.encode([each.function for each in chat.tools]).decode()
    return row


def _turns(message: Message) -> Iterator[dict[str, Any]]:
    weight = {} if message.weight is None else {"weight": message.weight}
    said = exchanges.said(msgspec.structs.replace(message, tool_calls=None))
    # Blanks beside calls would be an answer of nothing.
    if said.strip() or not message.tool_calls:
        yield {"from": _WRITTEN[message.role], "value": said, **weight}
    if message.tool_calls:
        calls = [_written(each.function) for each in message.tool_calls]
        yield {"from": "function_call", "value": calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]", **weight}


def _written(call: FunctionCall) -> str:
    """A call as JSON. Arguments that are an object stand in it as they are, all others as a text."""
    arguments = call.arguments
    try:
        whole = arguments.strip(" \t\r\n") == arguments and _objects.decode(arguments) is not None
    except (ValueError, RecursionError):
        whole = False
    named = json.dumps(call.name, ensure_ascii=False)
    return f'{{"name": {named}, "arguments": {arguments if whole else json.dumps(arguments, ensure_ascii=False)}}}'


def _more(chat: Chat) -> Iterator[str]:
    if disordered(chat, named=False):
        yield DISORDERED
    elif misnamed(chat):
        yield MISNAMED


FORMAT: Final = Format(
    name="sharegpt",
    title="ShareGPT",
    kind="chat",
    sample=SAMPLE,
    recognises=recognises,
    shape=shape,
    read=read,
    write=write,
    losses=losses.lacking(
        losses.NAMES,
        losses.IMAGES,
        losses.AUDIO,
        losses.FILES,
        losses.REFUSALS,
        losses.BESIDE_CALLS,
        losses.PARALLEL,
        more=_more,
    ),
    harmless=openai.HARMLESS,
)
