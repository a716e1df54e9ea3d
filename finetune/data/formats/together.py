"""Together's conversations, as its documentation of fine-tuning and the file check of its SDK (2.3) have them.

By these: a row with an image has all its contents in parts, every other row has texts only; images are data: URLs of
PNG, JPEG or WEBP in base64, in messages of the user; arguments of a call are an object as JSON text. The check of the
SDK has since become thin (2.36 only wants JSON objects), and the server's is not published. Also read, and left out:
weight 0 on messages that are no answers, which says what holds anyway.

Normal form of a round trip: content in one text part is that text; in a row without images, text parts are joined
with line feeds; an empty content beside calls is none; no tools are none.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from finetune.data.example import Chat, FunctionCall, Image, Message, Part, Text, ToolCall, content_of, plain
from finetune.data.faults import BAD_CONTENT, BAD_TOOLS, Fault, inside
from finetune.data.formats import losses, openai
from finetune.data.formats.base import Format, Row
from finetune.data.formats.calls import NO_OBJECT, as_text, is_object, wrapped
from finetune.data.formats.dialect import LACKING, Dialect


def _loosen(row: Row) -> Row:
    if not isinstance(row.get("messages"), list):
        return row
    return {**row, "messages": [_without_idle_weight(each) for each in row["messages"]]}


def _without_idle_weight(message: Any) -> Any:
    if not isinstance(message, dict) or message.get("role") == "assistant" or type(message.get("weight")) is not int:
        return message
    return message if message["weight"] else {key: value for key, value in message.items() if key != "weight"}


def _message(message: dict[str, Any], where: str) -> Iterator[Fault]:
    calls = message.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, str) and not is_object(arguments):
            place = f"{where}.tool_calls[{position}].function.arguments"
            why = "Together refuses other arguments"
            yield Fault(BAD_TOOLS, place, f"`{place}` is no JSON object", why, "write them as JSON, or remove the row")


class _Together(Dialect):
    def __call__(self, value: Any, where: str) -> Iterator[Fault]:
        yield from super().__call__(value, where)
        messages = value.get("messages") if isinstance(value, dict) else None
        yield from _mixed(messages if isinstance(messages, list) else [], inside(where, "messages"))


def _mixed(messages: list[Any], where: str) -> Iterator[Fault]:
    """Contents are all texts, or all lists of parts with an image somewhere."""
    contents = [(position, each.get("content")) for position, each in enumerate(messages) if isinstance(each, dict)]
    parts = [content for _, content in contents if isinstance(content, list)]
    seen = any(isinstance(part, dict) and part.get("type") == "image_url" for content in parts for part in content)
    wrong, what, why = (str, "text", "has images, so all") if seen else (list, "in parts", "has no image, so none")
    for position, content in contents:
        if isinstance(content, wrong):
            place = f"{where}[{position}].content"
            yield Fault(
                BAD_CONTENT,
                place,
                f"`{place}` is {what}, and the other contents of the row are not" if seen else f"`{place}` is {what}",
                f"The row {why} of its contents stand in parts",
                'write [{"type": "text", "text": "..."}]' if seen else 'write the text itself: "content": "..."',
            )


DIALECT: Final = _Together(
    title="Together",
    images=re.compile(r"data:image/(png|jpeg|webp);base64,"),
    images_named="a data: URL of a PNG, JPEG or WEBP in base64",
    elsewhere={"weight": "A weight of the whole row is not read; no other target knows it"},
    loosen=_loosen,
    message=_message,
)


def read(row: Row) -> Chat:
    """A row without faults."""
    chat = openai.read(_loosen(row))
    return Chat([_plainer(each) for each in chat.messages], chat.tools or None)


def _plainer(message: Message) -> Message:
    content = message.content
    if isinstance(content, list):
        content = content_of(content)
    return msgspec.structs.replace(message, content=None if message.tool_calls and content == "" else content)


def write(chat: Chat) -> dict[str, Any]:
    """The row, of a conversation without losses the whole."""
    chat = DIALECT.reduced(chat)
    content = _in_parts if any(_has_image(each) for each in chat.messages) else _text
    messages = [
        msgspec.structs.replace(each, content=content(each), tool_calls=_calls(each.tool_calls))
        for each in chat.messages
    ]
    return msgspec.to_builtins(Chat(messages, chat.tools))  # type: ignore[no-any-return]


def _has_image(message: Message) -> bool:
    return isinstance(message.content, list) and any(isinstance(part, Image) for part in message.content)


def _calls(calls: list[ToolCall] | None) -> list[ToolCall] | None:
    return calls and [each if is_object(each.function.arguments) else _wrapped(each) for each in calls]


def _wrapped(call: ToolCall) -> ToolCall:
    return ToolCall(call.id, FunctionCall(call.function.name, as_text(wrapped(call.function.arguments))))


def _text(message: Message) -> str | None:
    text = plain(message.content)
    return None if message.tool_calls and not text else text


def _in_parts(message: Message) -> list[Part]:
    return message.content if isinstance(message.content, list) else [Text(message.content or "")]


def _more(chat: Chat) -> Iterator[str]:
    yield from DIALECT.refuses(chat)
    calls = (call for each in chat.messages for call in each.tool_calls or ())
    if not all(is_object(call.function.arguments) for call in calls):
        yield NO_OBJECT


FORMAT: Final = Format(
    name="together",
    title="Together conversations",
    kind="chat",
    sample=openai.SAMPLE,
    recognises=openai.recognises,
    shape=DIALECT,
    read=read,
    write=write,
    losses=losses.lacking(*LACKING, more=_more),
    turns="messages",
    harmless=openai.HARMLESS,
)
