"""Mistral's chat layout, as its documentation of fine-tuning and its own trainer (mistral-finetune) have it.

By these: an answer has either a content or tool calls; ids of calls have exactly nine letters or digits; a function
has a description and parameters, if only empty ones; an image may be a URL as text. The trainer knows weights, the
documentation of the closed service says nothing of them; they are kept. `prefix` of an answer means nothing in
training and is an unknown key. Read are also arguments of calls as an object.

Normal form of a round trip: an empty content beside calls is none; no description is an empty one, and no parameters
are `{}`; no tools are none. If an id does not fit, all ids of the row are made anew, in the order of the calls.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from finetune.data.example import Chat, Function, Message, Tool
from finetune.data.faults import BAD_CONTENT, BAD_TOOLS, Fault, inside
from finetune.data.formats import losses, openai, trl
from finetune.data.formats.base import Format, Row
from finetune.data.formats.dialect import LACKING, Dialect

_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")
SAMPLE: Final = (
    '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "tool_calls": [{"id": "TX92Jm8Zi", '
    '"type": "function", "function": {"name": "...", "arguments": "{...}"}}]}]}'
)


def _loosen(row: Row) -> Row:
    if not isinstance(row.get("messages"), list):
        return row
    return {**row, "messages": [_with_images(each) for each in trl.lift(row["messages"])]}


def _with_images(message: Any) -> Any:
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message
    return {**message, "content": [_with_url(part) for part in message["content"]]}


def _with_url(part: Any) -> Any:
    if isinstance(part, dict) and isinstance(part.get("image_url"), str):
        return {**part, "image_url": {"url": part["image_url"]}}
    return part


def _message(message: dict[str, Any], where: str) -> Iterator[Fault]:
    calls = message.get("tool_calls")
    if calls and message.get("content"):
        place = inside(where, "content")
        why = "Mistral takes either a content or tool calls in one answer"
        yield Fault(BAD_CONTENT, place, f"`{place}` stands beside tool calls", why, "remove one of them")
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            yield from _id(call.get("id"), f"{where}.tool_calls[{position}].id")
    if message.get("role") == "tool":
        yield from _id(message.get("tool_call_id"), inside(where, "tool_call_id"))


def _id(value: Any, where: str) -> Iterator[Fault]:
    if isinstance(value, str) and not _ID.fullmatch(value):
        what = f"`{where}` does not have exactly nine letters or digits"
        yield Fault(BAD_TOOLS, where, what, "Mistral refuses other ids", "make them anew, the same in both places")


def _function(function: dict[str, Any], where: str) -> Iterator[Fault]:
    for key, like in (("description", '"..."'), ("parameters", "{...}")):
        if function.get(key) is None:
            place = inside(where, key)
            why = "Mistral wants a description and parameters, if only empty ones"
            yield Fault(BAD_TOOLS, place, f"`{where}` has no `{key}`", why, f'write "{key}": {like}')


DIALECT: Final = Dialect(
    title="Mistral",
    images=re.compile(r"data:image/|https?://"),
    images_named="a data: URL of an image, or one of the web",
    loosen=_loosen,
    message=_message,
    function=_function,
)


def read(row: Row) -> Chat:
    """A row without faults."""
    chat = openai.read(_loosen(row))
    tools = [Tool(_filled(each.function, None, None)) for each in chat.tools or ()]
    return Chat([_tidied(each) for each in chat.messages], tools or None)


def write(chat: Chat) -> dict[str, Any]:
    """The row, of a conversation without losses the whole."""
    chat = DIALECT.reduced(chat)
    rename = _ids(chat)
    messages = [_written(msgspec.to_builtins(_tidied(each)), rename) for each in chat.messages]
    row: dict[str, Any] = {"messages": messages}
    if chat.tools:
        row["tools"] = msgspec.to_builtins([Tool(_filled(each.function, "", {})) for each in chat.tools])
    return row


def _tidied(message: Message) -> Message:
    return msgspec.structs.replace(message, content=None) if message.tool_calls else message


def _filled(function: Function, description: str | None, parameters: dict[str, Any] | None) -> Function:
    """The function with these in place of an empty description and empty parameters."""
    return msgspec.structs.replace(
        function,
        description=function.description or description,
        parameters=function.parameters or parameters,
    )


def _ids(chat: Chat) -> dict[str, str]:
    """New ids by old ones; empty if all fit."""
    found = [call.id for each in chat.messages for call in each.tool_calls or ()]
    if all(_ID.fullmatch(each) for each in found):
        return {}
    return {old: f"call{number:05}" for number, old in enumerate(dict.fromkeys(found), 1)}


def _written(message: dict[str, Any], rename: dict[str, str]) -> dict[str, Any]:
    for call in message.get("tool_calls", ()):
        call["id"] = rename.get(call["id"], call["id"])
    if "tool_call_id" in message:
        message["tool_call_id"] = rename.get(message["tool_call_id"], message["tool_call_id"])
    for part in message["content"] if isinstance(message.get("content"), list) else ():
        if "image_url" in part:
            part["image_url"] = part["image_url"]["url"]
    return message


FORMAT: Final = Format(
    name="mistral",
    title="Mistral chat",
    kind="chat",
    sample=SAMPLE,
    recognises=openai.recognises,
    shape=DIALECT,
    read=read,
    write=write,
    losses=losses.lacking(*LACKING, losses.BESIDE_CALLS, more=DIALECT.refuses),
    turns="messages",
    harmless=openai.HARMLESS,
)
