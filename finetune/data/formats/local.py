"""What the local trainer reads: messages and tools as chat templates expect them. Only written.

Arguments of calls are the object that they say, since templates loop over its keys; a text where they say none. All
contents are one text: templates of language models know no parts. A refusal is what the assistant says, and becomes
the content (behind it, after a line feed, where there is one): nothing of it gets lost, because a model that is trained
here has one channel. Templates pass over the names of speakers, and over `parallel_tool_calls`; the name in a tool's
message is the function's, and some want it.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec

from finetune.data.example import Chat, Message, Preference
from finetune.data.formats import exchanges, losses, openai
from finetune.data.formats.base import Format
from finetune.data.formats.calls import object_or_text

Row = TypeVar("Row", Chat, Preference)


def write(chat: Chat) -> dict[str, Any]:
    """The row, of a conversation without losses the whole."""
    row: dict[str, Any] = {"messages": [message(each) for each in chat.messages]}
    if chat.tools:
        row["tools"] = msgspec.to_builtins(chat.tools)
    return row


def message(each: Message) -> dict[str, Any]:
    """The message as chat templates expect it."""
    return dict(_fields(each))


def _fields(message: Message) -> Iterator[tuple[str, Any]]:
    yield "role", message.role
    said = exchanges.said(msgspec.structs.replace(message, tool_calls=None))
    # Templates tell an answer that only calls by the missing content.
    if said or not message.tool_calls:
        yield "content", said
    if message.weight is not None:
        yield "weight", message.weight
    if message.tool_calls:
        yield "tool_calls", [_call(msgspec.to_builtins(each)) for each in message.tool_calls]
    if message.tool_call_id is not None:
        yield "tool_call_id", message.tool_call_id
    if message.name is not None and message.role == "tool":
        yield "name", message.name


def _call(call: dict[str, Any]) -> dict[str, Any]:
    call["function"]["arguments"] = object_or_text(call["function"]["arguments"])
    return call


def again(raw: bytes, kind: type[Row]) -> Row:
    """What was written, for those who count its tokens: a Chat, or a Preference by its own keys."""
    row = msgspec.json.decode(raw)
    for part in row.values():
        for each in part if isinstance(part, list) else ():
            for call in each.get("tool_calls") or ():
                if not isinstance(said := call["function"]["arguments"], str):
                    call["function"]["arguments"] = msgspec.json.encode(said).decode()
    return msgspec.convert(row, kind)


FORMAT: Final = Format(
    name="local",
    title="the local trainer's rows",
    kind="chat",
    sample=openai.SAMPLE,
    recognises=openai.recognises,
    write=write,
    losses=losses.lacking(losses.NAMES, losses.IMAGES, losses.AUDIO, losses.FILES, losses.PARALLEL),
)
