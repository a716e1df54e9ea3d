"""One training row between all layouts: what every format is read into and written from.

The layout is OpenAI's, because it can say the most; a preference and a label are named as TRL names them. Fields
that are None, and those with their default, are not there. Rows that say the same are equal.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]


class Text(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A piece of text."""

    text: str


class ImageUrl(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Where an image is: a URL, or the image itself as a data: URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class Image(Struct, tag_field="type", tag="image_url", forbid_unknown_fields=True):
    """An image that the model sees."""

    image_url: ImageUrl


class Sound(Struct, forbid_unknown_fields=True):
    """Audio in base64."""

    data: str
    format: Literal["wav", "mp3"]


class Audio(Struct, tag_field="type", tag="input_audio", forbid_unknown_fields=True):
    """Audio that the model hears."""

    input_audio: Sound


class Document(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A file: its content in base64, or the id of an uploaded one."""

    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class File(Struct, tag_field="type", tag="file", forbid_unknown_fields=True):
    """A file that the model reads."""

    file: Document


class Refusal(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """A piece of text with which the assistant refuses."""

    refusal: str


Part = Text | Image | Audio | File | Refusal


class FunctionCall(Struct, forbid_unknown_fields=True):
    """Which function is called, and with what."""

    name: str
    #: JSON as text, as the model wrote it: it need not be valid.
    arguments: str


class ToolCall(Struct, forbid_unknown_fields=True):
    """A call that the assistant makes."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Function(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A function that the assistant may call."""

    name: str
    description: str | None = None
    #: JSON Schema of the arguments.
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, forbid_unknown_fields=True):
    """A tool that the assistant may use."""

    function: Function
    type: Literal["function"] = "function"


class Message(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One turn of a conversation."""

    role: Role
    #: None only where an answer consists of tool calls or a refusal.
    content: str | list[Part] | None = None
    #: Who speaks, where several have one role.
    name: str | None = None
    #: The assistant's refusal, beside or instead of a content.
    refusal: str | None = None
    #: 0: an answer that is read and not learned.
    weight: Literal[0, 1] | None = None
    tool_calls: list[ToolCall] | None = None
    #: In a message of a tool: the call that it answers.
    tool_call_id: str | None = None


class Chat(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A conversation whose answers are learned (sft)."""

    messages: list[Message]
    tools: list[Tool] | None = None
    parallel_tool_calls: bool | None = None


class Preference(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A conversation with a better and a worse answer (dpo)."""

    prompt: list[Message]
    #: Messages of the assistant, and of tools between them; the last is the assistant's. Mostly one.
    chosen: list[Message]
    rejected: list[Message]
    tools: list[Tool] | None = None
    parallel_tool_calls: bool | None = None


class Label(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A conversation with an answer that is good or bad (kto)."""

    prompt: list[Message]
    completion: list[Message]
    label: bool
    tools: list[Tool] | None = None
    parallel_tool_calls: bool | None = None


Example = Chat | Preference | Label
Kind = Literal["chat", "preference", "label"]

KINDS: Final[dict[type[Example], Kind]] = {Chat: "chat", Preference: "preference", Label: "label"}
#: For messages.
PLURALS: Final[dict[Kind, str]] = {"chat": "chats", "preference": "preferences", "label": "labelled answers"}

# Keys of structs stand in the order of their fields above, keys of JSON Schemas are sorted.
_encoder: Final = msgspec.json.Encoder(order="deterministic")


def canonical(example: Example) -> bytes:
    """The row as JSON: UTF-8, compact, one line without its end. Equal rows give equal bytes.

    Raises UnicodeEncodeError for half of a surrogate pair, which no reader lets in.
    """
    return _encoder.encode(example)


def lists(example: Example) -> tuple[Sequence[Message], ...]:
    """The lists of messages of a row: of a chat one, of a preference prompt, chosen and rejected, of a label two."""
    if isinstance(example, Chat):
        return (example.messages,)
    if isinstance(example, Preference):
        return example.prompt, example.chosen, example.rejected
    return example.prompt, example.completion


def plain(content: str | list[Part] | None) -> str:
    """The text of a content: its text parts and refusals joined with line feeds; empty for None."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        part.text if isinstance(part, Text) else part.refusal for part in content if isinstance(part, Text | Refusal)
    )


def content_of(parts: Sequence[Part]) -> str | list[Part]:
    """Parts as a content: a text that stands alone is that text."""
    return parts[0].text if len(parts) == 1 and isinstance(parts[0], Text) else list(parts)


def texts(example: Example) -> Iterator[str]:
    """Every text in the messages of a row, the arguments of tool calls among them."""
    for messages in lists(example):
        for message in messages:
            content = message.content
            yield content if type(content) is str else plain(content)
            if message.refusal:
                yield message.refusal
            if message.tool_calls:
                yield from (call.function.arguments for call in message.tool_calls)
