"""Fireworks' conversations, as its documentation of supervised fine-tuning has them: OpenAI's, with few limits.

By these: the system message is the first; images are data: URLs of PNG or JPEG in base64. Fireworks says of itself
that files for OpenAI work unchanged, and leaves ids of calls out of its own example: they are not needed in a row that
is read, and always written. Not read is the `weight` of a whole row.

Normal form of a round trip: the conversation itself; no tools are none.
"""

import re
from typing import Any, Final

import msgspec

from finetune.data.example import Chat
from finetune.data.formats import losses, openai, trl
from finetune.data.formats.base import Format, Row
from finetune.data.formats.dialect import LACKING, Dialect


def _loosen(row: Row) -> Row:
    messages = row.get("messages")
    return {**row, "messages": trl.lift(messages)} if isinstance(messages, list) else row


DIALECT: Final = Dialect(
    title="Fireworks",
    images=re.compile(r"data:image/(png|jpe?g);base64,"),
    images_named="a data: URL of a PNG or JPEG in base64",
    elsewhere={"weight": "A weight of the whole row is not read; no other target knows it"},
    loosen=_loosen,
)


def read(row: Row) -> Chat:
    """A row without faults."""
    chat = openai.read(_loosen(row))
    return Chat(chat.messages, chat.tools or None)


def write(chat: Chat) -> dict[str, Any]:
    """The row, of a conversation without losses the whole."""
    return msgspec.to_builtins(DIALECT.reduced(chat))  # type: ignore[no-any-return]


FORMAT: Final = Format(
    name="fireworks",
    title="Fireworks conversations",
    kind="chat",
    sample=openai.SAMPLE,
    recognises=openai.recognises,
    shape=DIALECT,
    read=read,
    write=write,
    losses=losses.lacking(*LACKING, more=DIALECT.refuses),
    turns="messages",
    harmless=openai.HARMLESS,
)
